"""`flows`: TCP connections of one cgroup by role, port and peer; made by `__main__`.

Nothing runs per packet or per request. tp_btf/inet_sock_set_state is taken and not sock_ops,
because sock_ops says nothing of connections that were open before it was attached, while the
tracepoint sees them close; sockets keep their own totals of bytes, retransmits and round-trip
time, so one reading at the close and one an export (an iterator over the connections that are
known, about 1 us each) are enough. A walk over all of the host's sockets takes milliseconds, for
the hash table is large, and is made only at the start and once after being switched on.

What being off means: a connection is counted as opened when it is first seen, whole, with all
bytes since its start, and never twice. One that opens and closes while `flows` is off is not
seen; one that was known and closes then stays without its close and its last bytes.
"""

from __future__ import annotations

import ipaddress
import os
import struct
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator as Each
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any

from harness.agent import containers
from harness.agent.collector import Attachment
from harness.agent.container import Container
from harness.agent.containers import Together
from harness.agent.iterator import Iterator
from harness.agent.libbpf import Object
from harness.agent.telemetry import (
    Counts,
    Metric,
    Point,
    Telemetry,
    by_container,
    counter,
    gauge,
)

_KEY = struct.Struct("=BBH16s")  # struct flow_key
_FLOW = struct.Struct("=8Q13I4x")  # struct flow
_CGROUP_AT = 24  # in struct flow_series, which begins with the key
_FLOWS_OF_CONTAINERS = 16384  # of all containers of a node
_SERVER = 2
_STATE_COUNT = 13
_IO = "network.io.direction"
_OVERFLOW_KEY = _KEY.pack(0, 1, 0, bytes(16))
_Series = tuple[Container | None, bytes]  # and a struct flow_key
_STATES = {
    1: "established",
    2: "syn_sent",
    3: "syn_received",
    4: "fin_wait_1",
    5: "fin_wait_2",
    6: "time_wait",
    7: "closed",
    8: "close_wait",
    9: "last_ack",
    11: "closing",
    12: "syn_received",  # TCP_NEW_SYN_RECV
}


def add_options(parser: ArgumentParser) -> None:
    """`--containers`, and none of its own."""
    containers.add_option(parser)


def create(options: Namespace) -> Flows:
    """The collector as the command line asks for it."""
    return Flows(containers.asked(options))


@dataclass
class _Reading:
    """Whether connections that are open are read at exports; an Attachment."""

    hook: str
    on: bool = True

    def destroy(self) -> None:
        """Read no more."""
        self.on = False


@dataclass(frozen=True)
class Flow:
    """The counters of one (role, port, peer); `open` is by TCP state."""

    container: Container | None
    attributes: dict[str, str | int | bool]
    opened: int
    closed: int
    sent: int
    received: int
    retransmits: int
    rtt_us: int
    rtt_readings: int
    open: dict[str, int]


class Flows:
    """TCP connections of one cgroup, aggregated in the kernel."""

    name = "flows"

    def __init__(self, containers: Together) -> None:
        self._containers = containers
        self._reading = _Reading("", on=False)
        self._walk_due = self._read_due = False
        self._pass = 0
        self._rtt: dict[_Series, tuple[int, int]] = {}
        # of cgroups that went before their container: counters only grow
        self._kept: dict[_Series, list[int]] = {}

    def configure(self, obj: Object) -> None:
        """Tell connections of containers apart, or not."""
        self._containers.prepare(obj, ["flows"], _KEY.size, _FLOWS_OF_CONTAINERS)

    def start(self, obj: Object) -> None:
        """Make the iterators ready."""
        self._object = obj
        flows = obj.map("flows")
        flows.update(_OVERFLOW_KEY.ljust(flows.key_size, b"\0"), bytes(_FLOW.size))
        self._known = Iterator(obj.program("read_open"), over=obj.map("connections"))
        self._all = Iterator(obj.program("find_open"))

    def aim(self, obj: Object, directory: int) -> None:
        """Learn which ports this cgroup listens on and which connections it has.

        The programs know it by its inode, which is the id that the kernel knows it by.
        """
        obj.set("targ_cgroup", os.fstat(directory).st_ino)
        self._containers.look()
        self._all.run()

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Watch states from now on; what opened meanwhile is found at the next export."""
        link = obj.program("on_state").attach()
        self._reading = _Reading(self._known.hook)
        self._walk_due = self._read_due = True
        return [link, self._reading]

    def collect(self, *, metrics: bool) -> Telemetry:
        """Read the open connections while on, and a last time after that, and all counters."""
        if not metrics:
            return Telemetry()
        if self._reading.on or self._read_due:
            self._read_due = self._reading.on
            self._read_open()
        self._forget()
        own, contained = by_container(self._flows())
        told = {each: _metrics(some) for each, some in contained.items()}
        return Telemetry(_metrics(own), contained=told)

    def counts(self) -> Counts:
        """`events` are connections opened and closed."""
        opened, closed, lost = map(self._global, ("opened", "closed", "lost"))
        return Counts(events=opened + closed, lost=lost)

    def close(self) -> None:
        """Give up the iterators."""
        self._known.close()
        self._all.close()
        self._containers.close()

    def _read_open(self) -> None:
        if self._walk_due and self._reading.on:
            self._walk_due = False
            self._all.run()
        self._pass += 1
        self._object.set("pass", self._pass)
        self._known.run()

    def _flows(self) -> Each[Flow]:
        rtt, self._rtt = self._rtt, {}
        for series, figures in self._added().items():
            opened, closed, sent, received, retransmits, rtt_us, readings, *states = figures
            before_us, before = rtt.get(series, (0, 0))
            self._rtt[series] = (rtt_us, readings)
            yield Flow(
                series[0],
                _attributes(series[1]),
                opened,
                closed,
                sent,
                received,
                retransmits,
                rtt_us - before_us,
                readings - before,
                _by_name(states),
            )

    def _added(self) -> dict[_Series, list[int]]:
        """The figures of each series: a container may have several cgroups."""
        added = dict(self._kept)
        for key, value in self._object.map("flows").items():
            *counted, seen = _FLOW.unpack(value)[:8]
            if not counted[0]:
                continue
            states = _FLOW.unpack(value)[8:] if seen == self._pass else [0] * _STATE_COUNT
            series = self._containers.find(_cgroup(key)), key[: _KEY.size]
            figures = [*counted, *states]
            before = added.get(series)
            added[series] = figures if before is None else list(map(add, before, figures))
        return added

    def _forget(self) -> None:
        """Give the room of containers that are long gone to those that come."""
        gone = self._containers.forgotten()
        flows = self._object.map("flows")
        for key, value in list(flows.items()) if gone else ():
            if (cgroup := _cgroup(key)) in gone:
                series = gone[cgroup], key[: _KEY.size]
                figures = [*_FLOW.unpack(value)[:7], *[0] * _STATE_COUNT]  # none is open
                before = self._kept.get(series)
                self._kept[series] = list(map(add, before, figures)) if before else figures
                flows.delete(key)
        for series in [each for each in self._kept if not self._containers.lasts(each[0])]:
            del self._kept[series]

    def _global(self, name: str) -> int:
        return int.from_bytes(self._object.get(name), "little")


def _cgroup(key: bytes) -> int:
    """That of a struct flow_series; 0 where keys have none."""
    return int.from_bytes(key[_CGROUP_AT:], sys.byteorder)


def _attributes(key: bytes) -> dict[str, str | int | bool]:
    role, overflow, port, raw = _KEY.unpack(key)
    if overflow:
        return {"network.transport": "tcp", "otel.metric.overflow": True}
    address = ipaddress.IPv6Address(raw)
    peer = address.ipv4_mapped or address
    return {
        "network.transport": "tcp",
        "network.type": f"ipv{peer.version}",
        "network.peer.address": str(peer),
        "tcp.role": "server" if role == _SERVER else "client",
        "network.local.port" if role == _SERVER else "network.peer.port": port,
    }


def _by_name(states: Sequence[int]) -> dict[str, int]:
    counts = dict.fromkeys(["established"], 0)
    for number, count in enumerate(states):
        if count and number in _STATES:
            counts[_STATES[number]] = counts.get(_STATES[number], 0) + count
    return counts


def _metrics(flows: Sequence[Flow]) -> Sequence[Metric]:
    def points(of: str, **more: Any) -> list[Point]:
        return [Point({**flow.attributes, **more}, getattr(flow, of)) for flow in flows]

    io = points("sent", **{_IO: "transmit"}) + points("received", **{_IO: "receive"})
    made = [
        counter("tcp.connections.opened", "{connection}", points("opened")),
        counter("tcp.connections.closed", "{connection}", points("closed")),
        counter("tcp.io", "By", io),
        counter("tcp.retransmits", "{segment}", points("retransmits")),
        gauge("tcp.connections.active", "{connection}", _active(flows)),
        gauge("tcp.rtt", "s", _rtt(flows), "Mean smoothed round-trip time since the last export."),
    ]
    return [metric for metric in made if metric.data.data_points]


def _active(flows: Sequence[Flow]) -> list[Point]:
    return [
        Point({**flow.attributes, "network.connection.state": state}, count)
        for flow in flows
        for state, count in flow.open.items()
    ]


def _rtt(flows: Sequence[Flow]) -> list[Point]:
    return [
        Point(flow.attributes, flow.rtt_us / flow.rtt_readings / 1e6)
        for flow in flows
        if flow.rtt_readings > 0
    ]
