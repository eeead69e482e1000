"""What our releases made that is in no namespace: found, deleted; for `rollout` and `removal`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.targets.kubernetes.kubectl import Cluster

ROLES = "clusterroles,clusterrolebindings"
ALL = f"{ROLES},validatingwebhookconfigurations,mutatingwebhookconfigurations"


def of(cluster: Cluster, releases: Sequence[str], kinds: str = ALL) -> list[dict[str, Any]]:
    """What of these kinds says that it was made by one of these releases in our namespace."""
    found = cluster.get(kinds, f"--selector=app.kubernetes.io/instance in ({','.join(releases)})")
    return [
        each
        for each in found
        if each["metadata"].get("annotations", {}).get("meta.helm.sh/release-namespace")
        == cluster.namespace
    ]


def delete(cluster: Cluster, one: dict[str, Any]) -> None:
    """Delete one of these."""
    cluster.run("delete", one["kind"], one["metadata"]["name"], "--ignore-not-found")


def called(one: dict[str, Any]) -> str:
    """Its kind and name."""
    return f"{one['kind']} {one['metadata']['name']}"
