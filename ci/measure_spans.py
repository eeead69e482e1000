"""What a span takes an agent, in C and in Python side by side, and whether one is lost unsaid.

    .venv/bin/python ci/measure_spans.py [--against CHECKOUT] [--output FILE.md]

A BPF program puts records of `http` into the ring buffer of an agent that runs, so many a second
and with the wake-ups of requests (span_filler.bpf.c). The agent takes, encodes and sends them as
ever, to a receiver that counts. What it takes idle is not counted. CHECKOUT is another checkout
with its .venv and bpf/ built: its row is measured in the same rounds. As root, on a machine that
does nothing else. Times are medians of rounds, numbers their sums; those of two machines are not
to be compared, their ratios are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import makers
from bench_process import cpu_ns_of
from receiver import Receiver
from span_filler import filler

from harness.linux import processes
from harness.meters import memory
from harness.wire.control import Client

ROOT = Path(__file__).resolve().parents[1]
SETTLE_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MEDIANS = ("us of user mode a span", "us of CPU a span", "PSS, MB")  # of the rest, sums
Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """A checkout's agent; `in_python` takes the library away from it."""

    name: str
    root: Path
    in_python: bool = False


def main() -> int:
    """Measure in turn, and print the table; 1 if a span was lost and nothing said so."""
    options = _options()
    rows = [Row("Python", ROOT, in_python=True), Row("C", ROOT)]
    if options.against:
        rows.insert(0, Row("before", options.against))
    found: dict[str, list[Figures]] = defaultdict(list)
    makers.end_in_order()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        place = stack.enter_context(makers.place("spans"))
        receiver = Receiver()
        stack.callback(receiver.away)
        for number in range(options.rounds):
            for row in rows[:: 1 if number % 2 == 0 else -1]:
                print(f"round {number + 1}: {row.name}", file=sys.stderr)
                found[row.name].append(_measured(row, place, receiver, options))
    text = "\n".join(table({row.name: found[row.name] for row in rows}, options.rate, load))
    print(text)
    if options.output:
        options.output.write_text(text + "\n")
    return int(any(each["lost, unsaid"] for rounds in found.values() for each in rounds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--against", type=Path, help="another checkout, with .venv and bpf built")
    parser.add_argument("--rate", type=float, default=20_000.0, help="spans a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="each stretch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ring-kib", default="256", help="size of the agent's ring buffer")
    parser.add_argument("--output", type=Path, help="write the table there, too")
    return parser.parse_args()


def _measured(row: Row, place: Path, to: Receiver, options: argparse.Namespace) -> Figures:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        process = _started(row, place, to.url, folder, options.ring_kib)
        stack.callback(processes.stop, process)
        ready = processes.announced(process, 60)
        assert ready is not None, (folder / "log").read_text()
        assert ready["ready"], ready
        client = stack.enter_context(closing(Client(folder / "socket")))
        spans = stack.enter_context(filler(process.pid, folder / "filler"))
        time.sleep(SETTLE_SECONDS)
        idle = _taken(process.pid)
        time.sleep(options.seconds)
        before, received = _taken(process.pid), to.spans
        spans.fill(options.rate, options.seconds)
        told = client.call("flush")
        after = _taken(process.pid)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while to.spans - received < told["spans"] and time.monotonic() < deadline:
            time.sleep(0.05)  # it counts after it has answered
        dropped = sum(told["dropped"].get("spans", {}).values())
        user, cpu = (
            (busy - rest - (rest - start)) / max(1, spans.made) / 1000
            for start, rest, busy in zip(idle, before, after, strict=True)
        )
        return {
            _MEDIANS[0]: user,
            _MEDIANS[1]: cpu,
            _MEDIANS[2]: memory.pss_bytes([process.pid]) / 1e6,
            "spans": spans.made + spans.full,
            "lost: ring full": spans.full,
            "lost: dropped": dropped,
            "lost, unsaid": spans.made - (to.spans - received) - dropped - told["waiting"],
        }


def _started(row: Row, place: Path, url: str, folder: Path, ring_kib: str) -> processes.Process:
    objects = row.root / "bpf" / ".output"
    if row.in_python:
        shutil.copytree(objects, folder / "objects", ignore=shutil.ignore_patterns("*.so*"))
        objects = folder / "objects"
    argv = [str(row.root / ".venv/bin/python"), "-m", "harness.agent", "http"]
    argv += ["--cgroup", str(place), "--otlp", url, "--control", str(folder / "socket")]
    argv += ["--sample", "1", "--bpf", str(objects), "--ring-kib", ring_kib]
    return processes.spawn(argv, log=folder / "log", cwd=row.root)


def _taken(pid: int) -> tuple[int, int]:
    """ns in user mode, in ticks that the kernel divides by what it sampled, and ns of CPU."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[11]) * 10**9 // _TICKS, cpu_ns_of(pid)


def table(found: dict[str, Sequence[Figures]], rate: float, load: float) -> Iterator[str]:
    """Each figure, and the ratio of those that are medians to the first row's."""
    first, *_ = found.values()
    names = list(first[0])
    yield f"{rate:g} spans a second; the load of the machine was {load:.1f} before."
    yield ""
    yield f"| spans are made by | {' | '.join(names)} |"
    yield "| --- |" + " --- |" * len(names)
    for name, rounds in found.items():
        cells = []
        for of in names:
            values, base = [each[of] for each in rounds], statistics.median(e[of] for e in first)
            if of not in _MEDIANS:
                cells.append(f"{sum(values):.0f}")
                continue
            value = statistics.median(values)
            ratio = f" ({value / base:.2f})" if rounds is not first and base else ""
            cells.append(f"{value:.2f}{ratio}")
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
