"""`harness evaluate` on a service that runs already, and on a command that only asks for one."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.linux import cgroup, mount, processes
from harness.linux.procfs import HOST, V2
from harness.results.run import Run

pytestmark = pytest.mark.e2e

HARNESS = [sys.executable, "-m", "harness"]
ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "tests" / "bpf" / "http_server.py"
SMALL = """
workloads = ["own"]
blocks = 2
replacements = 0
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
switched_seconds = 2.0
steady_seconds = 1.0
metered_seconds = 1.0
calibration_seconds = 1.0
loads = { own = { rate = 200 } }
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
"""
LEAVES = """
import os, subprocess, sys
root, *argv = sys.argv[1:]
open(root + "/cgroup.procs", "w").write(str(os.getpid()))
os.execv(argv[0], argv)
"""


@pytest.fixture
def root() -> Path:
    place = mount.find("cgroup2")
    if place is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    return place


@pytest.fixture
def group(root: Path) -> Iterator[Path]:
    path = root / f"harness-test-evaluate-{os.getpid()}"
    cgroup.create(path)
    yield path
    cgroup.remove(path)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def evaluate(tmp_path: Path, *options: str) -> processes.Completed:
    (tmp_path / "small.toml").write_text(SMALL)
    argv = [*HARNESS, "evaluate", "small.toml", "--reports", "reports", "--run", "r", *options]
    environment = {"PYTHONPATH": str(ROOT)}
    return processes.run(argv, check=False, timeout=300, cwd=tmp_path, env=environment)


def test_a_service_that_runs_is_measured_and_left_running(tmp_path: Path, group: Path) -> None:
    server = processes.spawn(
        [sys.executable, str(SERVER), "127.0.0.1"], log=tmp_path / "log", cgroup=group
    )
    try:
        told = processes.announced(server, 60)
        assert told is not None
        url = f"http://127.0.0.1:{told['port']}/"
        done = evaluate(tmp_path, "--pid", str(server.pid), "--url", url)
        assert done.returncode == 0, done.stderr
        assert server.poll() is None
        assert HOST.cgroups(server.pid)[V2] == f"/{group.name}"
    finally:
        processes.stop(server, grace_seconds=0)
    run = Run.open(tmp_path / "reports" / "r")
    assert [record.reason for record in run.records() if record.status != "ok"] == []
    events = [v.value for r in run.records() for v in r.values if v.metric == "events"]
    assert min(events) > 100
    assert "repeat on the same processes" in (run.path / "report.md").read_text()


def test_what_comes_and_goes_is_measured_with_a_service_that_runs(
    tmp_path: Path, group: Path
) -> None:
    server = processes.spawn(
        [sys.executable, str(SERVER), "127.0.0.1"], log=tmp_path / "log", cgroup=group
    )
    try:
        told = processes.announced(server, 60)
        assert told is not None
        url = f"http://127.0.0.1:{told['port']}/"
        done = evaluate(tmp_path, "--pid", str(server.pid), "--url", url, "--arm", "bpftrace")
        assert done.returncode == 0, done.stderr
        assert server.poll() is None
    finally:
        processes.stop(server, grace_seconds=0)
    run = Run.open(tmp_path / "reports" / "r")
    assert [record.reason for record in run.records() if record.status != "ok"] == []
    theirs = [r for r in run.records() if r.trial.arm == "bpftrace" and r.trial.kind == "switched"]
    for record in theirs:  # it saw the load of the process that was there all the time
        values = {v.metric: v.value for v in record.values}
        assert values["events"] > values["steady_requests"]
        assert {row.window.on for row in run.windows(record.trial)} == {True, False}


def test_a_command_whose_service_is_elsewhere_is_refused_with_the_option_that_measures_it(
    tmp_path: Path, root: Path, port: int
) -> None:
    argv = [sys.executable, "-c", f"'{LEAVES}'", str(root), "/usr/bin/python3", "-m"]
    command = " ".join([*argv, "http.server", str(port), "--bind", "127.0.0.1"])
    done = evaluate(tmp_path, "--command", command, "--url", f"http://127.0.0.1:{port}/")
    assert done.returncode == 2
    assert "is answered outside of the cgroup that is measured" in done.stderr
    assert "--pid " in done.stderr
    assert "us [" not in done.stdout
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
