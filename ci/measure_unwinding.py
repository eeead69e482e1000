"""What a sample of `profile` costs by each way to walk native stacks, side by side.

    .venv/bin/python ci/measure_unwinding.py [--rounds N] [--seconds S]

Three agents, one a way, sample the same process at once, so that all meet the same stacks in the
same minute. As root, on a machine that does nothing else; three minutes. Told are ns of BPF run
time a sample, medians of rounds, and how much of frame pointers' that is with the least and the
largest of the rounds; and which share of the stacks was whole.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import makers
from bench_process import Spent, attached
from receiver import Receiver

from harness.agent.unwinding import CHOICES
from harness.linux import processes
from harness.meters.bpfstats import StatsEnabled, Watched
from harness.wire.control import Client

ROOT = Path(__file__).resolve().parents[1]
FREQUENCY = 99
# a dozen frames, the innermost reached through libc; each has something to do after its call
CHAIN = """
#include <stdlib.h>
static volatile unsigned long sink;
static int compare(const void *a, const void *b) {
    for (int i = 0; i < 2000; i++) sink = sink * 31 + i;
    return *(int *)a - *(int *)b;
}
static void recurses(int left) {
    static int numbers[64];
    if (left) recurses(left - 1);
    else {
        for (int i = 0; i < 64; i++) numbers[i] = (i * 37) % 64;
        qsort(numbers, 64, sizeof(int), compare);
    }
    sink++;
}
int main(void) { for (;;) { recurses(8); sink++; } }
"""
PYTHON = """
def burns(left):
    return burns(left - 1) if left else sum(i * i for i in range(2000))
while True:
    burns(8)
"""
OPTIONS = ("-O2", "-fno-inline", "-fno-optimize-sibling-calls")


@dataclass(frozen=True)
class Figures:
    """Of one way in one round."""

    ns: float
    whole: float


def main() -> int:
    """Measure each program in turn, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="each round")
    options = parser.parse_args()
    makers.end_in_order()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(StatsEnabled())
        receiver = Receiver()
        stack.callback(receiver.away)
        print("\n".join(_table(list(_programs(folder)), receiver.url, options)))
    return 0


def _programs(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What is sampled: its name, and its command."""
    (folder / "chain.c").write_text(CHAIN)
    for name, how in (("without", "-fomit-frame-pointer"), ("with", "-fno-omit-frame-pointer")):
        argv = ["clang", *OPTIONS, how, "-o", str(folder / name), str(folder / "chain.c")]
        processes.run(argv)
        yield f"C {name} frame pointers", [str(folder / name)]
    yield "CPython", ["/usr/bin/python3", "-c", PYTHON]


def _table(
    programs: Sequence[tuple[str, list[str]]], url: str, options: argparse.Namespace
) -> Iterator[str]:
    yield f"| ns a sample, and how many of the stacks were whole | {' | '.join(CHOICES)} |"
    yield "| --- |" + " --- |" * len(CHOICES)
    for name, argv in programs:
        rounds = list(_rounds(argv, url, options))
        yield f"| {name} | {' | '.join(_cell(rounds, by) for by in CHOICES)} |"


def _cell(rounds: Sequence[dict[str, Figures]], by: str) -> str:
    ns = f"{statistics.median(each[by].ns for each in rounds):,.0f}"
    if by == CHOICES[0]:
        return ns
    times = sorted(each[by].ns / each[CHOICES[0]].ns for each in rounds)
    ratio = f"{statistics.median(times):.2f} times [{times[0]:.2f} to {times[-1]:.2f}]"
    return f"{ns}: {ratio}, {statistics.median(each[by].whole for each in rounds):.0%}"


def _rounds(argv: list[str], url: str, options: argparse.Namespace) -> Iterator[dict[str, Figures]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = stack.enter_context(makers.place("unwinding"))
        process = processes.spawn(argv, log=folder / "sampled.log", cgroup=place)
        stack.callback(processes.stop, process)
        agents = {by: _start(stack, by, place, url, folder) for by in CHOICES}
        time.sleep(1.0)  # tables are made
        for _ in range(options.rounds):
            before = {by: client.call("stats") for by, (_, _, client) in agents.items()}
            spent = {by: Spent(agent, watched) for by, (agent, watched, _) in agents.items()}
            time.sleep(options.seconds)
            took = {by: each.till_now() for by, each in spent.items()}
            after = {by: client.call("stats") for by, (_, _, client) in agents.items()}
            yield {by: _figures(before[by], after[by], took[by].ran_ns) for by in CHOICES}


def _start(
    stack: ExitStack, by: str, place: Path, url: str, folder: Path
) -> tuple[processes.Process, Watched, Client]:
    socket = folder / f"{by}.sock"
    argv = [sys.executable, "-m", "harness.agent", "profile", "--frequency", str(FREQUENCY)]
    argv += ["--unwind", by, "--cgroup", str(place), "--otlp", url, "--control", str(socket)]
    process = processes.spawn(argv, log=folder / f"{by}.log", cwd=ROOT)
    stack.callback(processes.stop, process)
    ready = processes.announced(process, 60)
    assert ready is not None, (folder / f"{by}.log").read_text()
    assert ready["ready"], ready
    client = stack.enter_context(closing(Client(socket)))
    watched = stack.enter_context(closing(Watched(attached(process))))
    return process, watched, client


def _figures(before: dict[str, Any], after: dict[str, Any], ran_ns: float) -> Figures:
    events = after["events"] - before["events"]
    whole = after.get("unwind_whole", 0) - before.get("unwind_whole", 0)
    return Figures(ran_ns / events, whole / events)


if __name__ == "__main__":
    sys.exit(main())
