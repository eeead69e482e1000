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
        kind = found["target"] == "kind"
        within = " in it" if kind else ""
        would = {
            standing.ABSENT: f"Would make{within} {namespace}, from these images",
            standing.OTHER: f"Would change what {namespace}{within} has, to what these images make",
            standing.SAME: f"Would change nothing: {namespace}{within} has what these images make",
        }
        return f"{_kind_is_there(found)}{would[there]}" if kind else would[there]
    upgraded = found["cluster"].get("upgrade", "") if nodes else ""
    which = f" of Kubernetes {upgraded}" if upgraded else ""
    what = f"a cluster of {len(nodes)} nodes{which}, in it " if nodes else ""
    return f"Would make {what}{namespace}, from these images"


def charts(found: Mapping[str, Any]) -> str:
    """What would be installed, or what of it is there."""
    where = f"the namespace {found['namespace']}"
    kind = found["target"] == "kind"
    if kind and "standing" not in found:
        return f"Would make a cluster, and install into {where} in it, in this order"
    there, within = (_kind_is_there(found), " in it") if kind else ("", "")
    told = found.get("standing", standing.ABSENT)
    if told == standing.SAME:
        return f"{there}Would change nothing: {where}{within} has all of this"
    if told == standing.OTHER:
        return f"{there}Would install or upgrade in {where}{within}, in this order, what is to be"
    return f"{there}Would install into {where}{within}, in this order"


def _kind_is_there(found: Mapping[str, Any]) -> str:
    cluster = found["cluster"]
    return f"The cluster {cluster['name']} of kind is there, of {len(cluster['nodes'])} nodes. "
