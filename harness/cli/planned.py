"""What `up --plan` says first: what would be made, or changed of what is there; for `cluster`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.targets.kubernetes import standing


def stack(found: Mapping[str, Any]) -> str:
    """What would be made, or changed of what is there."""
    nodes = found["cluster"]["nodes"] if "cluster" in found else []
    namespace = f"the namespace {found['namespace']}"
    if there := found.get("standing"):
        would = {
            standing.ABSENT: f"Would make in it {namespace}, from these images",
            standing.OTHER: f"Would change what {namespace} in it has, to what these images make",
            standing.SAME: f"Would change nothing: {namespace} in it has what these images make",
        }
        name = found["cluster"]["name"]
        return f"The cluster {name} of kind is there, of {len(nodes)} nodes. {would[there]}"
    upgraded = found["cluster"].get("upgrade", "") if nodes else ""
    which = f" of Kubernetes {upgraded}" if upgraded else ""
    what = f"a cluster of {len(nodes)} nodes{which}, in it " if nodes else ""
    return f"Would make {what}{namespace}, from these images"


def charts(found: Mapping[str, Any]) -> str:
    """What would be installed, or what of it is there."""
    where = f"the namespace {found['namespace']}"
    if found["target"] != "kind":
        return f"Would install into {where}, in this order"
    if "standing" not in found:
        return f"Would make a cluster, and install into {where} in it, in this order"
    there = f"The cluster {found['cluster']['name']} of kind is there"
    if found["standing"] == standing.SAME:
        return f"{there}, and {where} in it has all of this: nothing would be changed"
    return f"{there}. Would install into {where} in it, in this order, what is not there"
