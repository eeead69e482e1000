"""What the included agents take: a process for each collector against one for all, side by side.

    .venv/bin/python ci/measure_agents.py [--against CHECKOUT] [--output FILE.md]

All four collectors trace one service in each row, in as many processes or in one. CHECKOUT is
another checkout with its .venv and bpf/ built, as of before a change: its row is measured in the
same rounds. As root, on a machine that does nothing else; five minutes. Figures are medians of
rounds; those of two machines are not to be compared, their ratios are.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.linux import cgroup, mount, processes
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
        rows.insert(0, Row("a process each, before", options.against, rows[0].groups))
    found: dict[str, list[Figures]] = defaultdict(list)
    with _service() as (place, port), _receiver() as url:
        for number in range(options.rounds):
            for row in rows[:: 1 if number % 2 else -1]:
                print(f"round {number + 1}: {row.name}", file=sys.stderr)
                found[row.name].append(_measured(row, place, port, url, options))
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
    parser.add_argument("--output", type=Path, help="write the table there, too")
    return parser.parse_args()


@contextmanager
def _service() -> Iterator[tuple[Path, int]]:
    """The Go service that ships, in a cgroup of its own."""
    mounted = mount.find("cgroup2")
    assert mounted is not None, "cgroup v2 is needed"
    place = mounted / f"harness-agents-{os.getpid()}"
    cgroup.create(place)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(cgroup.remove, place)
        argv = [str(ROOT / "workloads/go/.output/server"), "--host", "127.0.0.1", "--port", "0"]
        process = processes.spawn(argv, log=Path(folder, "log"), cgroup=place)
        stack.callback(processes.stop, process)
        told = processes.announced(process, 30)
        assert told is not None, Path(folder, "log").read_text()
        yield place, int(told["port"])


@contextmanager
def _receiver() -> Iterator[str]:
    """Takes everything and looks at nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _measured(row: Row, place: Path, port: int, url: str, options: argparse.Namespace) -> Figures:
    """Memory in MB, CPU in ms a second: without a request, and under load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pids = [_start(stack, row, group, place, url, folder) for group in row.groups]
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
    stack: ExitStack, row: Row, group: Sequence[str], place: Path, url: str, folder: Path
) -> int:
    name = "+".join(group)
    socket = folder / ("{name}.sock" if len(group) > 1 else f"{name}.sock")
    argv = [str(row.root / ".venv/bin/python"), "-m", "harness.agent", name]
    argv += ["--cgroup", str(place), "--otlp", url, "--control", str(socket)]
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
    began, before = time.monotonic(), _ran(pids)
    time.sleep(seconds)
    return (_ran(pids) - before) / 1e6 / (time.monotonic() - began)


def _ran(pids: Sequence[int]) -> int:
    """Nanoseconds."""
    spent, children = 0, []
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it has ended
                spent += int((task / "schedstat").read_text().split()[0])
                children += [int(each) for each in (task / "children").read_text().split()]
    return spent + (_ran(children) if children else 0)


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
    yield f"All of {', '.join(COLLECTORS)}; {options.rate:g} requests a second, a span of each."
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
