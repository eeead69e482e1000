"""Whoever is killed, in whatever phase: a block is lost at most, and nothing is left behind.

HARNESS_KILLS=50 repeats each kill so often.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.linux import cgroup, mount, processes
from harness.linux.procfs import HOST
from harness.node import machine

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
TIMES = int(os.environ.get("HARNESS_KILLS", "1"))
SMALL = """
workloads = ["plain"]
blocks = 2
warmup_seconds = 0.3
warmup_limit_seconds = 1.5
settle_seconds = 0.2
switched_seconds = 1.2
steady_seconds = 0.5
metered_seconds = 0.3
calibration_seconds = 0.5
replacements = 0
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
"""
PHASES = ("starting the service", "finding its capacity", "warming up", "(switched)", "(metered)")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = _traces()
    yield
    assert machine.leftovers() == []
    assert _traces() - before == set()


def _traces() -> set[str]:
    """Our cgroups, folders and BPF programs, and the processes in those cgroups."""
    root = mount.find("cgroup2")
    groups = {str(path) for path in root.glob("harness/*")} if root is not None else set()
    folders = {str(path) for path in Path("/var/tmp").glob("harness-*")}
    folders |= {str(path) for path in Path("/run/harness").glob("*")}
    told = json.loads(processes.run(["bpftool", "prog", "list", "-j"]).stdout or "[]")
    return groups | folders | {f"program {each['id']} {each.get('name')}" for each in told}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "r"


@pytest.fixture
def evaluation(tmp_path: Path, run: Path) -> Iterator[processes.Process]:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    argv = [sys.executable, "-m", "harness", "evaluate", str(path), "--reports", str(tmp_path)]
    process = processes.spawn([*argv, "--run", run.name], log=tmp_path / "log", cwd=ROOT)
    yield process
    processes.stop(process)


def _await(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def _node(controller: int) -> int:
    """The node process of an evaluation."""
    nodes = [pid for pid in HOST.family(controller) if HOST.argv(pid)[-1:] == ["harness.node"]]
    return min(nodes)


def _reach(tmp_path: Path, phase: str) -> None:
    log = tmp_path / "log"
    _await(lambda: phase in log.read_text(), f"the phase {phase!r}")


@pytest.mark.parametrize("_time", range(TIMES))
@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_controller_s_node_undoes_everything_by_itself(
    evaluation: processes.Process, tmp_path: Path, phase: str, _time: int
) -> None:
    _reach(tmp_path, phase)
    node = _node(evaluation.pid)
    os.kill(evaluation.pid, signal.SIGKILL)
    evaluation.wait()
    _await(lambda: HOST.started(node) is None, "the end of the node")
    assert machine.leftovers() == []


@pytest.mark.parametrize("_time", range(TIMES))
@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_node_costs_a_block_and_the_next_one_cleans_up(
    evaluation: processes.Process, tmp_path: Path, run: Path, phase: str, _time: int
) -> None:
    _reach(tmp_path, phase)
    os.kill(_node(evaluation.pid), signal.SIGKILL)
    assert evaluation.wait(90) == 2, (tmp_path / "log").read_text()
    told = (tmp_path / "log").read_text()
    assert "The node process was lost" in told
    found = {path.parent.name: json.loads(path.read_text()) for path in
             run.glob("trials/*/trial.json")}  # fmt: skip
    second = [each["status"] for name, each in found.items() if "-b1-" in name]
    assert second == ["ok"] * 3, told  # the block after the one that was lost
    assert not json.loads((run / "run.json").read_text())["complete"]


def test_controller_and_node_killed_together_leave_it_to_clean(
    evaluation: processes.Process, tmp_path: Path
) -> None:
    _reach(tmp_path, "(switched)")
    node = _node(evaluation.pid)
    for pid in (node, evaluation.pid):
        os.kill(pid, signal.SIGKILL)
    evaluation.wait()
    assert machine.leftovers()
    argv = [sys.executable, "-m", "harness", "clean"]
    assert "had been killed" in processes.run(argv, cwd=ROOT).stdout
    assert machine.leftovers() == []


def test_a_controller_that_stands_still_for_less_than_the_lease_only_pauses(
    evaluation: processes.Process, tmp_path: Path
) -> None:
    """A terminal's Ctrl-Z, or a laptop that sleeps for a moment."""
    _reach(tmp_path, "(switched)")
    evaluation.send_signal(signal.SIGSTOP)
    time.sleep(3)
    evaluation.send_signal(signal.SIGCONT)
    assert evaluation.wait(90) == 0, (tmp_path / "log").read_text()


def test_cgroups_of_a_run_are_empty_before_they_go(
    evaluation: processes.Process, tmp_path: Path
) -> None:
    _reach(tmp_path, "(switched)")
    root = mount.find("cgroup2")
    assert root is not None
    own = root / "harness/run-r"
    assert cgroup.populated(own)
    evaluation.send_signal(signal.SIGTERM)
    assert evaluation.wait(90) == 130
    assert not own.exists()
