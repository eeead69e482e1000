"""The proof of concept in a cluster that is there, with a helm and a kubectl of the test's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ComponentError, NeedError
from harness.linux import processes
from harness.targets.kubernetes import (
    condition,
    helm,
    images,
    namespaces,
    node_check,
    node_pod,
    preflight,
    production,
    proof,
    rollout,
    workloads,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster, refusal
from harness.targets.kubernetes.target import InCluster
from tests.unit.helmed import Told, on_path

CLUSTER = Cluster("shop", "harness")
THERE = Options("existing", context="shop")
OURS = {"app.kubernetes.io/managed-by": "harness"}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(node_check, "require", lambda *_: None)
    return on_path(tmp_path, monkeypatch)


def installed(told: Told) -> dict[str, Any]:
    """The values that the release has."""
    found: dict[str, Any] = json.loads((told.folder / "helm.harness.config").read_text())
    return found


def arguments(values: dict[str, Any]) -> str:
    return " ".join(word for one in values["components"].values() for word in one["args"])


def test_a_release_of_our_name_in_a_namespace_of_somebody_else_is_left_alone(told: Told) -> None:
    told.release("harness")
    role = {"release-namespace": "harness", "release-name": "harness"}
    named = {f"meta.helm.sh/{key}": value for key, value in role.items()}
    told.answers(
        "clusterroles", {"kind": "ClusterRole", "metadata": {"name": "x", "annotations": named}}
    )
    told.answers("namespace", {"metadata": {"name": "harness"}})
    with pytest.raises(NeedError, match="did not make it for this"):
        rollout.down(THERE, print)
    assert (told.helm, told.kubectl) == ([], [])
    told.answers("namespace", {"metadata": {"name": "harness", "labels": OURS}})
    done = rollout.down(THERE, print)
    assert done[0] == "The release was uninstalled."
    assert done[-1] == "The namespace harness was deleted."
    assert told.helm[0][:2] == ["uninstall", "harness"]


def test_an_upgrade_keeps_data_for_as_long_as_was_said_once(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(THERE, dashboards="none", storage="10Gi", retention_hours=720)
    rollout.up(asked, print)
    assert "retention.time=720h" in arguments(installed(told))
    monkeypatch.setattr(images, "name", lambda: "localhost/node:2")  # a later release
    later = replace(THERE, dashboards="none")
    assert rollout.up(later, print).changed
    assert installed(told)["storage"]["size"] == "10Gi"
    assert "retention.time=720h" in arguments(installed(told))
    assert not rollout.up(later, print).changed
    rollout.up(replace(later, retention_hours=24), print)
    assert "retention.time=24h" in arguments(installed(told))


def test_a_release_of_before_says_by_its_arguments_how_long_it_keeps_data(told: Told) -> None:
    rollout.up(replace(THERE, dashboards="none", retention_hours=720), print)
    values = installed(told)
    del values["retentionHours"]
    (told.folder / "helm.harness.config").write_text(json.dumps(values))
    assert condition.status(THERE)["release"]["retention_hours"] == 720


@pytest.mark.parametrize(
    ("statuses", "good"),
    [
        (["superseded", "deployed", "pending-upgrade"], "2"),
        (["deployed", "failed", "pending-rollback"], "1"),  # the last but one never ran
        (["deployed", "superseded", "failed", "pending-rollback"], "1"),  # nor did this one
        (["superseded", "superseded", "pending-upgrade"], "2"),
    ],
)
def test_a_killed_upgrade_is_settled_by_the_last_revision_that_ran(
    told: Told, monkeypatch: pytest.MonkeyPatch, statuses: list[str], good: str
) -> None:
    waited: list[float] = []
    run = processes.run

    def noted(argv: Any, *, timeout: float, **more: Any) -> Any:
        if "rollback" in argv:
            waited.append(timeout)
        return run(argv, timeout=timeout, **more)

    monkeypatch.setattr(processes, "run", noted)
    told.release("harness", statuses[-1], len(statuses))
    told.history("harness", *statuses)
    helm.settle(CLUSTER)
    (line,) = told.helm
    assert line[:3] == ["rollback", "harness", good]
    assert waited[0] > helm.READY_SECONDS  # it would be killed while it waits, and be pending again
    assert f"--timeout={helm.READY_SECONDS}s" in line


def test_a_killed_upgrade_of_what_never_ran_is_removed(told: Told) -> None:
    told.release("harness", "pending-upgrade", 2)
    told.history("harness", "failed", "pending-upgrade")
    helm.settle(CLUSTER)
    assert [line[:2] for line in told.helm] == [["uninstall", "harness"]]


@pytest.mark.parametrize(
    ("status", "version"), [("pending-install", 1), ("failed", 1), ("uninstalling", 3)]
)
def test_what_is_half_made_or_half_removed_is_removed(
    told: Told, status: str, version: int
) -> None:
    told.release("harness", status, version)
    helm.settle(CLUSTER)
    assert [line[:2] for line in told.helm] == [["uninstall", "harness"]]


MANIFEST = """---
# Source: poc/templates/agents.yaml
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: agents
  labels:
    app.kubernetes.io/name: other
spec:
  replicas: 7
---
# Source: poc/templates/components.yaml
kind: ConfigMap
metadata:
  name: jaeger
data:
  text: |
    kind: Deployment
---
apiVersion: apps/v1
kind: "Deployment" # a comment
metadata:
  labels:
    name: other

  # of it
  name: "jaeger"
spec:
  replicas: 1
---
kind: Service
metadata:
  name: jaeger
---
kind: Service
metadata:
  name: kubelet
  namespace: kube-system
---
kind: StatefulSet
metadata:
  name: none
spec:
  replicas: 0
"""


def workload(kind: str, name: str, wanted: int = 1, ready: int = 1) -> dict[str, Any]:
    status = {"readyReplicas": ready, "desiredNumberScheduled": wanted, "numberReady": ready}
    spec = {"replicas": wanted}
    return {"kind": kind, "metadata": {"name": name, "namespace": "harness"},
            "spec": spec, "status": status}  # fmt: skip


AGENTS, JAEGER = workload("DaemonSet", "agents", 3, 3), workload("Deployment", "jaeger")
SERVICE = {"kind": "Service", "metadata": {"name": "jaeger", "namespace": "harness"}}
NONE = workload("StatefulSet", "none", 0, 0)
POD = {
    "metadata": {"name": "jaeger-1", "labels": {}},
    "spec": {"containers": []},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([AGENTS, JAEGER, SERVICE, NONE], []),
        ([AGENTS, SERVICE, NONE], ["The Deployment jaeger is not there."]),
        ([JAEGER, SERVICE, NONE], ["The DaemonSet agents is not there."]),
        ([AGENTS, JAEGER, NONE], ["The Service jaeger is not there."]),
        ([AGENTS, JAEGER, SERVICE], ["The StatefulSet none is not there."]),
        (
            [AGENTS, workload("Deployment", "jaeger", 0, 0), SERVICE, NONE],
            ["The Deployment jaeger was told to have no pods."],
        ),
        (
            [workload("DaemonSet", "agents", 3, 2), workload("Deployment", "jaeger", 1, 0), SERVICE,
             NONE],
            ["The DaemonSet agents has 2 of 3 pods ready.",
             "The Deployment jaeger has 0 of 1 pods ready."],
        ),
    ],
)  # fmt: skip
def test_what_is_gone_from_a_release_is_told(told: Told, there: list[Any], said: list[str]) -> None:
    (told.folder / "helm.harness.manifest").write_text(MANIFEST)
    told.answers("deployments", *there)
    assert workloads.amiss(CLUSTER) == said


def test_up_makes_anew_what_is_gone_and_status_names_it(told: Told) -> None:
    asked = replace(THERE, dashboards="none")
    rollout.up(asked, print)
    (told.folder / "helm.harness.manifest").write_text(MANIFEST)
    told.answers("deployments", AGENTS, JAEGER, SERVICE, NONE)
    told.answers("pods", POD)
    assert not rollout.up(asked, print).changed
    assert condition.status(THERE)["ready"]
    told.answers("deployments", AGENTS, SERVICE, NONE)
    found = condition.status(THERE)
    assert (found["ready"], found["amiss"]) == (False, ["The Deployment jaeger is not there."])
    told.forget()
    assert rollout.up(asked, print).changed
    assert [line[:3] for line in told.helm] == [["upgrade", "--install", "harness"]]


def test_of_the_profile_production_the_one_release_is_upgraded_that_lost_something(
    told: Told,
) -> None:
    asked = replace(THERE, profile="production")
    production.up(asked, print)
    (told.folder / "helm.otel-gateway.manifest").write_text(MANIFEST)
    told.answers("deployments", AGENTS, JAEGER, SERVICE, NONE)
    told.answers("pods", POD)
    assert not production.up(asked, print).changed
    assert production.status(asked)["ready"]
    told.answers("deployments", AGENTS, JAEGER, SERVICE)
    found = production.status(asked)
    assert (found["ready"], found["amiss"]) == (False, ["The StatefulSet none is not there."])
    told.forget()
    assert production.up(asked, print).changed
    assert [line[2] for line in told.helm] == ["otel-gateway"]


def fails(*_: Any, **__: Any) -> Any:
    raise ComponentError("No span came.", "", "Look.")


def test_what_is_installed_stays_after_a_failed_proof_which_is_told(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    asked = replace(THERE, dashboards="none")
    monkeypatch.setattr(proof, "prove", fails)
    with pytest.raises(ComponentError, match="No span came"):
        rollout.up(asked, said.append)
    assert said[-1].startswith("what was installed in harness stays")
    assert [line[0] for line in told.helm] == ["upgrade"]
    said.clear()
    with pytest.raises(ComponentError):  # it was there before: this call installed nothing
        rollout.up(asked, said.append)
    assert "stays" not in said[-1]


@pytest.mark.parametrize("profile", ["poc", "production"])
def test_a_namespace_that_is_going_is_waited_for(
    told: Told, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    up = production.up if profile == "production" else rollout.up
    asked, said = replace(THERE, profile=profile, dashboards="none"), list[str]()
    going = {"name": "harness", "labels": OURS, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    told.answers("namespace", {"metadata": going})
    monkeypatch.setattr(namespaces, "_GONE_SECONDS", -1.0)
    with pytest.raises(NeedError, match="is being deleted, and is not gone"):
        up(asked, print)
    assert (told.helm, told.kubectl) == ([], [])
    monkeypatch.setattr(namespaces, "_GONE_SECONDS", 60.0)
    monkeypatch.setattr(namespaces, "_LOOK_SECONDS", 0.01)

    def tell(line: str) -> None:
        said.append(line)
        if line == waits:
            told.answers("namespace")

    waits = "waiting until the namespace harness is gone"
    assert up(asked, tell).changed
    assert said.count(waits) == 1


def test_a_namespace_of_evaluations_that_is_going_is_waited_for(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the run before, which is over when it has asked for this."""
    target, said = InCluster("existing", "context=shop"), list[str]()
    name = namespaces.FOR_EVALUATION
    labels = {**OURS, namespaces.PURPOSE: namespaces.EVALUATION}
    going = {"name": name, "labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z"}
    told.answers("namespace", {"metadata": going})
    told.answers("nodes", {"metadata": {"name": "worker"}, "spec": {}})
    monkeypatch.setattr(preflight, "require", lambda _: None)
    monkeypatch.setattr(node_pod, "await_ready", lambda *_: None)
    monkeypatch.setattr(namespaces, "_GONE_SECONDS", -1.0)
    with pytest.raises(NeedError, match=f"{name} is being deleted, and is not gone") as caught:
        target.prepare(said.append)
    assert "--target KIND,namespace=NAME" in caught.value.next_step
    assert told.applied == []
    monkeypatch.setattr(namespaces, "_GONE_SECONDS", 60.0)
    monkeypatch.setattr(namespaces, "_LOOK_SECONDS", 0.01)

    def tell(line: str) -> None:
        if line == f"waiting until the namespace {name} is gone":
            told.answers("namespace")

    target.prepare(tell)
    assert [each["kind"] for each in told.applied][:2] == ["Namespace", "Pod"]


def test_commands_that_a_person_may_type_name_the_cluster(told: Told) -> None:
    with pytest.raises(ComponentError) as caught:
        proof._require_all(CLUSTER, production.stack(), ["traces"], {})
    assert "kubectl --context=shop -n harness logs daemonset/agents" in caught.value.next_step
    for said in ("forbidden", "Unable to connect to the server"):
        step = refusal(CLUSTER, "`helm status`", said).next_step
        assert "kubectl --context=shop -n harness get nodes" in step
