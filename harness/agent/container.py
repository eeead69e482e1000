"""The container and the pod that a cgroup's path tells; for `containers`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEX = r"[0-9a-f]"
_ID = re.compile(rf"(?:^|/)(?:[a-z]+(?:-[a-z]+)*-)?({_HEX}{{64}})(?:\.scope)?(?=/|$)")
_POD = re.compile(
    rf"(?:^|/)(?:[a-z-]+-)?pod({_HEX}{{8}}(?:[-_]{_HEX}{{4}}){{3}}[-_]{_HEX}{{12}}|{_HEX}{{32}})"
    r"(?:\.slice)?(?=/|$)"
)
_WATCHER = "conmon-"  # of a container, from outside


@dataclass(frozen=True)
class Container:
    """A container, the pod that it is in, or only one of both; empty is what is not known."""

    id: str = ""
    pod: str = ""


def of_process(pid: int) -> Container | None:
    """The container that a process is in now; None if it has ended, or is in none."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((of_path(line[3:]) for line in lines if line.startswith("0::")), None)


def of_path(path: str) -> Container | None:
    """The container of a cgroup with this path; None if the path has neither container nor pod.

    Kubelets write `kubepods/burstable/pod<uid>/<id>` or, by systemd,
    `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/<runtime>-<id>.scope`
    with `_` for `-` in the uid. A static pod's cgroup has a hash of 32 digits in its place, by
    which the API does not know it: of that one only the container is told. What a container makes
    below its own cgroup is the container's, containers among it.
    """
    pod = _POD.search(path)
    below = path[pod.end() :] if pod else path
    found = next((each for each in _ID.finditer(below) if _WATCHER not in each[0]), None)
    uid = pod[1].replace("_", "-") if pod else ""
    told = Container(found[1] if found else "", uid if "-" in uid else "")
    return told if told.id or told.pod else None
