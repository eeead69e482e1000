"""The stack as processes: up, what was written is read back, a killed backend loses nothing, down.

The programs come from the cache, and from nothing they are built, which takes minutes.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import rollout, shell
from harness.stack import catalog, supply
from harness.stack.config import PROGRAMS, Stack
from harness.stack.readback import ask
from harness.targets import cgroup, ledger, mount

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

HARNESS = [sys.executable, "-m", "harness"]
BUILD_SECONDS = 3600


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stack, up, with its files in a folder of the test's."""
    for component in catalog.load().values():
        offer = supply.choose(component, supply.cache())
        if offer is None and not component.optional:
            pytest.skip(f"{component.title} cannot be had here")
        if offer is not None and not offer.ready and not os.environ.get("HARNESS_STACK"):
            pytest.skip(f"{component.title} is not in the cache: `make test-stack` builds it")
    if ledger.state() is not None:
        pytest.skip("a stack is up on this machine")
    state = tmp_path_factory.mktemp("state")
    done = _harness("up", state, BUILD_SECONDS)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        (state / "said").write_text(done.stdout)
        yield state
    finally:
        _harness("down", state)


def _harness(command: str, state: Path, timeout: float = 120) -> shell.Completed:
    return shell.run(
        [*HARNESS, command], check=False, env={"XDG_STATE_HOME": str(state)}, timeout=timeout
    )


@pytest.fixture
def stack(home: Path) -> Stack:
    now = ledger.state()
    assert now is not None
    return Stack(Path(now.folder), now.bind)


def test_up_read_back_one_of_each_signal(home: Path) -> None:
    said = (home / "said").read_text()
    for line in ("traces: found in tempo", "metrics: found in prometheus", "logs: found in loki"):
        assert line in said


def test_each_component_has_a_cgroup_and_a_log(stack: Stack) -> None:
    now = ledger.state()
    assert now is not None
    assert {one.name for one in now.components} == set(PROGRAMS)
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
    assert {port for program in PROGRAMS.values() for port in program.listens(stack.ports)} == {
        address.port for address in ours
    }
    assert {address.ip for address in ours} == {"127.0.0.1"}


def test_a_second_up_is_refused(home: Path, stack: Stack) -> None:
    done = _harness("up", home)
    assert done.returncode == 2
    assert "is up already" in done.stderr


def test_prometheus_scrapes_the_whole_stack(stack: Stack) -> None:
    url = stack.url(stack.ports.prometheus) + "/api/v1/query"
    deadline = time.monotonic() + 60
    while True:
        answer = ask(url, {"query": "up == 1"})
        jobs = {one["metric"]["job"] for one in answer["data"]["result"]}
        if jobs == {"otelcol", "prometheus", "tempo", "loki"}:
            break
        assert time.monotonic() < deadline, jobs
        time.sleep(1)


def test_spans_become_metrics(stack: Stack) -> None:
    _send(stack, _spans(10))
    url = stack.url(stack.ports.prometheus) + "/api/v1/query"
    query = {"query": 'traces_spanmetrics_calls_total{service="spans"}'}
    deadline = time.monotonic() + 90
    while not ask(url, query)["data"]["result"]:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_no_span_is_lost_while_tempo_is_away(stack: Stack) -> None:
    """Tempo ends under load and comes back: the Collector's queue on disk keeps what it missed."""
    sent = [_send(stack, _spans(20)) for _ in range(20)]
    (tempo,) = _running("tempo")
    os.kill(tempo.pid, signal.SIGTERM)
    while cgroup.processes(Path(tempo.cgroup)):
        sent.append(_send(stack, _spans(20)))
        time.sleep(0.05)
    sent += [_send(stack, _spans(20)) for _ in range(20)]
    rollout.restart("tempo")
    rollout.await_ready(stack, "tempo")
    _expect(stack, [trace for traces in sent for trace in traces])


def test_no_span_is_lost_when_the_collector_is_killed(stack: Stack) -> None:
    """What the Collector acknowledged is on the disk before it is sent on."""
    (tempo,) = _running("tempo")
    os.kill(tempo.pid, signal.SIGSTOP)  # nothing can be delivered: all of it waits in the queue
    try:
        sent = [_send(stack, _spans(20)) for _ in range(20)]
        (collector,) = _running("otelcol")
        os.kill(collector.pid, signal.SIGKILL)
        while cgroup.processes(Path(collector.cgroup)):
            time.sleep(0.05)
    finally:
        os.kill(tempo.pid, signal.SIGCONT)
    rollout.restart("otelcol")
    rollout.await_ready(stack, "otelcol")
    _expect(stack, [trace for traces in sent for trace in traces])


def test_down_leaves_nothing(home: Path, stack: Stack) -> None:
    now = ledger.state()
    assert now is not None
    pids = [pid for one in now.components for pid in cgroup.processes(Path(one.cgroup))]
    assert len(pids) >= len(PROGRAMS)
    done = _harness("down", home)
    assert done.returncode == 0, done.stderr
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    root = mount.find("cgroup2")
    assert root is not None
    assert not (root / "harness-stack").exists()
    assert not ledger.DIRECTORY.exists()
    assert [path.name for path in home.rglob("*")] == ["said"]
    for port in (p for program in PROGRAMS.values() for p in program.listens(stack.ports)):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "is not up" in _harness("down", home).stdout


def _running(name: str) -> list[ledger.Running]:
    now = ledger.state()
    return [one for one in now.components if one.name == name] if now else []


def _spans(count: int) -> list[dict[str, object]]:
    now = str(time.time_ns())
    return [
        {
            "traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8), "name": "work",
            "kind": 2, "startTimeUnixNano": now, "endTimeUnixNano": now,
        }
        for _ in range(count)
    ]  # fmt: skip


def _send(stack: Stack, spans: list[dict[str, object]]) -> list[str]:
    """Post spans to the Collector, as it must acknowledge; their trace ids."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "spans"}}]}
    payload = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    request = urllib.request.Request(
        stack.url(stack.ports.otlp_http) + "/v1/traces",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    return [str(span["traceId"]) for span in spans]


def _expect(stack: Stack, traces: list[str], limit_seconds: float = 120) -> None:
    """Every trace is found in Tempo in the end."""
    url = stack.url(stack.ports.tempo) + "/api/traces/"
    deadline = time.monotonic() + limit_seconds
    missing = traces
    while missing and time.monotonic() < deadline:
        missing = [trace for trace in missing if not ask(url + trace)]
    assert not missing, f"{len(missing)} of {len(traces)} traces are lost"
