"""`profile` on the real kernel: who is seen, how often, by which name, and who is not."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from tests.bpf.openers import stopped
from tests.bpf.profiled import by_executable, compiled, folded, has_its_share, sample, stacks
from tests.waiting import until

pytestmark = pytest.mark.bpf

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
    return compiled(tmp_path_factory.mktemp("busy"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "pprof"
    directory.mkdir()
    return directory


def cpu_seconds(cgroup: Path) -> float:
    return int((cgroup / "cpu.stat").read_text().split()[1]) / 1e6


def test_native_functions_have_their_share(
    service: Any, start_agent: Callable[..., Any], receiver: Any, busy: Path, output: Path
) -> None:
    process = service.start(str(busy))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    stats = sample(agent, 400)
    assert {each.pid for each in stacks(output)} == {process.pid}
    assert {each.labels for each in stacks(output)} == {()}
    named = folded(output, process.pid)
    assert sum(named.values()) == stats["events"]
    assert any("main;hot;work" in stack for stack in named)
    assert has_its_share(named, "hot", "cold")
    assert by_executable(receiver) == {"busy": stats["events"]}
    assert stats["lost"] == 0
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
    named = folded(output, *pids)
    chain = "main (program.py:10);hot (program.py:5);work (program.py:2)"
    assert any(chain in stack for stack in named)
    assert any("Köln.cold (program.py:8);work" in stack for stack in named)
    assert has_its_share(named, "hot (program.py:5)", "Köln.cold (program.py:8)")
    agent.call("on")
    assert any(hook.startswith("python/3.") for hook in agent.ready["hooks"])


def test_samples_count_cpu_time(
    service: Any, start_agent: Callable[..., Any], busy: Path, output: Path
) -> None:
    process = service.start(str(busy))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output), "--off")
    with stopped(process.pid):
        before = cpu_seconds(service.path)
        agent.call("on")
    assert until(lambda: agent.call("stats")["events"] >= 400), "it was not sampled"
    with stopped(process.pid):
        taken = cpu_seconds(service.path) - before
        agent.call("off")
        events = agent.call("flush")["events"]
    expected = 99 * taken
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
    process_pids = {each.pid for each in stacks(output)}
    assert process_pids <= {each.pid for each in service.started}
    assert stats["events"] <= 1  # sleep itself, should a sample meet its start


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
