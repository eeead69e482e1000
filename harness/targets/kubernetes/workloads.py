"""What of a release is not there as helm made it; `production`, `condition` and `meant` ask.

helm calls a release deployed whatever became of its objects since. An upgrade makes those anew that
are gone, and gives a workload its number of pods back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from harness.targets.kubernetes import helm
from harness.targets.kubernetes.kubectl import Cluster

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Service")
_DOCUMENT = re.compile(r"^---.*$", re.MULTILINE)
_METADATA = re.compile(r"^metadata:[ \t]*\n((?:[ #].*\n|\n)*)", re.MULTILINE)


def amiss(cluster: Cluster, release: str = helm.RELEASE) -> list[str]:
    """In sentences, its workloads and Services that are not there, or lack pods."""
    made = list(_objects(cluster, helm.manifest(cluster, release)))
    if not made:
        return []
    kinds = {kind for kind, *_ in made}  # others may be forbidden
    words = ",".join(f"{kind.lower()}s" for kind in KINDS if kind in kinds)
    there = {(each["kind"], each["metadata"]["name"]): each for each in cluster.get(words)}
    said = [_said(kind, name, there.get((kind, name)), text) for kind, name, text in made]
    return list(filter(None, said))


def _said(kind: str, name: str, now: dict[str, Any] | None, document: str) -> str:
    """What is amiss of it as it is now; nothing if it is as it should be."""
    if now is None:
        return f"The {kind} {name} is not there."
    spec, status = now.get("spec", {}), now.get("status", {})
    if kind == "Service":
        return ""
    if kind == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    else:
        wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
        if not wanted and _value("replicas", document) not in ("", "0"):
            return f"The {kind} {name} was told to have no pods."
    return f"The {kind} {name} has {ready} of {wanted} pods ready." if ready < wanted else ""


def _objects(cluster: Cluster, manifest: str) -> Iterator[tuple[str, str, str]]:
    """Kind, name and document of what is of these kinds, and in our namespace.

    helm tells them as YAML, for which Python has no reader of its own.
    """
    for document in _DOCUMENT.split(manifest):
        kind, metadata = _value("kind", document, ""), _METADATA.search(f"{document}\n")
        if kind not in KINDS or metadata is None:
            continue
        if _value("namespace", metadata[1]) in ("", cluster.namespace):
            yield kind, _value("name", metadata[1]), document


def _value(key: str, document: str, indent: str = "  ") -> str:
    """What a key has that stands so far in, without its quotes; empty if it is not there."""
    found = re.search(rf"^{indent}{key}:[ \t]*(.*)$", document, re.MULTILINE)
    return found[1].partition(" #")[0].strip().strip("\"'") if found else ""
