"""Packets for a cgroup's sockets that the kernel dropped, by its reason; for `flows`.

The tracepoint tells whose socket a packet was for since Linux 6.11. Reasons have numbers that are
each kernel's own: their names are those of its type information.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.agent import layouts
from harness.agent.container import Container
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.library import LIB, existing, give_back_memory
from harness.agent.telemetry import Metric, Point, counter
from harness.agent.together import Together

KEY = struct.Struct("=IB3xQ")  # struct dropped
PROGRAM = "on_drop"
_SINCE = (6, 11)
_TRANSPORTS = {6: "tcp", 17: "udp"}
_ENUM = 6  # BTF_KIND_ENUM
_PREFIX = "SKB_DROP_REASON_"

Series = tuple[Container | None, int, int]  # and protocol and reason


@dataclass(frozen=True)
class Dropped:
    """How many packets of one transport were dropped for one reason."""

    container: Container | None
    transport: str
    reason: str
    number: int


class Drops:
    """Reads what the program counts; nothing of it is loaded unless it is `wanted`."""

    def __init__(self, containers: Together, *, wanted: bool = False) -> None:
        self._containers, self.wanted = containers, wanted
        self._kept: Counter[Series] = Counter()  # of cgroups that went before their container

    def configure(self, obj: Object) -> None:
        """Leave it out, or AgentError where the kernel does not tell whose packets they were."""
        if not self.wanted:
            obj.program(PROGRAM).skip()
            obj.map("drops").skip()
            return
        release = os.uname().release
        if tuple(map(int, re.findall(r"\d+", release)[:2])) < _SINCE:
            raise AgentError(
                f"Linux {release} does not tell whose packets it dropped.",
                "The tracepoint skb/kfree_skb says so since 6.11.",
                "Leave `drops` out.",
            )
        layouts.check(obj, "dropped", KEY)

    def start(self, obj: Object) -> None:
        """Learn the kernel's reasons; the object is loaded."""
        if self.wanted:
            self._map, self._reasons = obj.map("drops"), reasons()

    def read(self) -> list[Dropped]:
        """All that was counted since the start."""
        counted = Counter(self._kept)
        for key, value in self._map.items() if self.wanted else ():
            reason, protocol, cgroup = KEY.unpack(key)
            series = self._containers.find(cgroup), protocol, reason
            counted[series] += int.from_bytes(value, sys.byteorder)
        return [
            Dropped(of, _TRANSPORTS[protocol], self._reasons.get(reason, str(reason)), number)
            for (of, protocol, reason), number in counted.items()
        ]

    def forget(self, gone: Mapping[int, Container | None]) -> None:
        """Give the room of these cgroups to others; their counters go on with their container."""
        for key in list(self._map.keys()) if gone and self.wanted else ():
            reason, protocol, cgroup = KEY.unpack(key)
            if cgroup in gone and (value := self._map.take(key)) is not None:
                number = int.from_bytes(value, sys.byteorder)
                self._kept[gone[cgroup], protocol, reason] += number
        for series in [each for each in self._kept if not self._containers.lasts(each[0])]:
            del self._kept[series]


def metrics(dropped: Sequence[Dropped]) -> Iterator[Metric]:
    """One for each transport that lost something."""
    for transport in _TRANSPORTS.values():
        points = [
            Point({"network.transport": transport, "error.type": each.reason}, each.number)
            for each in dropped
            if each.transport == transport
        ]
        if points:
            said = "Received packets that the kernel dropped, by its reason."
            yield counter(f"{transport}.packets.dropped", "{packet}", points, said)


def reasons() -> dict[int, str]:
    """The names of this kernel's reasons, by their numbers."""
    types = existing(LIB.btf__load_vmlinux_btf(), "The kernel's type information cannot be read.")
    try:
        number = LIB.btf__find_by_name_kind(types, b"skb_drop_reason", _ENUM)
        if number < 0:
            return {}
        at = LIB.btf__type_by_id(types, number)  # struct btf_type, then struct btf_enum[]
        _, info, _ = struct.unpack("=III", ctypes.string_at(at, 12))
        values = struct.iter_unpack("=Ii", ctypes.string_at(at + 12, 8 * (info & 0xFFFF)))
        names = {value: LIB.btf__name_by_offset(types, name).decode() for name, value in values}
    finally:
        LIB.btf__free(types)
        give_back_memory()
    return {value: name.removeprefix(_PREFIX).lower() for value, name in names.items()}
