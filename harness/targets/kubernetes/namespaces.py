"""A namespace that is ours: made, told from another's; `rollout` and `target` use it."""

from __future__ import annotations

from typing import Any

from harness.errors import NeedError
from harness.targets.kubernetes.kubectl import MANAGER, Cluster, labels

MANAGED = "app.kubernetes.io/managed-by"


PURPOSE = "harness/purpose"
STACK, PRODUCTION, EVALUATION = "stack", "production", "evaluation"
"""What it is for: what removes those of one purpose leaves the others alone."""
FOR_EVALUATION = "harness-evaluate"
"""What that of evaluations is called, unless another name is given."""


def make(cluster: Cluster, option: str, purpose: str = STACK) -> bool:
    """Make it, with room for pods that need more than others may have; whether it was not there.

    NeedError as `require` has it.
    """
    is_new = require(cluster, option, purpose)
    security = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn")}
    given = labels({**security, **({} if purpose == STACK else {PURPOSE: purpose})})
    metadata = {"name": cluster.namespace, "labels": given}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return is_new


def require(cluster: Cluster, option: str, purpose: str = STACK) -> bool:
    """Whether it is not there; NeedError if it is and is not ours, or ours for another purpose.

    `option` is how another one is named.
    """
    is_new = not cluster.get("namespace", cluster.namespace)
    if not is_new and not is_ours(cluster, purpose):
        raise NeedError(
            f"The namespace {cluster.namespace} is there, and `harness` did not make it for this.",
            "What is in it could be another's, and would go with it.",
            f"Take another one: {option}.",
        )
    return is_new


def by_hand(cluster: Cluster) -> list[str]:
    """The commands that make it as ours, for what has to be in it first; none if it is there."""
    if cluster.get("namespace", cluster.namespace):
        return []
    kubectl = " ".join(["kubectl", *cluster.where])
    return [
        f"{kubectl} create namespace {cluster.namespace}",
        f"{kubectl} label namespace {cluster.namespace} {MANAGED}={MANAGER}",
    ]


def is_ours(cluster: Cluster, purpose: str = STACK) -> bool:
    """Whether it is there, and we made it for this."""
    return _ours(cluster, purpose) is not None


def since(cluster: Cluster, purpose: str = STACK) -> str:
    """When it was made, as the API writes that; empty where `is_ours` is false."""
    found = _ours(cluster, purpose)
    return str(found["creationTimestamp"]) if found is not None else ""


def _ours(cluster: Cluster, purpose: str) -> dict[str, Any] | None:
    for found in cluster.get("namespace", cluster.namespace):
        metadata: dict[str, Any] = found["metadata"]
        given = metadata.get("labels", {})
        if given.get(MANAGED) == MANAGER and given.get(PURPOSE, STACK) == purpose:
            return metadata
    return None
