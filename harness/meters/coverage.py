"""What of the workload's doings reached the sink, and how late; `evaluate` asks after a trial.

Counts of cumulative metrics are differences of two exports, so a collector must have flushed
before the time from which it is counted and again before it is asked.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.meters import otlp
from harness.spool import read_spool

PERCENTILES = (50, 90, 99)

# signal -> the metric whose count it is
METRICS = {
    "requests": "http.server.request.duration",
    "connections": "tcp.connections.opened",
    "samples": "profile.samples",
}
EXECUTIONS = ("process.executed", "process.exec", "process.start")


@dataclass(frozen=True)
class Tally:
    """What arrived within a stretch of time.

    `counts` by signal: requests, connections, samples, executions, spans, logs, and `posts`.
    `latency_seconds` by kind (spans, logs, metrics): an array, one value an item.
    """

    counts: dict[str, float] = field(default_factory=dict)
    latency_seconds: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def percentiles(self, kind: str) -> dict[int, float]:
        """Percentiles of the data latency of a kind, in seconds; empty if nothing arrived."""
        values = self.latency_seconds.get(kind)
        if values is None or not len(values):
            return {}
        return {p: float(np.percentile(values, p)) for p in PERCENTILES}


def tally(
    spool: Path, since_ns: int, until_ns: int | None = None, scope: str | None = None
) -> Tally:
    """Count what arrived in (since, until], CLOCK_MONOTONIC; only of one scope if it is named.

    Data latency is arrival - span end, arrival - log time; for a metric it is arrival - middle of
    the interval that the export adds, because what it counts happened anywhere in that.
    """
    counts: dict[str, float] = defaultdict(float)
    latency: dict[str, list[float]] = defaultdict(list)
    totals: dict[str, float] = defaultdict(float)
    series = _Series()
    for record in read_spool(spool):
        if until_ns is not None and record.arrival_ns > until_ns:
            break
        counted = record.arrival_ns > since_ns
        if not counted and record.path != otlp.METRICS:
            continue
        counts["posts"] += counted
        for item in otlp.items(record):
            if scope is not None and item.scope != scope:
                continue
            happened_ns = item.time_unix_ns
            if isinstance(item, otlp.Point):
                added, happened_ns = series.add(item)
                totals[item.name] += added * counted
                if not added:
                    continue
            elif isinstance(item, otlp.Event):
                counts[item.kind] += 1
                counts["executions"] += item.kind == "logs" and item.name in EXECUTIONS
            if counted and happened_ns:
                latency[item.kind].append((record.arrival_unix_ns - happened_ns) / 1e9)
    for signal, name in METRICS.items():
        counts[signal] = totals[name]
    return Tally(dict(counts), {kind: np.array(values) for kind, values in latency.items()})


class _Series:
    """Turns cumulative and delta points into what each adds."""

    def __init__(self) -> None:
        self._last: dict[object, otlp.Point] = {}

    def add(self, point: otlp.Point) -> tuple[float, int]:
        """The increase that a point tells of, and the middle of its interval in unix ns.

        A series that starts again (another start time, or a smaller value) counts from zero.
        """
        if point.gauge:
            return 0.0, 0
        if point.delta:
            return point.value, (point.start_unix_ns + point.time_unix_ns) // 2
        key = (point.identity, point.start_unix_ns)
        last = self._last.get(key)
        self._last[key] = point
        if last is None or point.value < last.value:
            return point.value, (point.start_unix_ns + point.time_unix_ns) // 2
        return point.value - last.value, (last.time_unix_ns + point.time_unix_ns) // 2
