"""Who of the cgroup ended, as the kernel half of `guard` remembers it; used by opens and guard.

It forgets those who ended longest ago, so it also counts how many there were: where so many ended
since the last look that some may be forgotten, nobody can say that an unknown process was not of
the cgroup.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from harness.agent.libbpf import Object
from harness.agent.telemetry import Value
from harness.agent.text import text

LAYOUT = struct.Struct("=QQQI16s4x")  # struct ended
_FEWEST, _OF_A_CPU, _MOST = 4096, 2048, 65536


def entries(cpus: int) -> int:
    """How many are remembered: all of a second, of a machine that does little but start programs.

    Some hundred for each CPU are kept free by the kernel: no more than half are counted on.
    """
    return min(max(_FEWEST, _OF_A_CPU * cpus), _MOST)


@dataclass(frozen=True)
class Process:
    """One that ended: its attributes, its cgroup, and which of its programs it was then."""

    process: Mapping[str, Value]
    cgroup: int
    program: int


class Ended:
    """Finds them by their number."""

    def __init__(self, obj: Object) -> None:
        self._object, self._map = obj, obj.map("ended")
        self._exits = self._exits_before = 0

    def look(self) -> None:
        """Begin a look; who ended since the last one began is asked for until the next one."""
        self._exits_before, self._exits = self._exits, self._counted()

    def forgets(self) -> bool:
        """Whether so many ended since the last look began that some of them may be unknown."""
        return self._counted() - self._exits_before > self._map.max_entries // 2

    def find(self, pid: int, since_ns: int) -> Process | None:
        """Who ended with this number, no earlier than that: before it was another one's."""
        value = self._map.lookup(pid.to_bytes(4, "little"))
        if value is None:
            return None
        ended_ns, group, program, parent, comm = LAYOUT.unpack(value)
        if ended_ns < since_ns:
            return None
        process: dict[str, Value] = {
            "process.pid": pid,
            "process.parent_pid": parent,
            "process.executable.name": text(comm.split(b"\0", 1)[0]),
        }
        return Process(process, group, program)

    def _counted(self) -> int:
        return int.from_bytes(self._object.get("exits"), "little")
