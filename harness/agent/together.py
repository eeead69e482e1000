"""What a collector asks about containers, and the answers where nobody follows them.

`containers` has the others; used by `guard`, `flows`, `http`, `profile`, `opens`, `records`.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.agent.container import Container, of_process
from harness.agent.libbpf import Object


class Together:
    """Where containers are not told apart: every record is of none."""

    apart = False
    selects = False  # whether some pods are seen only

    def prepare(self, obj: Object, maps: Sequence[str], key_bytes: int, entries: int) -> None:
        """Let the programs tell cgroups, or not, before they are loaded.

        The maps whose keys end with one have no such end otherwise, and room for `entries` with it.
        """
        self.select(obj)
        obj.set("targ_containers", self.apart)
        for each in map(obj.map, maps):
            if self.apart:
                each.resize(entries)
            else:
                each.cut_keys(key_bytes)

    def select(self, obj: Object) -> None:
        """Let the programs see selected pods only, if there are such, before they are loaded."""

    def start(self, obj: Object) -> None:
        """Tell the programs, which are loaded, what is selected, from now on."""

    def sees_process(self, pid: int) -> bool:
        """Whether a process is of a selected pod, or all are seen."""
        return True

    def turned(self) -> bool:
        """Whether what ran already was selected since this was asked."""
        return False

    def find(self, cgroup: int) -> Container | None:
        """The container that this cgroup is of, or was; None if it is of none."""
        return None

    def find_process(self, pid: int) -> Container | None:
        """The container that a process is in."""
        return of_process(pid) if self.apart else None

    def forgotten(self) -> dict[int, Container | None]:
        """The cgroups that went so long ago that they are known no more, each told once."""
        return {}

    def lasts(self, container: Container | None) -> bool:
        """Whether it still has a cgroup; what is of none has no end."""
        return container is None

    def look(self) -> None:
        """Walk the whole tree: at the start, and when something may have been missed."""

    def close(self) -> None:
        """End what follows it."""
