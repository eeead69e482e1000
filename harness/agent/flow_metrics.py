"""Flows as metrics; for `flows`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.agent.flow_series import REASONS, Flow
from harness.agent.telemetry import Metric, Point, counter, gauge

_DIRECTION = "network.io.direction"


def metrics(flows: Sequence[Flow]) -> Sequence[Metric]:
    """Those that have a point; a peer to which no connection was made has none but of failures."""
    tcp = [flow for flow in flows if flow.transport == "tcp"]
    udp = [flow for flow in flows if flow.transport == "udp"]
    connected = [flow for flow in tcp if flow.connected]
    packets = _both(udp, "datagrams_sent", "datagrams_received")
    made = [
        counter("tcp.connections.opened", "{connection}", _points(connected, "opened")),
        counter("tcp.connections.closed", "{connection}", _closed(connected)),
        counter("tcp.connections.failed", "{connection}", _failed(tcp)),
        counter("tcp.io", "By", _both(connected, "sent", "received")),
        counter("tcp.retransmits", "{segment}", _points(connected, "retransmits")),
        gauge("tcp.connections.active", "{connection}", _active(connected)),
        gauge("tcp.rtt", "s", _rtt(tcp), "Mean smoothed round-trip time since the last export."),
        counter("udp.io", "By", _both(udp, "sent", "received")),
        counter("udp.datagrams", "{datagram}", packets),
    ]
    return [metric for metric in made if metric.data.data_points]


def _points(flows: Iterable[Flow], of: str, **more: Any) -> list[Point]:
    return [Point({**flow.attributes, **more}, getattr(flow, of)) for flow in flows]


def _both(flows: Sequence[Flow], sent: str, received: str) -> list[Point]:
    out = _points(flows, sent, **{_DIRECTION: "transmit"})
    return out + _points(flows, received, **{_DIRECTION: "receive"})


def _closed(flows: Iterable[Flow]) -> list[Point]:
    """Those without an error ever, and of errors those that there were."""
    return [
        point
        for flow in flows
        for point in (Point(flow.attributes, flow.closed[0]), *_errors(flow, flow.closed))
    ]


def _failed(flows: Iterable[Flow]) -> list[Point]:
    return [point for flow in flows for point in _errors(flow, flow.failed)]


def _errors(flow: Flow, counts: Sequence[int]) -> Iterator[Point]:
    for reason, count in zip(REASONS, counts, strict=True):
        if reason and count:
            yield Point({**flow.attributes, "error.type": reason}, count)


def _active(flows: Iterable[Flow]) -> list[Point]:
    return [
        Point({**flow.attributes, "network.connection.state": state}, count)
        for flow in flows
        for state, count in flow.open.items()
    ]


def _rtt(flows: Iterable[Flow]) -> list[Point]:
    return [
        Point(flow.attributes, flow.rtt_us / flow.rtt_readings / 1e6)
        for flow in flows
        if flow.rtt_readings > 0
    ]
