"""What a real API server's admission says of our pods: Pod Security, and a policy of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import NeedError
from harness.linux import processes
from harness.stack.config.description import KEEPS
from harness.targets.kubernetes import helm as product
from harness.targets.kubernetes import namespaces, node_check, values
from harness.targets.kubernetes.kubectl import Cluster
from tests.cluster import programs, simulated
from tests.cluster.simulated import Simulated
from tests.waiting import until

pytestmark = pytest.mark.cluster

IMAGE = "localhost/node:1"
OTHERS = {**KEEPS, "traces": "tempo", "logs": "loki", "profiles": "parca"}
POLICY = "admissionregistration.k8s.io/v1"
REFUSING = [
    {
        "apiVersion": POLICY,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-host-pids"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                        "operations": ["CREATE"],
                    }
                ]
            },
            "validations": [
                {
                    "expression": "!has(object.spec.hostPID) || !object.spec.hostPID",
                    "message": "nobody here may see the processes of a node",
                }
            ],
        },
    },
    {
        "apiVersion": POLICY,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-host-pids"},
        "spec": {"policyName": "no-host-pids", "validationActions": ["Deny"]},
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def simulation(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    for name in ("kubernetes", "etcd", "kwok"):
        if not programs.folder(name).exists():
            pytest.skip(f"{name} is not in the cache: `make test-cluster` builds it")
    with simulated.running(tmp_path_factory.mktemp("simulated"), 1) as running:
        yield running


def cluster(simulation: Simulated, namespace: str) -> Cluster:
    return Cluster("simulated", namespace, simulation.kubeconfig, simulation.environment)


@pytest.mark.parametrize("keeps", [KEEPS, OTHERS])
def test_all_pods_but_agents_are_admitted_where_pods_are_restricted(
    simulation: Simulated, tmp_path: Path, keeps: Mapping[str, str]
) -> None:
    file, strict = tmp_path / "values.json", f"strict-{keeps['traces']}"
    stack = values.stack("simulated", grafana=True, keeps=keeps)
    file.write_text(json.dumps(values.values(stack, IMAGE)))
    argv = ["helm", "template", "harness", str(product.CHART), "--kube-version=1.34.4"]
    done = processes.run([*argv, f"--values={file}"], env=simulation.environment)
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    there = cluster(simulation, strict)
    label = "pod-security.kubernetes.io/enforce=restricted"
    simulation.kubectl("create", "namespace", strict)
    simulation.kubectl("label", "namespace", strict, label)
    assert until(lambda: there.get("serviceaccount", "default"))
    said = {
        each["metadata"]["name"]: there.refuses(pod(each))
        for each in objects
        if each["kind"] in ("Deployment", "DaemonSet")
    }
    assert {name for name, why in said.items() if why} == {"agents"}
    assert len(said) == len(stack.hosts) + 4  # go, flask, load and agents
    for part in ("hostPID=true", "hostPath", "unrestricted capabilities", "runAsUser=0"):
        assert part in said["agents"]
    assert "privileged=true" not in said["agents"]


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    """A pod of its template, by itself."""
    template = workload["spec"]["template"]
    spec = {**template["spec"], "serviceAccountName": "default"}
    metadata = {"name": workload["metadata"]["name"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_a_policy_that_refuses_such_pods_is_told_in_its_words(
    simulation: Simulated, tmp_path: Path
) -> None:
    there = cluster(simulation, "shop")
    namespaces.make(there, "--namespace")
    node_check.require_admitted(there, IMAGE)
    assert not there.get("pods")  # it was not made
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": REFUSING}))
    simulation.kubectl("create", f"--filename={file}")
    try:
        assert until(lambda: refused(there), 60)
        with pytest.raises(NeedError, match="no privileged pods in the namespace shop") as no:
            node_check.require_admitted(there, IMAGE)
        assert "nobody here may see the processes of a node" in no.value.why
        assert "leave this namespace out" in no.value.next_step
    finally:
        simulation.kubectl("delete", f"--filename={file}")


def refused(there: Cluster) -> bool:
    """A policy takes effect some moments after it was made."""
    try:
        node_check.require_admitted(there, IMAGE)
    except NeedError:
        return True
    return False
