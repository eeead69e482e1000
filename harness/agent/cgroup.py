"""The processes of the traced cgroup and who of them listens; used by runtime and collectors."""

from __future__ import annotations

import os
from pathlib import Path

from harness.agent.errors import AgentError

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


def check(cgroup: Path) -> None:
    """AgentError unless `cgroup` is a cgroup v2 directory."""
    if not (cgroup / "cgroup.procs").is_file() or not (cgroup / "cgroup.type").is_file():
        raise AgentError(
            f"{cgroup} is not a cgroup v2 directory.",
            "It does not exist, is the root, or belongs to a v1 hierarchy.",
            "Give a directory below the cgroup2 mount point, see /proc/self/mountinfo.",
        )


def pids(cgroup: Path) -> list[int]:
    """The processes in `cgroup` itself and in the cgroups below it; none when it is gone."""
    lists = [cgroup / "cgroup.procs", *cgroup.glob("**/cgroup.procs")]
    return sorted({int(pid) for each in lists for pid in _lines(each)})


def server_pid(cgroup: Path) -> int | None:
    """The lowest pid that listens on TCP, else the lowest pid, else None."""
    everyone = pids(cgroup)
    return next((pid for pid in everyone if listening_ports(pid)), next(iter(everyone), None))


def listening_ports(pid: int) -> set[int]:
    """The TCP ports on which the process listens, in its own network namespace."""
    open_sockets = _sockets(pid)
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in _lines(Path(f"/proc/{pid}/net/{table}"))[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in open_sockets:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets a process holds; empty when it has just ended."""
    inodes = set()
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(descriptor.path)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        pass
    return inodes


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
