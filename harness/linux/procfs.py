"""What /proc tells of processes: names, cgroups, namespaces, sockets, descent; nothing is cached.

A process may end at any moment: what is asked of one that is gone is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

V2 = ""
"""The key of cgroup v2 in `Procfs.cgroups`."""


@dataclass(frozen=True)
class Procfs:
    """A mounted /proc, or a recorded one."""

    root: Path = Path("/proc")

    def pids(self) -> list[int]:
        """All processes."""
        return [int(name) for name in os.listdir(self.root) if name.isdecimal()]

    def name(self, pid: int | str) -> str:
        """The process's comm, of at most 15 bytes, fit to be printed."""
        raw = os.fsencode(self.text(pid, "comm").removesuffix("\n"))
        return raw.decode(errors="replace") or "gone"

    def argv(self, pid: int | str) -> list[str]:
        """Its command line; empty for kernel threads."""
        words = self.text(pid, "cmdline").rstrip("\0")  # some titles end without
        return words.split("\0") if words else []

    def cgroups(self, pid: int | str) -> dict[str, str]:
        """Its cgroup in each hierarchy, by the names of the controllers; `V2` is cgroup v2."""
        lines = [line.split(":", 2) for line in self.text(pid, "cgroup").split("\n")]
        return {line[1]: line[2] for line in lines if len(line) == 3}

    def started(self, pid: int | str) -> int | None:
        """When it started, in clock ticks since boot; None if it is dead or a zombie."""
        fields = self._stat(pid)
        return int(fields[19]) if fields and fields[0] not in "ZX" else None

    def parent(self, pid: int | str) -> int:
        """Its parent's pid; 0 if it has none here."""
        fields = self._stat(pid)
        return int(fields[1]) if fields else 0

    def family(self, pid: int) -> set[int]:
        """The process and all that descend from it."""
        children: dict[int, list[int]] = {}
        for other in self.pids():
            children.setdefault(self.parent(other), []).append(other)
        found, waiting = set(), [pid]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += children.get(each, ())
        return found

    def namespace(self, pid: int | str, kind: str) -> int:
        """The inode of its namespace (`net`, `pid`, `mnt`), 0 if it cannot be seen."""
        try:
            link = os.readlink(self.root / str(pid) / "ns" / kind)
        except OSError:
            return 0
        return int(link.partition("[")[2].rstrip("]"))

    def sockets(self, pid: int | str) -> set[int]:
        """The inodes of the sockets that it holds; none if its descriptors cannot be seen."""
        return set(self._sockets(pid))

    def text(self, pid: int | str, name: str) -> str:
        """A file of its folder; what is no UTF-8 in it comes as surrogates."""
        try:
            return (self.root / str(pid) / name).read_bytes().decode(errors="surrogateescape")
        except OSError:
            return ""

    def _stat(self, pid: int | str) -> list[str]:
        return self.text(pid, "stat").rpartition(")")[2].split()

    def _sockets(self, pid: int | str) -> Iterator[int]:
        folder = self.root / str(pid) / "fd"
        try:
            for descriptor in os.listdir(folder):
                target = os.readlink(folder / descriptor)
                if target.startswith("socket:["):
                    yield int(target[8:-1])
        except OSError:  # it ended meanwhile, or is not ours to see
            return


HOST = Procfs()
"""The /proc of this process."""
