"""Volumes for what components keep, and for how long; for `rollout` and `condition`.

Without one, a component's data are its pod's, and go with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import InputError
from harness.stack.config import Stack
from harness.targets.kubernetes import needs, preflight
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.preflight import Check

_SIZE = re.compile(r"[1-9]\d*(Mi|Gi|Ti)")


def check(size: str, name: str) -> None:
    """InputError unless this is a size, or nothing; `name` is that of a StorageClass."""
    if name and not size:
        raise InputError(
            "--storage-class says nothing without --storage.",
            next_step="Say how large: --storage 10Gi.",
        )
    if size and not _SIZE.fullmatch(size):
        raise InputError(
            f"{size!r} is no size of a volume.",
            "It is a whole number of Mi, Gi or Ti.",
            "Say for instance --storage 10Gi.",
        )


def wanted(size: str, name: str, release: Mapping[str, Any] | None) -> dict[str, str]:
    """The chart's value: `size` and `class`; nothing if data are the pods'.

    A release that has volumes keeps them when nothing is said of them: an upgrade loses no data.
    """
    there = dict(release["storage"]) if release else {}
    return {"size": size, "class": name or there.get("class", "")} if size else there


def of(components: Mapping[str, Any]) -> list[str]:
    """Who of these, as the chart has them, gets a volume."""
    return sorted(name for name, one in components.items() if not one.get("inMemory"))


def retention(hours: int | None, release: Mapping[str, Any] | None) -> int:
    """Hours for which data are kept: when nothing is said, those of the release that is there.

    One that kept them for less would delete what is older.
    """
    return hours or (release or {}).get("retention_hours") or Stack.retention_hours


def checks(cluster: Cluster, asked: Mapping[str, str]) -> Iterator[Check]:
    """Whether such claims may be made, and somebody makes volumes for them."""
    if not asked:
        return
    yield preflight.may(cluster, "create", "persistentvolumeclaims")
    if not asked["class"]:
        yield needs.storage(cluster)
        return
    name = asked["class"]
    found = [each["metadata"]["name"] for each in cluster.get("storageclasses")]
    yield Check(
        f"there is a StorageClass {name}", name in found,
        f"there are: {', '.join(found) or 'none'}",
        "Name one of them with --storage-class.",
    )  # fmt: skip
