"""The agents' hooks are tried once a kernel, and what a node refuses is said with its name."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest
import yaml

from harness.errors import NeedError, UnavailableError
from harness.linux import processes
from harness.targets.kubernetes import helm, node_check, node_pod
from harness.targets.kubernetes.kubectl import Cluster

CLUSTER = Cluster("shop", "harness")


def node(name: str, kernel: str, ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {
            "nodeInfo": {"kernelVersion": kernel},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


NODES = [node("c", "6.1"), node("a", "6.1", "False"), node("b", "5.4"), node("d", "6.1")]


def test_one_ready_node_of_each_kernel_is_tried() -> None:
    assert node_check.kernels(NODES) == {"5.4": "b", "6.1": "c"}


def test_what_a_kernel_refuses_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = UnavailableError("Collector 'http' cannot run here.", "No BTF.", "").to_dict()
    monkeypatch.setattr(Cluster, "get", lambda *_: NODES)

    def unmet(_cluster: Cluster, where: str, _image: str, _what: str, about: Any, _: str) -> Any:
        assert list(about[0]) == ["http", "flows"]
        return {"http": refused} if where == "b" else {}

    monkeypatch.setattr(node_pod, "asked", unmet)
    told: list[str] = []
    with pytest.raises(NeedError, match=r"On b, Linux 5\.4: Collector 'http' cannot run here"):
        node_check.require(CLUSTER, "image:1", ["http", "flows"], told.append)
    assert len(told) == 2


def test_the_collectors_are_those_of_the_chart() -> None:
    chart = yaml.safe_load((helm.CHART / "values.yaml").read_text())
    assert set(chart["agents"]["collectors"]) == set(node_check.COLLECTORS)


def test_kernels_that_take_all_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "get", lambda *_: NODES)
    monkeypatch.setattr(node_pod, "asked", lambda *_: None)
    node_check.require(CLUSTER, "image:1", ["http"], lambda _: None)


@pytest.mark.parametrize("secret", ["", "key"])
def test_the_pod_that_tries_them_pulls_as_the_others_do(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(Cluster, "get", lambda *_: NODES[:1])
    monkeypatch.setattr(Cluster, "apply", lambda _, manifest: made.append(manifest["spec"]))
    monkeypatch.setattr(node_pod, "await_ready", lambda *_: None)
    monkeypatch.setattr(node_pod, "remove", lambda *_: None)
    monkeypatch.setattr(processes, "run", lambda *_, **__: None)
    monkeypatch.setattr(node_pod, "answer", lambda *_: None)
    node_check.require(CLUSTER, "there/image:1", ["http"], lambda _: None, secret)
    (spec,) = made
    assert spec["activeDeadlineSeconds"] <= 900  # if `up` is killed, it is not there for a day
    assert spec["containers"][0]["image"] == "there/image:1"
    assert spec.get("imagePullSecrets") == ([{"name": secret}] if secret else None)


def test_what_an_up_left_that_was_killed_goes_before_nodes_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is privileged, and of the namespace of the stack, which evaluations do not look into."""
    host, here = socket.gethostname(), os.getpid()
    killed = {
        "name": "harness-node-1",
        "annotations": {node_pod.OWNER: json.dumps([host, here, 0])},
    }
    others = {"name": "harness-node-2", "annotations": {node_pod.OWNER: node_pod.owner()}}
    found = [{"kind": "Pod", "metadata": each} for each in (killed, others)]
    asked: list[str] = []

    def get(_: Cluster, what: str, *__: str) -> Any:
        asked.append(what)
        return found if what.startswith("pods") else NODES

    monkeypatch.setattr(Cluster, "get", get)
    monkeypatch.setattr(node_pod, "remove", lambda _, *what: asked.extend(what))
    monkeypatch.setattr(node_pod, "asked", lambda *_: asked.append("a node"))
    node_check.require(CLUSTER, "image:1", ["http"], lambda _: None)
    assert asked[1] == "pod/harness-node-1"
    assert asked[2:] == ["nodes", "a node", "a node"]


def test_a_cluster_that_admits_no_such_pods_is_told_in_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not what is said of a namespace that was made a moment ago."""
    monkeypatch.setattr(node_check, "_POLL_SECONDS", 0.0)
    new = "error looking up service account harness/default: not found"
    said = iter([new, new, ""])
    monkeypatch.setattr(Cluster, "refuses", lambda *_: next(said))
    node_check.require_admitted(CLUSTER, "image:1")
    assert next(said, "asked until it was taken") == "asked until it was taken"
    monkeypatch.setattr(Cluster, "refuses", lambda *_: "admission webhook denied the request: no.")
    with pytest.raises(NeedError, match="admits no privileged pods in the namespace") as caught:
        node_check.require_admitted(CLUSTER, "image:1")
    assert "admission webhook denied the request: no." in caught.value.why
