"""`profile` walks code without frame pointers by .eh_frame: chains that are known are whole."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from tests.bpf.profiled import folded, sample

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="tables are for x86_64"),
]

# each has something to do after its call, which is therefore no jump
LIBRARY = """
#include <stdlib.h>
volatile unsigned long sink;
int compare(const void *a, const void *b) {
    for (int i = 0; i < 2000; i++) sink = sink * 31 + i;
    return (*(int *)a > *(int *)b) - (*(int *)a < *(int *)b) + (sink == 1);
}
void in_library(int *numbers, int count) {
    qsort(numbers, count, sizeof(int), compare);
    sink++;
}
"""
PROGRAM = """
extern volatile unsigned long sink;
void in_library(int *, int);
static int numbers[64];
__attribute__((noinline)) void sorts(void) {
    for (int i = 0; i < 64; i++) numbers[i] = (i * 37) % 64;
    in_library(numbers, 64);
    sink++;
}
__attribute__((noinline)) void recurses(int left) {
    volatile char room[40 + 8 * 0];
    room[0] = left;
    if (left) recurses(left - 1); else sorts();
    sink += room[0];
}
__attribute__((noinline)) void begins(void) { recurses(5); sink++; }
int main(void) { for (;;) begins(); }
"""
CHAIN = ["main", "begins", *6 * ["recurses"], "sorts", "in_library", "compare"]
OPTIONS = ("-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-inline")


def built(directory: Path, *linked: str) -> Path:
    (directory / "library.c").write_text(LIBRARY)
    (directory / "program.c").write_text(PROGRAM)
    library, program = directory / "libsorting.so", directory / "program"
    compiler = ["clang", *OPTIONS]
    processes.run([*compiler, "-fPIC", "-shared", "-o", str(library), "library.c"], cwd=directory)
    processes.run(
        [*compiler, *linked, "-o", str(program), "program.c", str(library)], cwd=directory
    )
    return program


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "pprof"
    directory.mkdir()
    return directory


def whole(named: dict[str, int]) -> float:
    """The share of stacks in which the chain is, whatever libc has between."""
    own = set(CHAIN)
    found = sum(n for s, n in named.items() if [f for f in s.split(";") if f in own] == CHAIN)
    return found / sum(named.values())


@pytest.mark.parametrize("linked", [("-fPIE", "-pie"), ("-fno-pie", "-no-pie")], ids=["pie", "no"])
def test_a_chain_through_a_library_and_libc_is_whole(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path, linked: Any
) -> None:
    process = service.start(str(built(tmp_path, *linked)))
    agent = start_agent(
        "profile", "--frequency", "99", "--pprof", str(output), "--unwind", "eh_frame"
    )
    stats = sample(agent, 200)
    assert stats["lost"] == 0
    assert stats["unwind_whole"] > 0.95 * stats["events"]
    assert whole(folded(output, process.pid)) > 0.9
    assert stats["unwind_files"] >= 3
    assert 0 < stats["unwind_bytes"] == 8 * stats["unwind_rows"]


def test_by_frame_pointers_it_is_not(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path
) -> None:
    process = service.start(str(built(tmp_path)))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    stats = sample(agent, 200)
    assert not [name for name in stats if name.startswith("unwind_")]
    assert [each["name"] for each in stats["programs"]] == ["profile"]
    assert whole(folded(output, process.pid)) < 0.1
