"""What is proved of a Grafana in a cluster: health, sources, dashboards, with its password."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from harness.errors import ComponentError, NeedError
from harness.stack.grafana import shown
from harness.stack.grafana.boards import BOARDS
from harness.targets.kubernetes import (
    dashboards,
    proof,
    values,
)
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.proof import Proved

CLUSTER = Cluster("kind-shop", "harness")
STACK = values.stack("kind-shop", grafana=True)
PASSWORD = "the secret of the test"


# Answers of Grafana's HTTP API as its documentation and sources have them: GET /api/health, GET
# /api/search (grafana.com/docs/grafana/latest/developers/http_api), and through its data proxy what
# the components themselves answer. None was recorded of a Grafana that ran.
HEALTH = {"commit": "0", "database": "ok", "version": "13.2.0"}
FOUND = [
    {"id": n, "uid": board.uid, "title": board.title, "type": "dash-db", "tags": ["harness"]}
    for n, board in enumerate(BOARDS)
]
PROXY = "/api/datasources/proxy/uid"
ANSWERS: dict[str, tuple[int, Any]] = {
    "/api/health": (200, HEALTH),
    "/api/search?type=dash-db&limit=5000": (200, FOUND),
    f"{PROXY}/prometheus/api/v1/query?query=1": (200, {"status": "success"}),
    f"{PROXY}/jaeger/api/services": (200, {"data": ["go"]}),
    f"{PROXY}/tempo/api/echo": (200, "echo"),
    f"{PROXY}/loki/loki/api/v1/labels": (200, {"status": "success", "data": []}),
}


class Standing:
    """A stand-in for Grafana with answers by their paths."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers = dict(ANSWERS)
        self.logins: set[str] = set()


@pytest.fixture
def standing() -> Iterator[Standing]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.logins.add(self.headers.get("Authorization", ""))
            status, body = made.answers.get(self.path, (404, {"message": "Not found"}))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        made = Standing(server.server_port)
        Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def look(standing: Standing, **keeps: str) -> shown.Shown:
    there = replace(STACK, hosts={}, ports={"grafana.http": standing.port})
    return shown.prove(replace(there, keeps={**STACK.keeps, **keeps}), PASSWORD, 0.0)


def test_it_is_proved_by_its_health_its_sources_and_its_dashboards(standing: Standing) -> None:
    found = look(standing)
    assert found.version == "13.2.0"
    assert found.sources == ["jaeger", "prometheus"]
    assert set(found.dashboards) == {board.uid for board in BOARDS}
    assert "Grafana shows no logs" in found.lacks
    (login,) = standing.logins
    assert base64.b64decode(login.split()[1]).decode() == f"admin:{PASSWORD}"
    every = look(standing, traces="tempo", logs="loki")
    assert set(every.sources) == {"tempo", "prometheus", "loki"}
    assert every.lacks == ""


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/api/health", (503, {"database": "failing"}), "It is not healthy: 503"),
        ("/api/health", (200, {"database": "failing"}), "It is not healthy: {'database'"),
        (f"{PROXY}/jaeger/api/services", (502, "Bad Gateway"), "source jaeger has no answer: 502"),
        (
            f"{PROXY}/jaeger/api/services",
            (404, {"message": "Unable to find datasource plugin"}),
            "Unable to find datasource plugin",
        ),
        ("/api/search?type=dash-db&limit=5000", (200, FOUND[1:]), f"dashboard {BOARDS[0].uid}"),
        ("/api/search?type=dash-db&limit=5000", (401, {"message": "Invalid"}), "searched: 401"),
    ],
)
def test_what_it_does_not_show_is_told_without_the_password(
    standing: Standing, path: str, answer: tuple[int, Any], said: str
) -> None:
    standing.answers[path] = answer
    with pytest.raises(ComponentError, match="does not show what it should") as caught:
        look(standing)
    assert said in caught.value.why
    assert PASSWORD not in str(caught.value)


def test_one_that_is_away_is_told() -> None:
    there = replace(STACK, hosts={}, ports={"grafana.http": 1})
    with pytest.raises(ComponentError, match="does not show") as caught:
        shown.prove(there, PASSWORD, 0.0)
    assert "It is not healthy" in caught.value.why


def secret(monkeypatch: pytest.MonkeyPatch, *data: str) -> None:
    kept = {"grafana-password": base64.b64encode(PASSWORD.encode()).decode()}
    found = [{"data": kept}] if not data else []
    monkeypatch.setattr(Cluster, "get", lambda *_: found)


def test_its_password_comes_out_of_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secret(monkeypatch)
    assert dashboards.password(CLUSTER) == PASSWORD
    secret(monkeypatch, "none")
    with pytest.raises(NeedError, match="there is no Secret grafana"):
        dashboards.password(CLUSTER)


def test_what_nobody_asked_for_is_told_and_what_was_asked_for_is_an_error(
    standing: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret(monkeypatch)
    prove = shown.prove
    monkeypatch.setattr(shown, "prove", lambda stack, password: prove(stack, password, 0.0))
    here = replace(STACK, hosts={}, ports={"grafana.http": standing.port})
    seen = proof._seen(CLUSTER, here, Proved(), shows=True)
    assert seen.shown is not None
    standing.answers["/api/health"] = (503, {})
    told = proof._seen(CLUSTER, here, Proved(), shows=False)
    assert told.shown is None
    assert "It is not healthy: 503" in told.unshown
    with pytest.raises(ComponentError):
        proof._seen(CLUSTER, here, Proved(), shows=True)
