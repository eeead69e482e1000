"""Whether the nodes' kernels take the agents' programs, tried in a pod each; for `rollout` and
`production`.

What a node says of itself through the API does not tell: BTF, hooks and lockdown are to be tried.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from harness.collectors import REGISTRY
from harness.errors import HarnessError, NeedError
from harness.plan import trials
from harness.targets.base import Tell
from harness.targets.kubernetes import node_pod
from harness.targets.kubernetes.kubectl import Cluster

COLLECTORS = ("http", "flows", "guard")
"""Those of the agents' pods, as the chart's values have them."""
_NEW = "looking up service account"  # which a namespace that was just made has not yet
_NEW_SECONDS, _POLL_SECONDS = 30.0, 0.5


def require(
    cluster: Cluster, image: str, collectors: Sequence[str], tell: Tell, pull_secret: str = ""
) -> None:
    """NeedError, naming the node and what its kernel refuses, if a collector cannot run there.

    `pull_secret` is what nodes pull the image with, if they need one. What an `up` left
    there that was killed goes.
    """
    node_pod.remove_orphans(cluster)
    asked = trials.needs({name: REGISTRY[name] for name in collectors if name in REGISTRY})
    said = []
    for kernel, node in kernels(cluster.get("nodes")).items():
        tell(f"trying the collectors' hooks on {node} (Linux {kernel})")
        about = ("unmet", (asked,), pull_secret)
        for told in (node_pod.asked(cluster, node, image, *about) or {}).values():
            said.append(f"On {node}, Linux {kernel}: {HarnessError.from_dict(told)}")
    if said:
        raise NeedError(
            "A node cannot run all collectors.",
            " ".join(said),
            "Take nodes with another kernel, or leave those collectors out.",
        )


def require_admitted(cluster: Cluster, image: str) -> None:
    """NeedError if the cluster admits no pod that looks into its node, as these and agents do.

    A policy of the cluster's own may refuse what the namespace's labels allow.
    """
    manifest, until = node_pod.manifest(node_pod.new(), "", image), time.monotonic() + _NEW_SECONDS
    while _NEW in (said := cluster.refuses(manifest)) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    if said:
        raise NeedError(
            f"The cluster admits no privileged pods in the namespace {cluster.namespace}.",
            f"It says: {said}",
            "Agents load BPF programs. The namespace is labelled for it (pod-security.kubernetes"
            ".io/enforce: privileged): have the policy that refuses it leave this namespace out.",
        )


def kernels(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """One ready node of each kernel, by the kernel's release."""
    found: dict[str, str] = {}
    for node in sorted(nodes, key=lambda each: str(each["metadata"]["name"])):
        if any(
            c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
        ):
            found.setdefault(node["status"]["nodeInfo"]["kernelVersion"], node["metadata"]["name"])
    return found
