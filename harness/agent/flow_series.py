"""What bpf/flows.h lays out, as Python reads it: series, figures, attributes; for `flows`."""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add

from harness.agent.container import Container

KEY = struct.Struct("=BBHB3x16s16s")  # struct flow_key
SERIES = struct.Struct("=BBHB3x16s16sQ")  # struct flow_series
FLOW = struct.Struct("=25Q13I4x")  # struct flow

Series = tuple[Container | None, bytes]  # and a struct flow_key
Figures = Sequence[int]  # those that only grow, then how many are open in each state
Attributes = dict[str, str | int | bool]

COUNTED, STATES = 24, 13
NOTHING = [0] * (COUNTED + STATES)
IO = slice(1, 3)  # bytes sent and received
RTT = slice(4, 6)  # microseconds, and of how many readings
_SINGLE, _REASONS = 8, 8  # figures of their own, and of closed and failed connections each

# enum flow_reason, by what OpenTelemetry's `error.type` has of each; without an error it has none
REASONS = (
    "",
    "connection_refused",
    "connection_reset",
    "timeout",
    "unreachable",
    "connection_aborted",
    "address_not_available",
    "_OTHER",
)
_TRANSPORTS = {6: "tcp", 17: "udp"}
_ROLES = {1: "client", 2: "server"}
_SERVER = 2
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


@dataclass(frozen=True)
class Flow:
    """What was counted of one series: `closed` and `failed` by REASONS, `open` by TCP state."""

    container: Container | None
    attributes: Attributes
    opened: int
    sent: int
    received: int
    retransmits: int
    rtt_us: int
    rtt_readings: int
    datagrams_sent: int
    datagrams_received: int
    closed: Sequence[int]
    failed: Sequence[int]
    open: Mapping[str, int]

    @property
    def transport(self) -> str:
        """`tcp` or `udp`."""
        return str(self.attributes["network.transport"])

    @property
    def connected(self) -> bool:
        """Whether there ever was a connection."""
        return any((self.opened, self.sent, self.received, *self.closed, *self.open.values()))


def flow(series: Series, figures: Figures) -> Flow:
    """A series as it is told."""
    opened, sent, received, retransmits, rtt_us, readings, datagrams_out, datagrams_in = figures[
        :_SINGLE
    ]
    return Flow(
        container=series[0],
        attributes=_attributes(series[1]),
        opened=opened,
        sent=sent,
        received=received,
        retransmits=retransmits,
        rtt_us=rtt_us,
        rtt_readings=readings,
        datagrams_sent=datagrams_out,
        datagrams_received=datagrams_in,
        closed=figures[_SINGLE : _SINGLE + _REASONS],
        failed=figures[_SINGLE + _REASONS : COUNTED],
        open=_by_name(figures[COUNTED:]),
    )


def figures(value: bytes, reading: int | None = None) -> list[int]:
    """The figures of a struct flow; none is open that this reading did not see."""
    numbers = FLOW.unpack(value)
    states = numbers[COUNTED + 1 :] if numbers[COUNTED] == reading else [0] * STATES
    return [*numbers[:COUNTED], *states]


def without(figures: Figures) -> list[int]:
    """The figures less those that no sum is made of: round-trip times, and what is open."""
    kept = list(figures)
    kept[RTT] = [0, 0]
    kept[COUNTED:] = [0] * STATES
    return kept


def plus(to: dict[Series, list[int]], series: Series, more: Figures) -> None:
    """Add figures to those of a series."""
    before = to.get(series)
    to[series] = list(more) if before is None else list(map(add, before, more))


def cgroup(raw: bytes) -> int:
    """That of a struct flow_series; 0 where keys have none."""
    return int.from_bytes(raw[KEY.size :], sys.byteorder)


def is_others(series: Series) -> bool:
    """Whether it stands for peers that are not told one by one."""
    return bool(KEY.unpack(series[1])[3])


def others(series: Series) -> Series:
    """The series that peers of this kind are told under together."""
    protocol, role, *_ = KEY.unpack(series[1])
    return series[0], _overflow(protocol, role)


def overflows() -> Iterable[bytes]:
    """The keys under which programs count what has no room."""
    return [_overflow(protocol, role) for protocol in _TRANSPORTS for role in (*_ROLES, 3)]


def _overflow(protocol: int, role: int) -> bytes:
    return KEY.pack(protocol, role, 0, 1, bytes(16), bytes(16))


def _attributes(key: bytes) -> Attributes:
    protocol, role, port, overflow, peer, local = KEY.unpack(key)
    transport = _TRANSPORTS[protocol]
    told: Attributes = {"network.transport": transport}
    if overflow:
        told["otel.metric.overflow"] = True
    else:
        address = _address(peer)
        told["network.type"] = f"ipv{address.version}"
        told["network.peer.address"] = str(address)
        if int(_address(local)):
            told["network.local.address"] = str(_address(local))
    if role in _ROLES:
        told[f"{transport}.role"] = _ROLES[role]
    if port:
        told["network.local.port" if role == _SERVER else "network.peer.port"] = port
    return told


def _address(raw: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.IPv6Address(raw)
    return address.ipv4_mapped or address


def _by_name(states: Figures) -> dict[str, int]:
    counts = dict.fromkeys(["established"], 0)
    for number, count in enumerate(states):
        if count and number in _STATES:
            counts[_STATES[number]] = counts.get(_STATES[number], 0) + count
    return counts
