"""The stack as processes: up, what was written is read back, each part is killed under load, down.

The programs come from the cache, and from nothing they are built, which takes minutes. One stack
serves all tests, in their order.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.linux import cgroup, processes
from harness.stack import catalog, ledger, lifecycle, supervisor
from harness.stack.client import ask
from harness.stack.config import PROGRAMS, Stack
from tests.e2e import marked, stacked

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

HARNESS = [sys.executable, "-m", "harness"]
BUILD_SECONDS = 3600
VOLATILE_SECONDS = 4.0  # how long one holds in memory what it acknowledged, and no longer
VOLATILE = ("tempo", "victorialogs")  # those that do


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stack, up, with its files in a folder of the test's."""
    stacked.require(stacked.roles())
    state = tmp_path_factory.mktemp("state")
    done = _harness("up", state, BUILD_SECONDS)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        (state / "said").write_text(done.stdout)
        yield state
    finally:
        _harness("down", state)


def _harness(command: str, state: Path, timeout: float = 120) -> processes.Completed:
    return processes.run(
        [*HARNESS, command], check=False, env={"XDG_STATE_HOME": str(state)}, timeout=timeout
    )


@pytest.fixture
def stack(home: Path) -> Stack:
    now = ledger.state()
    assert now is not None
    return lifecycle.standing(now)


def test_up_read_back_one_of_each_signal(home: Path, stack: Stack) -> None:
    said = (home / "said").read_text()
    assert set(stack.keeps) == {"traces", "metrics", "logs"}
    for kept, keeper in stack.keeps.items():
        assert f"{kept}: found in {keeper}" in said


def test_each_component_has_a_cgroup_and_a_log(stack: Stack) -> None:
    now = ledger.state()
    assert now is not None
    assert {one.name for one in now.components} >= {*stack.keeps.values(), "otelcol"}
    for one in now.components:
        assert one.pid in cgroup.processes(Path(one.cgroup))
        assert Path(one.log).exists()
        usage = (Path(one.cgroup) / "cpu.stat").read_text().split()
        assert int(usage[usage.index("usage_usec") + 1]) > 0


def test_it_listens_on_loopback_only(stack: Stack) -> None:
    now = ledger.state()
    assert now is not None
    pids = [pid for one in now.components for pid in cgroup.processes(Path(one.cgroup))]
    ours = {
        socket_.laddr
        for pid in pids
        for socket_ in psutil.Process(pid).net_connections("tcp")
        if socket_.status == psutil.CONN_LISTEN
    }
    assert _ports(stack) == {address.port for address in ours}
    assert {address.ip for address in ours} == {"127.0.0.1"}


def test_a_second_up_is_refused(home: Path, stack: Stack) -> None:
    done = _harness("up", home)
    assert done.returncode == 2
    assert "is up already" in done.stderr


def test_prometheus_scrapes_the_whole_stack(stack: Stack) -> None:
    url = stack.url("prometheus") + "/api/v1/query"
    deadline = time.monotonic() + 60
    while True:
        answer = ask(url, {"query": "up == 1"})
        jobs = {one["metric"]["job"] for one in answer["data"]["result"]}
        if jobs == {*stack.keeps.values(), "otelcol"}:
            break
        assert time.monotonic() < deadline, jobs
        time.sleep(1)


def test_spans_become_metrics(stack: Stack) -> None:
    keeper = stack.keeps["traces"]
    store = PROGRAMS[keeper].store
    if store is None or not store.span_metrics:
        assert keeper == "jaeger"  # which makes none, and for which no panel asks for them
        return
    marked.load(stack, "traces", "measured", 1)
    url = stack.url("prometheus") + "/api/v1/query"
    query = {"query": 'traces_spanmetrics_calls_total{service="measured"}'}
    deadline = time.monotonic() + 90
    while not ask(url, query)["data"]["result"]:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_no_span_is_lost_while_their_keeper_is_away(stack: Stack) -> None:
    """It ends under load and comes back: the Collector's queue on disk keeps what it missed."""
    name = stack.keeps["traces"]
    with marked.loading(stack, "traces", "away") as sent:
        marked.await_more(sent)
        keeper = _running(name)
        os.kill(keeper.pid, signal.SIGTERM)
        deadline = time.monotonic() + supervisor.GRACE_SECONDS
        while cgroup.processes(Path(keeper.cgroup)) and time.monotonic() < deadline:
            time.sleep(0.1)
        _kill(name)  # it has written everything, but Tempo does not always end
        marked.await_more(sent)
        _restart(stack, name)
        marked.await_more(sent)
    marked.expect(stack, "traces", "away", sent)


@pytest.mark.parametrize("kind", ["traces", "logs"])
def test_a_killed_keeper_loses_what_it_held_in_memory_and_no_more(
    stack: Stack, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """Some acknowledge a record before it is on the disk; all older and all later ones survive."""
    name = stack.keeps[kind]
    kept = marked.load(stack, kind, "kept", 20)
    marked.expect(stack, kind, "kept", kept)
    time.sleep(VOLATILE_SECONDS)
    with marked.loading(stack, kind, "volatile") as volatile:
        marked.await_more(volatile)
        _kill(name)
    kept += marked.load(stack, kind, "kept", 20)
    _restart(stack, name)
    marked.expect(stack, kind, "kept", kept)
    found = marked.found(stack, kind, "volatile", volatile)
    record_property("lost", f"{len(volatile) - len(found)} of {len(volatile)}")


@pytest.mark.parametrize("kind", ["metrics", "logs"])
def test_a_keeper_killed_under_load_loses_nothing(stack: Stack, kind: str) -> None:
    keeper = stack.keeps[kind]
    if keeper in VOLATILE:
        pytest.skip(f"{keeper} holds a second in memory: the test before is about that")
    name = f"killed-{keeper}"
    with marked.loading(stack, kind, name) as sent:
        marked.await_more(sent)
        _kill(keeper)
        marked.await_more(sent)
        _restart(stack, keeper)
        marked.await_more(sent)
    marked.expect(stack, kind, name, sent)


def test_no_span_is_lost_when_the_collector_is_killed_with_a_full_queue(stack: Stack) -> None:
    """What the Collector acknowledged is on the disk before it is sent on."""
    keeper = _running(stack.keeps["traces"])
    os.kill(keeper.pid, signal.SIGSTOP)  # nothing can be delivered: all of it waits in the queue
    try:
        sent = marked.load(stack, "traces", "queued", 20)
        _kill("otelcol")
    finally:
        os.kill(keeper.pid, signal.SIGCONT)
    _restart(stack, "otelcol")
    marked.expect(stack, "traces", "queued", sent)


@pytest.mark.parametrize("kind", ["traces", "metrics", "logs"])
def test_nothing_acknowledged_is_lost_when_the_collector_is_killed_under_load(
    stack: Stack, kind: str
) -> None:
    with marked.loading(stack, kind, "under-load") as sent:
        marked.await_more(sent)
        _kill("otelcol")
        _restart(stack, "otelcol")
        marked.await_more(sent)
    marked.expect(stack, kind, "under-load", sent)


def test_down_leaves_nothing(home: Path, stack: Stack) -> None:
    now, ports = ledger.state(), _ports(stack)
    assert now is not None
    cgroups = [Path(one.cgroup) for one in now.components]
    pids = [pid for path in cgroups for pid in cgroup.processes(path)]
    assert len(pids) >= len(now.components)
    done = _harness("down", home)
    assert done.returncode == 0, done.stderr
    if not any(one.unit for one in now.components):
        for name in {"otelcol", *stack.keeps.values()} - {
            "tempo"
        }:  # it waits for ever after a query
            assert f"{name} was ended." in done.stdout
    assert [pid for pid in pids if _lives(pid)] == []
    assert not any(path.exists() or path.parent.exists() for path in cgroups)
    assert not ledger.DIRECTORY.exists()
    assert [path.name for path in home.rglob("*")] == ["said"]
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "is not up" in _harness("down", home).stdout


def _ports(stack: Stack) -> set[int]:
    now = ledger.state()
    assert now is not None
    known = catalog.known()
    return {stack.port(one.name, use) for one in now.components for use in known[one.name].ports}


def _running(name: str) -> ledger.Running:
    now = ledger.state()
    assert now is not None
    (found,) = [one for one in now.components if one.name == name]
    return found


def _kill(name: str) -> None:
    path = Path(_running(name).cgroup)
    while cgroup.kill(path):
        time.sleep(0.01)


def _restart(stack: Stack, name: str) -> None:
    lifecycle.restart(name)
    lifecycle.await_ready(stack, name)


def _lives(pid: int) -> bool:
    """Also False for one that this process started again, and that only waits to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
