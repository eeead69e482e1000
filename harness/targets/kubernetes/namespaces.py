"""A namespace that is ours: made, told from another's; `rollout` and `target` use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.errors import NeedError
from harness.targets.kubernetes.kubectl import MANAGER, Cluster, labels

MANAGED = "app.kubernetes.io/managed-by"


PURPOSE = "harness/purpose"
STACK, PRODUCTION, EVALUATION = "stack", "production", "evaluation"
"""What it is for: what removes those of one purpose leaves the others alone."""
FOR_EVALUATION = "harness-evaluate"
"""What that of evaluations is called, unless another name is given."""
_GONE_SECONDS, _LOOK_SECONDS = 300.0, 1.0  # as long as `down` waits for a namespace


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


def await_gone(cluster: Cluster, option: str, tell: Callable[[str], None]) -> None:
    """Until it is not on its way out, as after a `down` or an evaluation that was stopped.

    NeedError if it stays: nothing can be made in it. `option` is how another one is named.
    """
    until, waits = time.monotonic() + _GONE_SECONDS, False
    while any(
        "deletionTimestamp" in each["metadata"]
        for each in cluster.get("namespace", cluster.namespace)
    ):
        if not waits:
            tell(f"waiting until the namespace {cluster.namespace} is gone")
            waits = True
        if time.monotonic() > until:
            raise NeedError(
                f"The namespace {cluster.namespace} is being deleted, and is not gone.",
                f"It was waited for for {_GONE_SECONDS:.0f} s; nothing can be made in it.",
                f"See what holds it: {cluster.shown} get namespace {cluster.namespace} -o yaml; or "
                f"take another one: {option}.",
            )
        time.sleep(_LOOK_SECONDS)


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
