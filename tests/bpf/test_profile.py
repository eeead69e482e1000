"""`profile` on the real kernel: who is seen, how often, by which name, and who is not."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from harness.agent import pprof
from harness.linux import processes
from harness.node import symbols
from harness.report import flamegraph

pytestmark = pytest.mark.bpf

# 80 % of its work is in hot; given a number of rounds it ends after them
C_PROGRAM = """
#include <stdlib.h>
static volatile unsigned long sink;
__attribute__((noinline)) void work(long n) { while (n--) sink = sink * 31 + n; }
__attribute__((noinline)) void hot(void) { work(400000); sink++; }
__attribute__((noinline)) void cold(void) { work(100000); sink++; }
int main(int argc, char **argv) {
    for (long i = argc > 1 ? atol(argv[1]) : -1; i; i--) { hot(); cold(); }
}
"""
ROUNDS = 1000  # about a second of CPU time

PYTHON_PROGRAM = """import os, threading
def work(n):
    while n:
        n -= 1
def hot():
    work(8000)
class Köln:
    def cold(self):
        work(2000)
def main():
    while True:
        hot()
        Köln().cold()
if os.fork() == 0:
    threading.Thread(target=main).start()
else:
    os.wait()
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("busy")
    (directory / "busy.c").write_text(C_PROGRAM)
    processes.run(
        ["clang", "-O1", "-fno-omit-frame-pointer", "-o", "busy", "busy.c"], cwd=directory
    )
    return directory / "busy"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "pprof"
    directory.mkdir()
    return directory


def sample(agent: Any, wanted: int) -> dict[str, Any]:
    """Wait until so many samples were taken, then have all of them written."""
    deadline = time.monotonic() + 120
    while agent.call("stats")["events"] < wanted:
        assert time.monotonic() < deadline, "the cgroup was not sampled"
        time.sleep(0.1)
    agent.call("off")
    return dict(agent.call("flush"))


def folded(output: Path, *pids: int) -> dict[str, int]:
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    symbols.symbolize(output, pids)
    return flamegraph.read(output / "profile.folded")


def share(stacks: dict[str, int], function: str, other: str) -> Any:
    """Test that `function` has 80 % of what it and `other` have; false once in 10,000 runs."""
    counts = [
        sum(n for stack, n in stacks.items() if any(f.startswith(name) for f in stack.split(";")))
        for name in (function, other)
    ]
    return binomtest(counts[0], sum(counts), 0.8)


def cpu_seconds(cgroup: Path) -> float:
    return int((cgroup / "cpu.stat").read_text().split()[1]) / 1e6


def test_native_functions_have_their_share(
    service: Any, start_agent: Callable[..., Any], receiver: Any, busy: Path, output: Path
) -> None:
    process = service.start(str(busy))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    stats = sample(agent, 400)
    stacks = folded(output, process.pid)
    assert stats["lost"] == 0
    assert sum(stacks.values()) == stats["events"]
    assert any("main;hot;work" in stack for stack in stacks)
    assert share(stacks, "hot", "cold").pvalue > 1e-4
    (point,) = receiver.points("profile.samples")
    assert point.as_int == stats["events"]
    assert receiver.attributes(point) == {"process.pid": process.pid}
    assert sorted(path.name for path in output.iterdir()) == ["profile.folded", "profile.pb.gz"]


def test_python_functions_are_named(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PYTHON_PROGRAM)
    service.start("/usr/bin/python3", str(program))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    sample(agent, 400)
    pids = [int(pid) for pid in (service.path / "cgroup.procs").read_text().split()]
    stacks = folded(output, *pids)
    chain = "main (program.py:10);hot (program.py:5);work (program.py:2)"
    assert any(chain in stack for stack in stacks)
    assert any("Köln.cold (program.py:8);work" in stack for stack in stacks)
    assert share(stacks, "hot (program.py:5)", "Köln.cold (program.py:8)").pvalue > 1e-4
    agent.call("on")
    assert any(hook.startswith("python/3.") for hook in agent.ready["hooks"])


def test_samples_count_cpu_time(
    service: Any, start_agent: Callable[..., Any], busy: Path, output: Path
) -> None:
    service.start(str(busy))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output), "--off")
    before = cpu_seconds(service.path)
    agent.call("on")
    events = sample(agent, 400)["events"]
    expected = 99 * (cpu_seconds(service.path) - before)
    # a virtual CPU that does not run misses samples, while its time may be counted: 10 %
    assert abs(events - expected) < 4 * math.sqrt(expected) + 0.1 * expected


def test_other_cgroups_are_not_sampled(
    service: Any,
    make_service: Callable[[str], Any],
    start_agent: Callable[..., Any],
    busy: Path,
    output: Path,
) -> None:
    service.start("sleep", "1000")
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    assert make_service("other").start(str(busy), str(ROUNDS)).wait(120) == 0
    stats = agent.call("flush")
    process_pids = {each.pid for path in output.iterdir() for each in stacks_of(path)}
    assert process_pids <= {each.pid for each in service.started}
    assert stats["events"] <= 1  # sleep itself, should a sample meet its start


def stacks_of(path: Path) -> list[pprof.Stack]:
    return list(pprof.stacks(pprof.read(path)))


def test_off_takes_no_samples(
    service: Any, start_agent: Callable[..., Any], busy: Path, output: Path
) -> None:
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output), "--off")
    assert service.start(str(busy), str(ROUNDS)).wait(120) == 0
    assert agent.call("flush")["events"] == 0
    assert list(output.iterdir()) == []
    for _ in range(3):
        agent.call("on")
        agent.call("on")
        agent.call("off")
        agent.call("off")
    agent.call("on")
    service.start(str(busy))
    seen = sample(agent, 20)["events"]
    assert service.start(str(busy), str(ROUNDS)).wait(120) == 0
    assert agent.call("stats")["events"] == seen


def test_it_stays_small(
    service: Any, start_agent: Callable[..., Any], busy: Path, output: Path
) -> None:
    service.start(str(busy))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    sample(agent, 100)
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
    pss = next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
    assert int(pss) < 50 * 1024


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go_tool_pprof_reads_it(
    service: Any, start_agent: Callable[..., Any], busy: Path, output: Path
) -> None:
    process = service.start(str(busy))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    sample(agent, 100)
    folded(output, process.pid)
    home = {"PPROF_TMPDIR": str(output)}
    top = processes.run(
        ["go", "tool", "pprof", "-top", str(output / "profile.pb.gz")], env=home, timeout=300
    )
    first = top.stdout.split("flat%", 1)[1].splitlines()[1].split()
    assert first[-1] == "work"
    assert float(first[1].rstrip("%")) > 90


def test_options_that_cannot_be(
    service: Any, launch: Callable[..., Any], receiver: Any, tmp_path: Path
) -> None:
    for options in (["--frequency", "0"], ["--pprof", str(tmp_path / "missing")]):
        process, ready = launch(
            tmp_path / "log", "profile", tmp_path / "s", service.path, receiver.url, *options
        )
        assert processes.stop(process) == 2
        assert ready["ready"] is False
        assert options[0] in ready["what"]
    assert os.listdir(service.path)  # nothing to clean: the agent made nothing
