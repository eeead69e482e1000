"""A namespace that is ours: made, told from another's; `rollout` and `node_pod` use it."""

from __future__ import annotations

from harness.errors import NeedError
from harness.targets.kubernetes.kubectl import MANAGER, Cluster, labels

MANAGED = "app.kubernetes.io/managed-by"


PURPOSE = "harness/purpose"
STACK, EVALUATION = "stack", "evaluation"


def make(cluster: Cluster, option: str, purpose: str = STACK) -> bool:
    """Make it, with room for pods that need more than others may have; whether it was not there.

    NeedError if it is there and not ours, or ours for another purpose; `option` names another one.
    """
    found = cluster.get("namespace", cluster.namespace)
    if found and not is_ours(cluster, purpose):
        raise NeedError(
            f"The namespace {cluster.namespace} is there, and `harness` did not make it for this.",
            "What is in it could be another's, and would go with it.",
            f"Take another one: {option}.",
        )
    security = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn")}
    given = labels({**security, **({} if purpose == STACK else {PURPOSE: purpose})})
    metadata = {"name": cluster.namespace, "labels": given}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return not found


def is_ours(cluster: Cluster, purpose: str = STACK) -> bool:
    """Whether it is there, and we made it for this."""
    found = cluster.get("namespace", cluster.namespace)
    given = found[0]["metadata"].get("labels", {}) if found else {}
    return given.get(MANAGED) == MANAGER and given.get(PURPOSE, STACK) == purpose
