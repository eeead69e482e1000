"""Programs that burn time in known functions, and what `profile` wrote of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from harness.agent import pprof
from harness.linux import processes
from harness.node import symbols
from harness.report import flamegraph
from tests.waiting import until

# 80 % of its work is in hot; given a number of rounds it ends after them, and after a pause
C_PROGRAM = """
#include <stdlib.h>
#include <unistd.h>
static volatile unsigned long sink;
__attribute__((noinline)) void work(long n) { while (n--) sink = sink * 31 + n; }
__attribute__((noinline)) void hot(void) { work(400000); sink++; }
__attribute__((noinline)) void cold(void) { work(100000); sink++; }
int main(int argc, char **argv) {
    for (long i = argc > 1 ? atol(argv[1]) : -1; i; i--) { hot(); cold(); }
    if (argc > 2) sleep(atoi(argv[2]));
}
"""


def compiled(directory: Path) -> Path:
    """The program of C_PROGRAM."""
    (directory / "busy.c").write_text(C_PROGRAM)
    processes.run(
        ["clang", "-O1", "-fno-omit-frame-pointer", "-o", "busy", "busy.c"], cwd=directory
    )
    return directory / "busy"


def sample(agent: Any, wanted: int) -> dict[str, Any]:
    """Wait until so many samples were taken, then have all of them written."""
    assert until(lambda: agent.call("stats")["events"] >= wanted, 120), "it was not sampled"
    agent.call("off")
    return dict(agent.call("flush"))


def stacks(output: Path) -> Iterator[pprof.Stack]:
    """The samples of all files that the agent wrote."""
    for path in output.glob("profile-*.pb.gz"):
        yield from pprof.stacks(pprof.read(path))


def by_container(output: Path) -> dict[str, list[pprof.Stack]]:
    """The samples of all files, by the container that they are of; empty: of none."""
    found: dict[str, list[pprof.Stack]] = {}
    for each in stacks(output):
        found.setdefault(dict(each.labels).get("container.id", ""), []).append(each)
    return found


def folded(output: Path, *pids: int) -> dict[str, int]:
    """The folded stacks, named by these processes and by files."""
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    symbols.symbolize(output, pids)
    return flamegraph.read(output / "profile.folded")


def has_its_share(named: dict[str, int], function: str, other: str) -> bool:
    """Whether it has 80 % of what both have; of a million runs one is called wrong."""
    counts = [
        sum(n for stack, n in named.items() if any(f.startswith(name) for f in stack.split(";")))
        for name in (function, other)
    ]
    return bool(binomtest(counts[0], sum(counts), 0.8).pvalue > 1e-6)


def executable(program: str | Path) -> str:
    """What `profile.samples` calls the samples of a program."""
    return os.path.basename(os.path.realpath(program))


def by_executable(receiver: Any, name: str = "profile.samples") -> dict[Any, int]:
    """The samples told, by what tells the series apart."""
    return {
        next(iter(receiver.attributes(point).values())): point.as_int
        for point in receiver.points(name)
    }
