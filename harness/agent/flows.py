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
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics.export import Metric

from harness.agent.collector import Attachment
from harness.agent.iterator import Iterator
from harness.agent.libbpf import Object
from harness.agent.telemetry import Counts, Point, Telemetry, counter, gauge

_KEY = struct.Struct("=BBH16s")  # struct flow_key
_FLOW = struct.Struct("=8Q13I4x")  # struct flow
_SERVER = 2
_IO = "network.io.direction"
_OVERFLOW_KEY = _KEY.pack(0, 1, 0, bytes(16))
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
    """It has none of its own."""


def create(options: Namespace) -> Flows:
    """The collector; it has no options of its own."""
    return Flows()


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

    def __init__(self) -> None:
        self._reading = _Reading("", on=False)
        self._walk_due = self._read_due = False
        self._pass = 0
        self._rtt: dict[bytes, tuple[int, int]] = {}

    def configure(self, obj: Object) -> None:
        """Nothing is set before the object is loaded."""

    def start(self, obj: Object) -> None:
        """Make the iterators ready."""
        self._object = obj
        obj.map("flows").update(_OVERFLOW_KEY, bytes(_FLOW.size))
        self._known = Iterator(obj.program("read_open"), over=obj.map("connections"))
        self._all = Iterator(obj.program("find_open"))

    def aim(self, obj: Object, directory: int) -> None:
        """Learn which ports this cgroup listens on and which connections it has.

        The programs know it by its inode, which is the id that the kernel knows it by.
        """
        obj.set("targ_cgroup", os.fstat(directory).st_ino)
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
        return Telemetry(metrics=_metrics(list(self._flows())))

    def counts(self) -> Counts:
        """`events` are connections opened and closed."""
        opened, closed, lost = map(self._global, ("opened", "closed", "lost"))
        return Counts(events=opened + closed, lost=lost)

    def close(self) -> None:
        """Give up the iterators."""
        self._known.close()
        self._all.close()

    def _read_open(self) -> None:
        if self._walk_due and self._reading.on:
            self._walk_due = False
            self._all.run()
        self._pass += 1
        self._object.set("pass", self._pass)
        self._known.run()

    def _flows(self) -> Iterable[Flow]:
        for key, value in self._object.map("flows").items():
            opened, closed, sent, received, retransmits, rtt_us, readings, seen, *states = (
                _FLOW.unpack(value)
            )
            if not opened:
                continue
            before_us, before = self._rtt.get(key, (0, 0))
            self._rtt[key] = (rtt_us, readings)
            still_open = states if seen == self._pass else [0] * len(states)
            yield Flow(
                _attributes(key),
                opened,
                closed,
                sent,
                received,
                retransmits,
                rtt_us - before_us,
                readings - before,
                _by_name(still_open),
            )

    def _global(self, name: str) -> int:
        return int.from_bytes(self._object.get(name), "little")


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
        if flow.rtt_readings
    ]
