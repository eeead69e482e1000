"""What the production profile needs of a cluster beside what every roll-out does.

`production` asks before it makes anything, and for its plan; `storage` whether volumes are made.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.targets.kubernetes import preflight
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.preflight import Check

_PERMISSIONS = (
    "customresourcedefinitions.apiextensions.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "statefulsets.apps",
    "persistentvolumeclaims",
)
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_OPERATORS = (
    "--selector=app.kubernetes.io/name in "
    "(prometheus-operator,kube-prometheus-stack-prometheus-operator)"
)


def checks(cluster: Cluster, machine: str) -> Iterator[Check]:
    """Each thing that must be so; if the API does not answer, only that."""
    general = list(preflight.cluster(cluster, machine))
    yield from general
    if general[0].ok:
        yield storage(cluster)
        yield alone(cluster)
        for resource in _PERMISSIONS:
            yield _may(cluster, resource)


def storage(cluster: Cluster) -> Check:
    """Whether volumes are made for claims that name no class."""
    classes = cluster.get("storageclasses")
    default = [
        each["metadata"]["name"]
        for each in classes
        if each["metadata"].get("annotations", {}).get(_DEFAULT) == "true"
    ]
    named = ", ".join(each["metadata"]["name"] for each in classes)
    there = f"there are {named}" if named else "there is none at all"
    return Check(
        "there is a default StorageClass", bool(default), ", ".join(default) or there,
        f"Make one the default: kubectl annotate storageclass NAME {_DEFAULT}=true.",
    )  # fmt: skip


def alone(cluster: Cluster) -> Check:
    """Whether no namespace but ours has a Prometheus operator."""
    found = cluster.get("deployments", "--all-namespaces", _OPERATORS)
    others = sorted({each["metadata"]["namespace"] for each in found} - {cluster.namespace})
    return Check(
        "no other Prometheus operator is there", not others,
        f"one is in {', '.join(others)}" if others else "",
        "Two would take each other's objects: remove that one, or take --profile poc.",
    )  # fmt: skip


def _may(cluster: Cluster, resource: str) -> Check:
    done = cluster.run("auth", "can-i", "create", resource, check=False)
    allowed = done.stdout.strip().startswith("yes")
    hint = f"Ask for a role that may create {resource} in the whole cluster."
    return Check(f"may create {resource}", allowed, "" if allowed else "no", hint)
