"""How profiles are proved in a cluster: the service is kept busy, and its CPU time there grows."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import ComponentError
from harness.linux import processes
from harness.stack import backends, readback
from harness.stack.config.description import KEEPS
from harness.targets.kubernetes import heard, proof, values
from harness.targets.kubernetes.kubectl import Cluster
from tests.unit.clocked import Clock

CLUSTER = Cluster("kind-shop", "harness")
STACK = values.stack("kind-shop")
WITH = values.stack("kind-shop", keeps={**KEEPS, "profiles": "parca"})
POD = {
    "metadata": {"name": "go-7", "uid": "1"},
    "status": {"containerStatuses": [{"containerID": "containerd://c0ffee"}]},
}


class Keeper:
    """Of every signal; of profiles it has these samples, one of them more each time it is asked."""

    def __init__(self, grows: int) -> None:
        self.grows, self.asked = grows, list[tuple[str, str, int]]()

    def samples(self, attribute: str, value: str, since_unix_ns: int) -> Mapping[str, int]:
        self.asked.append((attribute, value, since_unix_ns))
        return {"server+0x2000": 7 + self.grows * len(self.asked), "[kernel]+0x1": 1}

    def origin(self, *_: str) -> Mapping[str, str]:
        return {"k8s.pod.name": "go-7"}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run in the agents' pods, in a cluster whose backends keep and answer all at once."""
    seen: list[str] = []

    def run(_: Cluster, *words: str, **__: Any) -> Any:
        seen.append(words[-1])
        return SimpleNamespace(returncode=0, stdout="200", stderr="")

    counted = iter(range(1000))
    monkeypatch.setattr(Cluster, "run", run)
    monkeypatch.setattr(
        Cluster, "forwarded", lambda _, services: contextlib.nullcontext(dict(services))
    )
    monkeypatch.setattr(readback, "look", lambda *_: ([], []))
    monkeypatch.setattr(heard, "by_node", lambda *_: {})
    monkeypatch.setattr(proof, "_pods", lambda *_: [POD])
    monkeypatch.setattr(proof, "_requests", lambda *_: float(next(counted)))
    monkeypatch.setattr(proof, "_has_line", lambda *_: True)
    monkeypatch.setattr(proof, "time", Clock())
    return seen


def test_a_profile_of_the_service_is_found_as_each_other_signal(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(grows=1)
    monkeypatch.setattr(backends, "keeper", lambda *_: keeper)
    began = time.time_ns()
    found = proof.prove(CLUSTER, WITH)
    assert {each.signal: each.backend for each in found.arrivals} == WITH.keeps
    busy, request = ran
    assert "http://go:8080/cpu?blocks=" in busy
    assert "/exec?proof=" in request  # after it, so that no other signal waits
    assert {each[:2] for each in keeper.asked} == {("service.instance.id", "c0ffee")}
    assert all(each[2] < began for each in keeper.asked)  # its drain began before
    assert len({each[2] for each in keeper.asked}) == 1


def test_what_was_there_before_is_no_proof(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "keeper", lambda *_: Keeper(grows=0))
    with pytest.raises(ComponentError, match="of its profiles nothing was found"):
        proof.prove(CLUSTER, WITH)
    assert sum("/cpu" in each for each in ran) == sum("/exec" in each for each in ran) > 1


def test_a_keeper_that_forgot_all_meanwhile_has_more_than_that(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Keeper):
        def samples(self, attribute: str, value: str, since_unix_ns: int) -> Mapping[str, int]:
            found = super().samples(attribute, value, since_unix_ns)
            return {"server+0x2000": 10**12} if len(self.asked) == 1 else found

    keeper = Full(grows=1)
    monkeypatch.setattr(backends, "keeper", lambda *_: keeper)
    assert "profiles" in {each.signal for each in proof.prove(CLUSTER, WITH).arrivals}


def test_where_nobody_keeps_them_nothing_is_kept_busy(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(grows=1)
    monkeypatch.setattr(backends, "keeper", lambda *_: keeper)
    assert "profiles" not in {each.signal for each in proof.prove(CLUSTER, STACK).arrivals}
    assert not [each for each in ran if "/cpu" in each]
    assert not keeper.asked


EIGHTHS = """import itertools, time
time.monotonic = map((1 / 8).__mul__, itertools.count()).__next__  # each look takes so long
"""


def test_a_service_is_kept_busy_for_a_moment() -> None:
    seen: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        where = {"service": "127.0.0.1", "port": server.server_port}
        script = EIGHTHS + proof._BUSY.format(**where, seconds=0.5)
        processes.run([sys.executable, "-c", script])
        server.shutdown()
    assert seen == ["/cpu?blocks=10000"] * 3
