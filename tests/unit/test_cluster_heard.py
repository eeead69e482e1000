"""Whether agents of each node are heard: one question for all nodes, and who is named if not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from harness.cli import cluster as commands
from harness.errors import SilentError
from harness.stack.config import Stack
from harness.stack.config.prometheus import Prometheus
from harness.targets.kubernetes import condition, heard, proof, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.proof import Proved
from tests.unit.answered import Answers

CLUSTER = Cluster("kind-shop", "harness")


@pytest.fixture
def backend() -> Iterator[Answers]:
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ages(**known: float) -> dict[str, Any]:
    """As Prometheus answers an instant query; the last one is of a machine that is no node."""
    rows = [
        {"metric": {"k8s_node_name": node.replace("_", "-")}, "value": [1.0, str(age)]}
        for node, age in known.items()
    ]
    return {"data": {"resultType": "vector", "result": [*rows, {"metric": {}, "value": [1, "3"]}]}}


def here(backend: Answers) -> Stack:
    return replace(values.stack("shop"), hosts={}, ports={"prometheus.http": backend.server_port})


def agents(monkeypatch: pytest.MonkeyPatch, *nodes: str) -> None:
    found = [{"spec": {"nodeName": node}} for node in nodes]
    monkeypatch.setattr(Cluster, "get", lambda *_: [*found, {"spec": {}}])  # one that waits
    monkeypatch.setattr(heard, "_POLL_SECONDS", 0.01)


def test_prometheus_is_asked_once_for_all(backend: Answers) -> None:
    backend.say["/api/v1/query"] = lambda: ages(node_1=2.5, node_2=400)
    found = Prometheus(f"http://127.0.0.1:{backend.server_port}").heard("k8s.node.name")
    assert found == {"node-1": 2.5, "node-2": 400.0}
    assert [each["query"] for each in backend.asked] == [
        "time() - max by (k8s_node_name) "
        '(timestamp(harness_agent_events_total{service_name="harness-agent"}))'
    ]


def test_it_waits_until_each_node_is_heard(
    backend: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents(monkeypatch, "node-1", "node-2")
    said = iter([ages(node_1=1), ages(node_1=1, node_2=90)])
    backend.say["/api/v1/query"] = lambda: next(said, ages(node_1=1, node_2=2, old=3))
    assert heard.by_node(CLUSTER, here(backend)) == {"node-1": 1.0, "node-2": 2.0}


def test_nodes_that_are_not_heard_are_named(
    backend: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents(monkeypatch, *(f"node-{number}" for number in range(9)))
    monkeypatch.setattr(heard, "_SECONDS", 0.05)
    backend.say["/api/v1/query"] = lambda: ages(node_0=1, node_1=61)
    with pytest.raises(SilentError) as caught:
        heard.by_node(CLUSTER, here(backend))
    assert caught.value.what == (
        "Of the agents of node-1, node-2, node-3, node-4, node-5 and others nothing came within "
        "60 s."
    )
    assert caught.value.why.startswith("That is 8 of 9 nodes")
    assert caught.value.ages == {"node-0": 1.0, "node-1": 61.0}


def node(name: str) -> dict[str, Any]:
    status = {
        "nodeInfo": {"kernelVersion": "6.1"}, "conditions": [{"type": "Ready", "status": "True"}],
    }  # fmt: skip
    return {"metadata": {"name": name}, "status": status}


def pod(on: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"agents-{on}", "labels": {"app.kubernetes.io/name": "agents"}},
        "spec": {"nodeName": on, "containers": [{"image": "node"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_status_says_of_each_node_when_it_was_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proved = Proved(heard={"node-1": 2.0})
    monkeypatch.setattr(Cluster, "get", lambda *_: [node("node-1"), node("node-2")])
    monkeypatch.setattr(proof, "prove", lambda *_, **__: proved)
    stack = values.stack("shop")
    options = Options("existing")
    told = condition.told(options, CLUSTER, [pod("node-1")], True, stack, proof.ONE)
    first, second = told["nodes"]
    assert first["heard_seconds"] == 2.0
    assert "heard_seconds" not in second  # a node that no agent is on
    json.dumps(told)
    commands._print_status(told, options)
    assert "2 s ago" in capsys.readouterr().out


def test_status_says_of_the_others_when_they_were_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def unheard(*_: Any, **__: Any) -> Proved:
        raise heard._unheard(CLUSTER, ["node-2"], 2, {"node-1": 3.0})

    monkeypatch.setattr(Cluster, "get", lambda *_: [node("node-1"), node("node-2")])
    monkeypatch.setattr(proof, "prove", unheard)
    pods = [pod("node-1"), pod("node-2")]
    told = condition.told(Options("existing"), CLUSTER, pods, True, values.stack("shop"), proof.ONE)
    assert not told["ready"]
    assert "Of the agents of node-2 nothing came" in told["unproved"]
    assert [each.get("heard_seconds") for each in told["nodes"]] == [3.0, None]
