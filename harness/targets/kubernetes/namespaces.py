"""A namespace that is ours: made, told from another's; `rollout` and `node_pod` use it."""

from __future__ import annotations

from harness.errors import NeedError
from harness.targets.kubernetes.kubectl import MANAGER, Cluster, labels

MANAGED = "app.kubernetes.io/managed-by"


def make(cluster: Cluster, option: str) -> bool:
    """Make it, with room for pods that need more than others may have; whether it was not there.

    NeedError if it is there and not ours; `option` names another one.
    """
    found = cluster.get("namespace", cluster.namespace)
    if found and not is_ours(cluster):
        raise NeedError(
            f"The namespace {cluster.namespace} is there, and `harness` did not make it.",
            "What is in it could be another's.",
            f"Take another one: {option}.",
        )
    security = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn")}
    metadata = {"name": cluster.namespace, "labels": labels(security)}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return not found


def is_ours(cluster: Cluster) -> bool:
    """Whether it is there, and we made it."""
    found = cluster.get("namespace", cluster.namespace)
    return bool(found) and found[0]["metadata"].get("labels", {}).get(MANAGED) == MANAGER
