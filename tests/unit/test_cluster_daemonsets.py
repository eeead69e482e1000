"""A DaemonSet is moved to one node and away from it, and put back to exactly what it was."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from harness.collectors import resolve
from harness.errors import InputError, NeedError
from harness.model import Arm
from harness.plan import methods
from harness.targets import target
from harness.targets.kubernetes import daemonsets, node_pod
from harness.targets.kubernetes.kubectl import Cluster

CLUSTER = Cluster("shop", "harness-evaluate")
NODE = {"metadata": {"name": "worker", "labels": {"kubernetes.io/hostname": "worker.local"}}}
EXCLUDED = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["worker.local"]}


class Store:
    """One DaemonSet, its pods on the node as its controller would have them, and patches."""

    def __init__(self, affinity: Any = None) -> None:
        spec: dict[str, Any] = {"containers": [{"name": "beyla"}]}
        if affinity is not None:
            spec["affinity"] = affinity
        self.object: dict[str, Any] = {
            "metadata": {"name": "beyla", "namespace": "obs"},
            "spec": {
                "selector": {"matchLabels": {"app": "beyla"}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
                "template": {"spec": spec},
            },
        }
        self.strategies: list[str] = []

    def get(self, cluster: Cluster, *words: str) -> list[dict[str, Any]]:
        if words[0] == "pods":
            assert "--field-selector=spec.nodeName=worker" in words
            return [OTHERS] if self.is_away() else [POD, OTHERS]
        if "--all-namespaces" in words:
            moved = daemonsets.MOVED in self.object["metadata"].get("labels", {})
            return [copy.deepcopy(self.object)] if moved else []
        is_it = (cluster.namespace, words[1]) == ("obs", "beyla")
        return [copy.deepcopy(self.object)] if is_it else []

    def is_away(self) -> bool:
        return json.dumps(EXCLUDED) in json.dumps(self.object["spec"]["template"])

    def run(self, cluster: Cluster, *words: str, **_: Any) -> None:
        assert (words[0], words[2], cluster.namespace) == ("patch", "beyla", "obs")
        patch = json.loads(words[4].removeprefix("--patch="))
        if words[3] == "--type=merge":
            _merge(self.object, patch)
        else:
            for each in patch:
                spec = self.object["spec"]["template"]["spec"]
                spec.pop("affinity", None)
                if each["op"] == "add":
                    spec["affinity"] = each["value"]
            self.strategies.append(self.object["spec"]["updateStrategy"]["type"])


POD = {
    "metadata": {"name": "beyla-x", "ownerReferences": [{"name": "beyla", "controller": True}]},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [
            {"name": "once", "containerID": "containerd://old", "state": {"terminated": {}}},
            {"name": "sidecar", "containerID": "containerd://def", "state": {"running": {}}},
        ],
        "containerStatuses": [{"name": "beyla", "containerID": "containerd://abc"}],
    },
}
OTHERS = {"metadata": {"name": "of-others"}, "status": POD["status"]}
RULE = {"key": "disk", "operator": "Exists"}
AFFINITY: dict[str, Any] = {
    "podAffinity": {"any": "thing"},
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [RULE]}, {"matchFields": [{"key": "x"}]}]
        }
    },
}


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


@pytest.fixture(params=[None, AFFINITY], ids=["plain", "with affinity"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store(copy.deepcopy(request.param))
    monkeypatch.setattr(Cluster, "get", lambda self, *words: made.get(self, *words))
    monkeypatch.setattr(Cluster, "run", lambda self, *words, **more: made.run(self, *words, **more))
    return made


def test_it_goes_comes_and_is_what_it_was(store: Store) -> None:
    before = copy.deepcopy(store.object)
    both = ["containerd://def", "containerd://abc"]  # a sidecar is an init container that goes on
    assert daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None) == both
    assert store.is_away()
    assert daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None) == []
    assert daemonsets.here(CLUSTER, NODE, "obs/beyla", lambda: None) == both
    daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None)
    assert store.is_away()
    daemonsets.restore(CLUSTER, "obs/beyla")
    for key in ("labels", "annotations"):
        assert store.object["metadata"].pop(key, {}) == {}
    assert store.object == before
    assert set(store.strategies) == {"OnDelete"}  # no other node's pod was ever restarted


def test_each_of_its_terms_excludes_the_node() -> None:
    changed = daemonsets.without(AFFINITY, "worker.local")
    required = changed["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    first, second = required["nodeSelectorTerms"]
    assert first["matchExpressions"] == [RULE, EXCLUDED]
    assert second["matchExpressions"] == [EXCLUDED]
    assert changed["podAffinity"] == {"any": "thing"}
    assert (
        RULE
        in AFFINITY["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ][0]["matchExpressions"]
    )


def test_one_that_was_never_moved_is_here_as_it_is(store: Store) -> None:
    before = copy.deepcopy(store.object)
    assert "containerd://abc" in daemonsets.here(CLUSTER, NODE, "obs/beyla", lambda: None)
    daemonsets.restore(CLUSTER, "obs/beyla")
    assert store.object == before


def test_what_a_killed_evaluation_moved_is_put_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None)
    daemonsets.restore_orphans(CLUSTER, print)
    assert store.is_away()  # its owner lives
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    daemonsets.restore_orphans(CLUSTER, print)
    assert not store.is_away()


def test_one_that_another_evaluation_moves_is_left_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None)
    monkeypatch.setattr(node_pod, "owner", lambda: '["elsewhere", 7, 1]')
    with pytest.raises(NeedError, match="moved by another evaluation"):
        daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None)
    daemonsets.restore(CLUSTER, "obs/beyla")
    assert store.is_away()


def test_what_a_killed_one_kept_is_what_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.deepcopy(store.object["spec"])
    daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None)
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    daemonsets.away(CLUSTER, NODE, "obs/beyla", lambda: None)  # takes it over
    daemonsets.restore(CLUSTER, "obs/beyla")
    assert store.object["spec"] == before


def test_one_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(InputError, match="no DaemonSet 'tetragon' in the namespace 'obs'"):
        daemonsets.away(CLUSTER, NODE, "obs/tetragon", lambda: None)


def test_an_arm_of_one_is_installed_and_removed() -> None:
    given = [Arm("baseline"), Arm("http", ("http",)), Arm("beyla", ("daemonset:obs/beyla",))]
    methods_of = {arm.name: arm.method for arm in methods.chosen(given)}
    assert methods_of["beyla"] == "block"
    assert methods_of["http"] == "switch"
    found = resolve("daemonset:obs/beyla")
    assert (found.daemonset, found.slug) == ("obs/beyla", "beyla-obs")


@pytest.mark.parametrize(
    "spec", ["daemonset:beyla", "daemonset:/x", "daemonset:a/b/c", "daemonset:A/b"]
)
def test_one_that_cannot_be_read_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="NAMESPACE/NAME"):
        resolve(spec)


@pytest.mark.parametrize("given", ["local", "ssh:host"])
def test_a_machine_has_none(given: str) -> None:
    with pytest.raises(InputError, match="is one of a cluster"):
        target(given).place("obs/beyla", True, lambda: None)
