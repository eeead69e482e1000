"""What proves a cluster: its services are asked by name, and one request's records are found."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from harness.errors import CommandError, ComponentError
from harness.linux import processes
from harness.stack import backends, readback
from harness.stack.questions import Event, Series
from harness.targets.kubernetes import heard, production, proof, values
from harness.targets.kubernetes.kubectl import Cluster
from tests.unit.clocked import Clock

CLUSTER = Cluster("kind-shop", "harness")
STACK = values.stack("kind-shop")


def test_the_proof_asks_the_services_by_the_names_that_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, int] = {}

    class Forwarded:
        def __init__(self, services: dict[str, int]) -> None:
            asked.update(services)

        def __enter__(self) -> dict[str, int]:
            return {service: 1000 + number for number, service in enumerate(asked)}

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(Cluster, "forwarded", Forwarded)
    with proof.reached(Cluster("shop", "harness"), production.stack()) as here:
        assert asked == {
            "otel-gateway": 4318, "monitoring-prometheus": 9090, "tempo": 3200, "loki": 3100,
        }  # fmt: skip
        assert here.otlp_url == "http://127.0.0.1:1000"
        assert here.url("prometheus") == "http://127.0.0.1:1001"
        assert here.url("loki") == "http://127.0.0.1:1003"


POD = {
    "metadata": {"name": "go-7"},
    "status": {"containerStatuses": [{"containerID": "containerd://c0ffee"}]},
}


def test_a_span_that_names_no_pod_is_no_proof_and_says_who_is_to_be_asked() -> None:
    cluster, stack = Cluster("shop", "harness"), production.stack()

    def named(**origin: str) -> None:
        said = {f"k8s.pod.{name}": value for name, value in origin.items()}
        proof._require_named(cluster, stack, [POD], said)

    named(name="go-7", uid="1")
    with pytest.raises(ComponentError, match="found no container") as no_container:
        named()
    assert "daemonset/agents" in no_container.value.next_step
    with pytest.raises(
        ComponentError, match=r"uid is 1, .* knew no name \(it says none\)"
    ) as no_name:
        named(uid="1")
    assert "deployment/otel-gateway" in no_name.value.next_step
    with pytest.raises(ComponentError, match=r"it says other-2"):
        named(uid="1", name="other-2")


def test_requests_are_counted_by_the_containers_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Keeper:
        def counters(self, instance: str, *_: object) -> list[Series]:
            labels = frozenset({("http_route", "/exec")})
            return [Series(labels, ((1, 2.0), (2, 3.0)))] if instance == "c0ffee" else []

    monkeypatch.setattr(backends, "keeper", lambda *_: Keeper())
    assert proof._requests(production.stack(), [POD]) == 3.0
    assert proof._requests(production.stack(), [{**POD, "status": {}}]) == 0


def test_the_request_is_made_as_often_as_a_span_needs() -> None:
    seen: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        asked = proof.Asked("127.0.0.1", server.server_port, 3)
        script = proof._REQUEST.format(**vars(asked), mark="ab")
        done = processes.run([sys.executable, "-c", script])
        server.shutdown()
    assert done.stdout.strip() == "200"
    assert seen == ["/exec?proof=ab"] * 3


@pytest.mark.parametrize(
    ("keeper", "called"),
    [("loki", "process_executable_path"), ("victorialogs", "process.executable.path")],
)
def test_a_log_line_is_known_by_what_its_keeper_calls_the_program(
    keeper: str, called: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keeper:
        def lines(self, *_: object) -> list[Event]:
            return [Event(1, 1, labels=frozenset({(called, f"/opt/{proof.PROGRAM}")}))]

    monkeypatch.setattr(backends, "keeper", lambda *_: Keeper())
    here = replace(production.stack(), keeps={**production.KEEPS, "logs": keeper})
    assert proof._has_line(here, [POD], 0)
    other = Event(1, 1, labels=frozenset({(called, "x")}))
    monkeypatch.setattr(Keeper, "lines", lambda *_: [other])
    assert not proof._has_line(here, [POD], 0)


def test_what_no_backend_kept_is_told_with_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    class Said:
        returncode = 0

        def __init__(self, *words: str) -> None:
            self.stdout = f"last line of {words[1]}\n"

    def look(here: Any, seconds: float) -> Any:
        return [], ["victorialogs"]

    monkeypatch.setattr(Cluster, "run", lambda _, *words, **__: Said(*words))
    monkeypatch.setattr(Cluster, "forwarded", lambda _, services: contextlib.nullcontext(services))
    monkeypatch.setattr(readback, "look", look)
    with pytest.raises(ComponentError, match="not found in victorialogs") as caught:
        proof.prove(CLUSTER, STACK)
    assert "otelcol says: last line of service/otelcol" in caught.value.why
    assert "victorialogs says: last line of service/victorialogs" in caught.value.why
    assert caught.value.next_step.endswith("logs service/victorialogs says more.")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster in which spans and log lines arrive, whoever asks for them."""
    monkeypatch.setattr(proof, "_prove_backends", lambda *_: None)
    monkeypatch.setattr(proof, "reached", lambda *_: contextlib.nullcontext(STACK))
    monkeypatch.setattr(proof, "_pods", lambda *_: [])
    monkeypatch.setattr(proof, "_require_named", lambda *_: None)
    monkeypatch.setattr(proof, "_has_span", lambda *_: True)
    monkeypatch.setattr(proof, "_has_line", lambda *_: True)
    monkeypatch.setattr(heard, "by_node", lambda *_: {})


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_a_request_is_proved_by_agents_that_count_from_nothing_again(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """They were replaced, and the backend still has what those before them counted last."""
    made: list[str] = []
    monkeypatch.setattr(proof, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(proof, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(proof, "_requests", lambda *_: len(made) or before)
    asked = iter([None, CommandError("the pod is gone", "", "")])

    def ask(*_: Any) -> None:
        made.append("request")
        if error := next(asked, None):
            raise error

    monkeypatch.setattr(proof, "_make_request", ask)
    proved = proof.prove(CLUSTER, STACK)
    assert {each.signal for each in proved.arrivals} == {"traces", "metrics", "logs"}
    assert len(made) <= 3


@pytest.mark.usefixtures("traced")
def test_a_backend_that_lost_its_data_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter([5])
    monkeypatch.setattr(proof, "time", Clock())
    monkeypatch.setattr(proof, "_make_request", lambda *_: None)
    monkeypatch.setattr(proof, "_requests", lambda *_: next(counted, 0))
    with pytest.raises(ComponentError, match="of its metrics nothing"):
        proof.prove(CLUSTER, STACK)
