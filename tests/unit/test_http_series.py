"""Series of containers whose cgroups go one after the other: what was counted stays counted."""

from __future__ import annotations

import ctypes
import struct
import sys
from types import SimpleNamespace
from typing import Any

from harness.agent import http_telemetry
from harness.agent.container import Container
from harness.agent.http import LOST, Http
from harness.agent.http_telemetry import FIGURES

POD = Container("c" * 64, "")
KEY = bytes(ctypes.sizeof(http_telemetry.Key))


class Room(dict[bytes, bytes]):
    """A map of one CPU."""

    value_size = 8 * FIGURES

    def cpu_values(self, value: bytes) -> list[bytes]:
        return [value]

    def delete(self, key: bytes) -> None:
        del self[key]


class Follower:
    """Two cgroups of one container, of which one goes, then the other."""

    def __init__(self) -> None:
        self.known: dict[int, Container | None] = {1: POD, 2: POD}
        self.gone: dict[int, Container | None] = {}

    def find(self, cgroup: int) -> Container | None:
        return self.known.get(cgroup)

    def forget(self, cgroup: int) -> None:
        self.gone = {cgroup: self.known.pop(cgroup)}

    def forgotten(self) -> dict[int, Container | None]:
        found, self.gone = self.gone, {}
        return found

    def lasts(self, container: Container | None) -> bool:
        return container in self.known.values()


def test_counters_of_a_container_only_grow_while_it_lasts() -> None:
    follower: Any = Follower()
    collector = Http(1, follower)
    room = Room()
    for cgroup, requests in ((1, 1000), (2, 10)):
        value = struct.pack(f"={FIGURES}Q", 0, 0, requests, *[0] * (FIGURES - 3))
        room[KEY + cgroup.to_bytes(8, sys.byteorder)] = value
    collector._maps = [room]  # type: ignore[list-item]
    collector._object = SimpleNamespace(get=lambda _: bytes(8 * len(LOST)))  # type: ignore[assignment]

    def told() -> list[int]:
        return [sum(each.duration) for each in collector._totals({})]

    assert told() == [1010]
    follower.forget(1)
    collector._forget()
    assert (told(), collector.counts().events, len(room)) == ([1010], 1010, 1)
    follower.forget(2)
    collector._forget()
    assert (told(), collector.counts().events, len(room)) == ([], 1010, 0)
