"""`harness evaluate --stack full` from the outside: what was sent is found in the real backends.

The programs come from the cache, and from nothing they are built, which takes minutes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.linux import cgroup, mount, processes
from harness.model import Part
from harness.node import machine
from harness.node.freshness import LEAST
from harness.stack import batches, catalog, ledger, lifecycle
from harness.stack.backends import Backends
from harness.stack.client import ask
from harness.stack.config import Stack
from harness.stack.full import Full
from harness.stack.generator import Connection
from harness.stack.requests import RECORDS
from tests.e2e import stacked

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

HARNESS = [sys.executable, "-m", "harness"]
ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 3600
REQUESTS = 20

SMALL = """
workloads = ["go"]
blocks = 1
replacements = 0
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
switched_seconds = 4.0
steady_seconds = 2.0
watched_seconds = 10.0
metered_seconds = 0.0
calibration_seconds = 1.0
seed = 5
stack = "full"
loads = { go = { rate = 300 } }
[[arms]]
name = "baseline"
[[arms]]
name = "both"
collectors = ["http:sample=1", "guard"]
"""


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """The four programs, or the reason why these tests are skipped."""
    stacked.require(stacked.roles())


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    root = mount.find("cgroup2")
    assert ledger.state() is None
    assert machine.leftovers() == []
    assert root is not None
    assert not (root / "harness").exists()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def _run(tmp_path: Path, *arguments: str | Path, check: bool = True) -> processes.Completed:
    argv = [*HARNESS, *map(str, arguments)]
    env = {"COLUMNS": "200", "XDG_STATE_HOME": str(tmp_path / "state")}
    return processes.run(argv, check=check, timeout=BUILD_SECONDS, env=env, cwd=ROOT)


def _document(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "r/report.json").read_text())


def test_a_stack_is_started_asked_and_taken_down(small: Path, tmp_path: Path) -> None:
    plan = _run(tmp_path, "evaluate", small, "--plan").stdout
    assert "the full stack, started for the run, then taken down" in " ".join(plan.split())
    done = _run(tmp_path, "evaluate", small, "--reports", tmp_path, "--run", "r")
    assert "Trace quality" in done.stdout
    assert "What the stack costs" in done.stdout
    document = _document(tmp_path)
    kept = {catalog.known()[name].signal for name in document["components"]}
    assert kept >= {"traces", "metrics", "logs", ""}
    quality = {one["signal"]: one for one in document["quality"]}
    assert set(quality) == {"requests", "spans", "executions"}
    for one in quality.values():
        assert one["coverage_percent"] > 95, one
        assert one["records"] >= LEAST[one["kind"]], one
        assert 0 < one["data_latency_p50_s"] <= one["data_latency_p99_s"] < 30, one
        assert one["resolution_s"] < 1, one
    assert {one["component"] for one in document["upkeep"]} == set(document["components"])
    assert all(one["memory_mb"] > 1 for one in document["upkeep"])
    assert not (tmp_path / "state/harness/stack").exists()
    rows = {(row["arm"], row["metric"]): row for row in document["rows"]}
    assert rows["both", "agent_us"]["estimate"] > 0
    assert rows["both", "sink_us"]["estimate"] > 0


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    _run(tmp_path, "up")
    now = ledger.state()
    assert now is not None
    yield lifecycle.standing(now)
    _run(tmp_path, "down")


def test_a_stack_that_is_up_is_used_and_gets_the_results(
    stack: Stack, small: Path, tmp_path: Path
) -> None:
    allowed = {pid: os.sched_getaffinity(pid) for pid in _pids()}
    log, arguments = tmp_path / "log", ("--reports", tmp_path, "--run", "r")
    process = processes.spawn(
        [*HARNESS, "evaluate", *map(str, (small, *arguments))], log=log, cwd=ROOT
    )
    try:
        _eventually(lambda: list((tmp_path / "r/trials").glob("*-go-*")))
        during = {pid: os.sched_getaffinity(pid) for pid in _pids()}
        assert process.wait(300) == 0, log.read_text()
    finally:
        processes.stop(process, grace_seconds=60)
    beside = json.loads((tmp_path / "r/run.json").read_text())["placement"]["workload"]
    if len(os.sched_getaffinity(0)) > 1:
        assert all(not cpus & set(beside) for cpus in during.values())
    assert {pid: os.sched_getaffinity(pid) for pid in _pids()} == allowed
    url = stack.url("prometheus") + "/api/v1/query"
    query = {"query": 'last_over_time(harness_result{harness_run="r"}[10m])'}
    found = _eventually(lambda: ask(url, query)["data"]["result"])
    told = {
        (one["metric"]["harness_arm"], one["metric"]["harness_metric"]): float(one["value"][1])
        for one in found
        if one["metric"]["harness_bound"] == "estimate"
    }
    for row in _document(tmp_path)["rows"]:
        assert told[row["arm"], row["metric"]] == pytest.approx(row["estimate"])


def test_what_was_watched_is_all_that_a_search_finds(stack: Stack) -> None:
    """400 spans a second; every fifth request is sent 12 s after its spans ended."""
    receiver, statuses = Full(stack, {}), list[int]()
    name, long_ago = receiver.sender("watched", "test"), time.monotonic_ns() - 30 * 10**9
    part = Part("", receiver.mark(), long_ago, instance=name)

    def send() -> None:
        connection, requests = Connection(receiver.url, "spans"), batches.batches("spans", name)
        for number in range(REQUESTS):
            now = time.time_ns() - (number % 5 == 0) * 12 * 10**9
            statuses.append(connection.post(requests[number % len(requests)].fill(now)).status)
            time.sleep(RECORDS / 400)
        connection.close()

    def found() -> bool:
        return len(receiver.data_latency(part, "spans")) >= REQUESTS * RECORDS

    thread = threading.Thread(target=send)
    thread.start()
    receiver.watch([(part, "spans")], REQUESTS * RECORDS / 400, found)
    thread.join()
    assert statuses == [200] * REQUESTS
    delays = receiver.data_latency(part, "spans")
    assert len(delays) == len(Backends(stack).traces.spans(name)) == REQUESTS * RECORDS
    assert sum(delays > 12) >= REQUESTS // 5 * RECORDS


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU")
@pytest.mark.parametrize("with_node", [False, True], ids=["controller", "both"])
def test_a_stack_gets_the_cpus_back_that_a_killed_run_took(
    stack: Stack, small: Path, tmp_path: Path, with_node: bool
) -> None:
    """From the node, whose controller is gone, or where that was killed too from `clean`."""
    allowed = {pid: os.sched_getaffinity(pid) for pid in _pids()}
    arguments = ("evaluate", small, "--reports", tmp_path, "--run", "r")
    argv, log = [*HARNESS, *map(str, arguments)], tmp_path / "harness.log"
    process = processes.spawn(argv, log=log, cwd=ROOT)
    try:
        _eventually(lambda: allowed != {pid: os.sched_getaffinity(pid) for pid in _pids()})
    finally:
        nodes = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if with_node and "harness.node" in child.cmdline()
        ]
        process.kill()
        for node in nodes:
            node.kill()
        process.wait()
    if with_node:
        assert nodes
        done = _run(tmp_path, "clean").stdout
        assert "Run r had been killed." in done
        assert "The stack may use all its CPUs again." in done
    else:
        _eventually(lambda: machine.leftovers() == [])
    _eventually(lambda: allowed == {pid: os.sched_getaffinity(pid) for pid in _pids()})
    assert {pid: os.sched_getaffinity(pid) for pid in _pids()} == allowed


def test_a_backend_that_dies_fails_its_trials_with_its_name(
    stack: Stack, small: Path, tmp_path: Path
) -> None:
    """It is resumed once the stack is mended."""
    arguments = ("evaluate", small, "--reports", tmp_path, "--run", "r")
    log = tmp_path / "harness.log"
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    process = processes.spawn([*HARNESS, *map(str, arguments)], log=log, cwd=ROOT, env=env)
    try:
        _eventually(lambda: list((tmp_path / "r/trials").glob("*-go-*")))
        name = stack.keeps["traces"]
        (keeper,) = _running(name)
        os.kill(keeper.pid, signal.SIGKILL)
        assert process.wait(300) == 2
    finally:
        processes.stop(process, grace_seconds=60)
    assert f"{name} ended while it was needed" in " ".join(log.read_text().split())
    records = [json.loads(p.read_text()) for p in (tmp_path / "r").glob("trials/*/trial.json")]
    assert {one["status"] for one in records} == {"failed"}
    _run(tmp_path, "down")
    _run(tmp_path, "up")
    _run(tmp_path, "evaluate", "--resume", tmp_path / "r")
    assert json.loads((tmp_path / "r/run.json").read_text())["complete"]


def _running(name: str) -> list[ledger.Running]:
    now = ledger.state()
    return [one for one in now.components if one.name == name] if now else []


def _pids() -> list[int]:
    now = ledger.state()
    return [p for one in now.components for p in cgroup.processes(Path(one.cgroup))] if now else []


def _eventually(condition: Any, seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found
