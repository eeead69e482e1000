"""The Collector's queue on disk: a backend or the Collector is killed under load, nothing is lost.

Collector and Prometheus alone, so that it can run where the rest of the stack was not built.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.linux import cgroup
from harness.stack import catalog, client, config, ledger, lifecycle, readback
from harness.stack.config import Stack
from tests.e2e import stacked

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

NAMES = ("prometheus", "otelcol")
SAMPLES = 25


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Collector and Prometheus, up, with their files in a folder of the test's."""
    programs = {name: config.PROGRAMS[name] for name in NAMES}
    roles = stacked.roles("metrics", "otelcol")
    stacked.require(roles)
    monkeypatch.setattr(lifecycle, "PROGRAMS", programs)
    monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "run" / "stack")
    monkeypatch.setattr(lifecycle, "GROUP", f"stack-test-{os.getpid()}")
    monkeypatch.setattr(readback, "prove", lambda stack: [])
    yield lifecycle.up(Stack(tmp_path / "stack"), roles, lambda _: None).stack
    lifecycle.down()


def test_they_listen_on_loopback_only(stack: Stack) -> None:
    now = ledger.state()
    assert now is not None
    ours = {
        socket.laddr
        for one in now.components
        for socket in psutil.Process(one.pid).net_connections("tcp")
        if socket.status == psutil.CONN_LISTEN
    }
    known = catalog.known()
    declared = {stack.port(name, use) for name in NAMES for use in known[name].ports}
    assert {address.port for address in ours} == declared
    assert {address.ip for address in ours} == {"127.0.0.1"}


def test_a_sample_says_from_which_machine_it_is(stack: Stack) -> None:
    _post(stack, ["one"])
    _expect(stack, ["one"])
    query = {"query": "queued"}
    answer = client.ask(stack.url("prometheus") + "/api/v1/query", query)
    (sample,) = answer["data"]["result"]
    assert sample["metric"]["host_name"] == config.host()["host.name"]


def test_prometheus_scrapes_the_collector(stack: Stack) -> None:
    query = {"query": 'up{job="otelcol"} == 1'}
    deadline = time.monotonic() + 60
    while True:
        answer = client.ask(stack.url("prometheus") + "/api/v1/query", query)
        if answer and answer["data"]["result"]:
            break
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_prometheus_is_killed_under_load(stack: Stack) -> None:
    sent = _load(stack, "before", 20)
    _kill("prometheus")
    sent += _load(stack, "away", 20)
    lifecycle.restart("prometheus")
    lifecycle.await_ready(stack, "prometheus")
    sent += _load(stack, "after", 20)
    _expect(stack, sent)


def test_the_collector_is_killed_with_a_full_queue(stack: Stack) -> None:
    """What it acknowledged and could not deliver is delivered by the next one."""
    _kill("prometheus")
    sent = _load(stack, "queued", 40)
    _kill("otelcol")
    lifecycle.restart("prometheus")
    lifecycle.await_ready(stack, "prometheus")
    time.sleep(1)
    assert not _found(stack), "nothing should have been delivered yet"
    lifecycle.restart("otelcol")
    lifecycle.await_ready(stack, "otelcol")
    _expect(stack, sent)


def _kill(name: str) -> None:
    now = ledger.state()
    assert now is not None
    (one,) = [one for one in now.components if one.name == name]
    os.kill(one.pid, signal.SIGKILL)
    while cgroup.processes(Path(one.cgroup)):
        time.sleep(0.01)


def _load(stack: Stack, phase: str, posts: int) -> list[str]:
    """Post series that the Collector must acknowledge, 25 at a time; their names."""
    names = []
    for post in range(posts):
        marks = [f"{phase}-{post}-{sample}" for sample in range(SAMPLES)]
        _post(stack, marks)
        names += marks
        time.sleep(0.02)
    return names


def _post(stack: Stack, marks: list[str]) -> None:
    when = str(time.time_ns())
    points = [
        {
            "timeUnixNano": when,
            "asDouble": 1.0,
            "attributes": [{"key": "mark", "value": {"stringValue": mark}}],
        }
        for mark in marks
    ]
    metric = {"name": "queued", "gauge": {"dataPoints": points}}
    payload = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    request = urllib.request.Request(
        stack.otlp_url + "/v1/metrics",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def _found(stack: Stack) -> set[str]:
    query = {"query": "last_over_time(queued[10m])"}
    answer = client.ask(stack.url("prometheus") + "/api/v1/query", query)
    return {one["metric"]["mark"] for one in answer["data"]["result"]} if answer else set()


def _expect(stack: Stack, sent: list[str], limit_seconds: float = 60) -> None:
    deadline = time.monotonic() + limit_seconds
    while (missing := set(sent) - _found(stack)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not missing, f"{len(missing)} of {len(sent)} are lost: {sorted(missing)[:3]}"
