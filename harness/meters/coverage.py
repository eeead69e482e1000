"""What of the workload's doings reached the sink, and how late; `evaluate` asks after a trial.

Counts of cumulative metrics are differences of two exports, so a collector must have flushed
before the time from which it is counted and again before it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.meters import otlp
from harness.spool import Record, read_spool

SPREAD = np.linspace(0.0, 1.0, 21)

# signal -> the metrics that count it
METRICS = {
    "requests": "http.server.request.duration",
    "connections": "tcp.connections.opened",
    "samples": "profile.samples",
}
EVENTS = {"executions": "process.exec"}  # signal -> the log record that tells it
SIGNALS = (*METRICS, *EVENTS)


@dataclass(frozen=True)
class Slice:
    """A part of the spool: what one scope sent from byte `offset` on, arrived in (since, until].

    Times are CLOCK_MONOTONIC ns. `offset` must lie before the first export of the collector's
    process, because cumulative counts are differences. `only` keeps what carries an attribute,
    `instance` what a sender of that service.instance.id sent.
    """

    spool: Path
    scope: str
    offset: int = 0
    since_ns: int = 0
    until_ns: int | None = None
    only: tuple[str, str] | None = None
    instance: str = ""


def count(part: Slice, signal: str) -> float:
    """How much of a signal (one of SIGNALS) arrived."""
    name = METRICS.get(signal) or EVENTS[signal]
    return sum(
        added
        for _, item, added, _ in _items(part)
        if item.name == name and (part.only is None or item.has(*part.only))
    )


def data_latency(part: Slice, kind: str) -> NDArray[np.float64]:
    """Seconds from when it happened to its arrival, of `spans`, `logs` or `metrics`.

    Of a span from its end, of a log record from its time. What a metric counts happened anywhere
    in the interval that its export adds, so each export stands for delays spread over that.
    """
    found: list[float] = []
    for record, item, added, since_unix_ns in _items(part):
        if item.kind != kind or not added:
            continue
        delay = (record.arrival_unix_ns - item.time_unix_ns) / 1e9
        if isinstance(item, otlp.Point):
            interval = (item.time_unix_ns - since_unix_ns) / 1e9
            found += [delay + share * interval for share in SPREAD]
        elif item.time_unix_ns:
            found.append(delay)
    return np.array(found)


def _items(part: Slice) -> Iterator[tuple[Record, otlp.Point | otlp.Event, float, int]]:
    """Post, item, what it adds to its count, and since when (unix ns)."""
    series = _Series()
    for record in read_spool(part.spool, part.offset):
        if part.until_ns is not None and record.arrival_ns > part.until_ns:
            return
        for item in otlp.items(record):
            if item.scope != part.scope or (part.instance and not item.sent_by(part.instance)):
                continue
            added, since = series.add(item) if isinstance(item, otlp.Point) else (1.0, 0)
            if record.arrival_ns > part.since_ns:
                yield record, item, added, since


class _Series:
    """Turns cumulative and delta points into what each adds."""

    def __init__(self) -> None:
        self._last: dict[object, otlp.Point] = {}

    def add(self, point: otlp.Point) -> tuple[float, int]:
        """The increase that a point tells of, and since when, in unix ns.

        A series that starts again (another start time, or a smaller value) counts from zero.
        """
        if point.gauge:
            return 0.0, 0
        if point.delta:
            return point.value, point.start_unix_ns
        key = (point.identity, point.start_unix_ns)
        last = self._last.get(key)
        self._last[key] = point
        if last is None or point.value < last.value:
            return point.value, point.start_unix_ns
        return point.value - last.value, last.time_unix_ns
