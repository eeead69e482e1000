"""Pods as the API tells of them, and what is said of those that are stuck."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import ComponentError
from harness.targets.kubernetes import condition, helm, pods, production, proof, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster

CLUSTER = Cluster("kind-shop", "harness")
STACK = values.stack("kind-shop")


def pod(
    waiting: dict[str, str] | None = None, restarts: int = 0, conditions: Any = ()
) -> dict[str, Any]:
    state = {"waiting": waiting} if waiting else {"running": {}}
    return {
        "metadata": {"name": "jaeger-1", "labels": {"app.kubernetes.io/name": "jaeger"}},
        "spec": {"nodeName": "shop-worker"},
        "status": {
            "conditions": list(conditions),
            "containerStatuses": [{"name": "jaeger", "state": state, "restartCount": restarts}],
        },
    }


def only(found: dict[str, Any]) -> pods.Trouble:
    (trouble,) = pods.troubles([found])
    return trouble


def test_a_pod_that_is_on_its_way_is_no_trouble() -> None:
    assert not list(pods.troubles([pod({"reason": "ContainerCreating"}), pod()]))


def test_a_missing_image_names_pod_component_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "rpc error: pull access denied, repository does not exist"
    monkeypatch.setattr(Cluster, "get", lambda *_: [{"message": said}, {"message": said}])
    error = pods.failure(CLUSTER, only(pod({"reason": "ImagePullBackOff", "message": "Back-off"})))
    assert error.what == (
        "jaeger does not start: its pod jaeger-1 (container jaeger) is in ImagePullBackOff."
    )
    assert error.why.count(said) == 1
    assert "where the nodes reach it" in error.next_step


def test_a_crash_is_given_up_at_the_third_time() -> None:
    crashing = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    assert not list(pods.troubles([pod(crashing, restarts=2)]))
    assert only(pod(crashing, restarts=3)).kind == "crash"


def test_a_crash_for_want_of_memory_says_so() -> None:
    """The back-off's own words do not tell why."""
    found = pod({"reason": "CrashLoopBackOff", "message": "back-off 10s"}, restarts=3)
    (one,) = found["status"]["containerStatuses"]
    one["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert only(found).message == "back-off 10s; it ended last with 137, OOMKilled"
    assert condition._pod(found | {"spec": {"containers": []}})["last_end"] == "137, OOMKilled"
    assert condition._pod(pod() | {"spec": {"containers": []}})["last_end"] == ""


def test_a_crash_tells_the_last_lines_and_where_the_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Said:
        stdout = "no cgroup\nbye\n"

    monkeypatch.setattr(Cluster, "get", lambda *_: [])
    monkeypatch.setattr(Cluster, "run", lambda *_, **__: Said)
    error = pods.failure(CLUSTER, only(pod({"reason": "CrashLoopBackOff"}, restarts=5)))
    assert "no cgroup bye" in error.why
    assert "logs jaeger-1 -c jaeger --previous" in error.next_step


def test_no_room_on_any_node() -> None:
    full = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert only(pod(conditions=[full])).kind == "place"


def test_a_pod_that_goes_is_not_ready() -> None:
    ready = pod(conditions=[{"type": "Ready", "status": "True"}])
    assert pods.is_ready(ready)
    ready["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not pods.is_ready(ready)


def test_what_cannot_be_proved_is_not_ready_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(*_: Any, **__: Any) -> Any:
        raise ComponentError("No span came.", "Jaeger knows none.", "Look at the agents.")

    monkeypatch.setattr(Cluster, "get", lambda *_: [])
    monkeypatch.setattr(proof, "prove", prove)
    ready = pod(conditions=[{"type": "Ready", "status": "True"}])
    asked = condition.told(
        Options("kind"), CLUSTER, [{**ready, "spec": {"containers": []}}], True, STACK, proof.ONE
    )
    assert not asked["ready"]
    assert asked["unproved"].startswith("No span came.")
    assert "proof" not in asked


def test_a_claim_without_a_volume_is_told_from_a_full_cluster() -> None:
    said = "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind."
    waiting = {"type": "PodScheduled", "reason": "Unschedulable", "message": said}
    trouble = only(pod(conditions=[waiting]))
    assert trouble.kind == "volume"
    assert "--storage-class" in pods.failure(CLUSTER, trouble).next_step


def ended(phase: str, kind: str = "") -> dict[str, Any]:
    """One that a controller of this kind made, or nobody."""
    owners = [{"kind": kind, "name": "jaeger", "controller": True}] if kind else []
    found = pod(conditions=[{"type": "Ready", "status": "False"}])
    found["metadata"]["ownerReferences"] = owners
    found["status"] |= {"phase": phase, "reason": "Evicted"}
    return found


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
@pytest.mark.parametrize("kind", ["ReplicaSet", "Job", ""])
def test_a_pod_that_has_ended_for_good_does_not_count(
    phase: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays as long as nobody deletes it: no `up` would be done, each would be undone."""
    here = pod(conditions=[{"type": "Ready", "status": "True"}])
    monkeypatch.setattr(Cluster, "get", lambda *_: [ended(phase, kind), here])
    assert pods.ours(CLUSTER) == [here]
    assert production.running(CLUSTER) == [here]
    assert helm._is_ready(CLUSTER, helm.Release("harness", (), ()))
    assert helm._is_ready(CLUSTER, helm.Release("tempo", (), (), pods=production.running))


@pytest.mark.parametrize("kind", ["DaemonSet", "StatefulSet"])
def test_a_pod_that_has_ended_and_has_no_other_in_its_place_counts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "get", lambda *_: [ended("Failed", kind)])
    assert not helm._is_ready(CLUSTER, helm.Release("harness", (), ()))
