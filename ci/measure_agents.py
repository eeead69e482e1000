"""What the included agents take: a process for each collector against one for all, side by side.

    .venv/bin/python ci/measure_agents.py [--against CHECKOUT] [--output FILE.md]

All four collectors trace one service in each row, in as many processes or in one. CHECKOUT is
another checkout with its .venv and bpf/ built, as of before a change: its rows are measured in the
same rounds. As root, on a machine that does nothing else; five minutes, or ten. Figures are medians
of rounds; those of two machines are not to be compared, their ratios are. With a short `--interval`
idle CPU is what exports take that find everything warm: the rest is what a second's rest costs.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import makers
from bench_process import cpu_ns_of
from receiver import Receiver

from harness.linux import cpu_idle, processes
from harness.meters import memory
from harness.wire.control import Client

ROOT = Path(__file__).resolve().parents[1]
COLLECTORS = ("http", "flows", "profile", "guard")
SETTLE_SECONDS = 4.0  # an export of metrics, and what starting left to be done
Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A checkout's agents: the collectors of each process."""

    name: str
    root: Path
    groups: tuple[tuple[str, ...], ...]


def main() -> int:
    """Measure in turn, and print the table."""
    options = _options()
    rows = [
        Row("a process each", ROOT, tuple((name,) for name in COLLECTORS)),
        Row("one process", ROOT, (COLLECTORS,)),
    ]
    if options.against:
        before = [replace(row, name=f"{row.name}, before") for row in rows]
        rows = [*(replace(row, root=options.against) for row in before), *rows]
    found: dict[str, list[Figures]] = defaultdict(list)
    makers.end_in_order()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options.polling = stack.enter_context(cpu_idle.polling())
        place = stack.enter_context(makers.place("agents"))
        _, port = stack.enter_context(makers.service(place, folder))
        receiver = Receiver()
        stack.callback(receiver.away)
        for number in range(options.rounds):
            for row in rows[:: 1 if number % 2 else -1]:
                print(f"round {number + 1}: {row.name}", file=sys.stderr)
                found[row.name].append(_measured(row, place, port, receiver.url, options))
    text = "\n".join(_table({name: found[name] for name in (row.name for row in rows)}, options))
    print(text)
    if options.output:
        options.output.write_text(text + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--against", type=Path, help="another checkout, with .venv and bpf built")
    parser.add_argument("--seconds", type=float, default=15.0, help="each stretch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second, all spans")
    parser.add_argument("--interval", default="1", help="seconds between exports")
    parser.add_argument("--output", type=Path, help="write the table there, too")
    return parser.parse_args()


def _measured(row: Row, place: Path, port: int, url: str, options: argparse.Namespace) -> Figures:
    """Memory in MB, CPU in ms a second: without a request, and under load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pids = [
            _start(stack, row, group, place, url, folder, options.interval) for group in row.groups
        ]
        idle = _cpu(pids, options.seconds)
        with _load(port, options.rate):
            busy = _cpu(pids, options.seconds)
        return {
            "PSS, MB": memory.pss_bytes(pids) / 1e6,
            "idle, ms/s": idle,
            "busy, ms/s": busy,
            "a request, us": (busy - idle) * 1000 / options.rate,
        }


def _start(
    stack: ExitStack,
    row: Row,
    group: Sequence[str],
    place: Path,
    url: str,
    folder: Path,
    interval: str,
) -> int:
    name = "+".join(group)
    socket = folder / ("{name}.sock" if len(group) > 1 else f"{name}.sock")
    argv = [str(row.root / ".venv/bin/python"), "-m", "harness.agent", name]
    argv += ["--cgroup", str(place), "--otlp", url, "--control", str(socket)]
    argv += ["--interval", interval]
    argv += ["--sample", "1"] if "http" in group else []
    process = processes.spawn(argv, log=folder / f"{name}.log", cwd=row.root)
    stack.callback(processes.stop, process)
    ready = processes.announced(process, 60)
    assert ready is not None, (folder / f"{name}.log").read_text()
    assert ready["ready"], ready
    for each in group:
        client = Client(folder / f"{each}.sock")
        stack.enter_context(closing(client))
    return process.pid


def _cpu(pids: Sequence[int], seconds: float) -> float:
    """ms a second of all threads of these processes, and of their children."""
    time.sleep(SETTLE_SECONDS)
    began, before = time.monotonic(), sum(map(cpu_ns_of, pids))
    time.sleep(seconds)
    return (sum(map(cpu_ns_of, pids)) - before) / 1e6 / (time.monotonic() - began)


@contextmanager
def _load(port: int, rate: float) -> Iterator[None]:
    """So many requests a second over one connection."""
    ended = threading.Event()

    def ask() -> None:
        due = time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            while not ended.is_set():
                connection.request("GET", "/")
                connection.getresponse().read()
                due += 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _table(found: dict[str, list[Figures]], options: argparse.Namespace) -> Iterator[str]:
    """Each figure, and its ratio to the first row's."""
    first, *_ = found.values()
    names = list(first[0])
    yield f"All of {', '.join(COLLECTORS)}; {options.rate:g} requests a second, a span of each;"
    yield f"idle CPUs {'polled' if options.polling else 'halted'}."
    yield ""
    yield f"| agents | {' | '.join(names)} |"
    yield "| --- |" + " --- |" * len(names)
    for name, rounds in found.items():
        cells = []
        for of in names:
            value, base = (statistics.median(each[of] for each in some) for some in (rounds, first))
            ratio = f" ({value / base:.2f})" if rounds is not first and base else ""
            cells.append(f"{value:.1f}{ratio}")
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
