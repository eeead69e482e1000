"""Telemetry in OpenTelemetry's data model; made by collectors, sent by otlp.

Collectors hand over finished aggregates and events (no SDK meter or tracer runs):

    counter("tcp.connections", "{connection}", [Point({"direction": "in"}, 23)])
    level("process.memory.usage", "By", [Point({...}, 31_457_280)])
    gauge("tcp.rtt", "s", [Point({...}, 0.00012)])
    histogram("http.server.request.duration", "s", BOUNDS, [Buckets({...}, counts, total)])
    Span("GET /", start_ns, end_ns, {...})
    Log("process.executed", at_ns, {...})

Times of spans and logs are CLOCK_MONOTONIC nanoseconds, as bpf_ktime_get_ns returns them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from harness.agent.container import Container

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

_LAUNCHED_NS = time.time_ns()  # the start of every cumulative series


@dataclass(frozen=True)
class Point:
    """One series of a counter (cumulative since the agent's start), a level or a gauge."""

    attributes: Attributes
    value: int | float


@dataclass(frozen=True)
class Span:
    """A finished SERVER span without a parent."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    error: bool = False
    container: Container | None = None
    trace_id: int = field(default_factory=lambda: random.getrandbits(128) or 1)
    span_id: int = field(default_factory=lambda: random.getrandbits(64) or 1)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Buckets:
    """One series of a histogram: len(bounds) + 1 counts and the sum of all values.

    `example` is one of what it counts since it was last told, its value being the span's seconds.
    """

    attributes: Attributes
    counts: Sequence[int]
    total: float
    example: Span | None = None


@dataclass(frozen=True)
class Log:
    """An event, told one by one."""

    event_name: str
    at_ns: int
    attributes: Attributes
    body: str = ""
    container: Container | None = None


@dataclass(frozen=True)
class Counts:
    """What a collector saw and what it could not keep, since its start.

    `more` is what only this collector counts, by the name that `stats` tells it under.
    """

    events: int
    lost: int
    more: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Telemetry:
    """What a collector hands over at once.

    `contained` are metrics of containers, where these are told apart; `counts` are those of
    all metrics, where reading them once more would cost as much as the metrics.
    """

    metrics: Sequence[Metric] = field(default=())
    spans: Sequence[Span] = field(default=())
    logs: Sequence[Log] = field(default=())
    counts: Counts | None = None
    contained: Mapping[Container, Sequence[Metric]] = field(default_factory=dict)


class Contained(Protocol):
    """Something that was seen of a container, or of none that is told."""

    @property
    def container(self) -> Container | None:
        """Which."""
        ...


C = TypeVar("C", bound=Contained)


def by_container(seen: Iterable[C]) -> tuple[list[C], dict[Container, list[C]]]:
    """What is of no container, and the rest, each container's apart."""
    own: list[C] = []
    contained: dict[Container, list[C]] = {}
    for each in seen:
        of = own if each.container is None else contained.setdefault(each.container, [])
        of.append(each)
    return own, contained


def unix_ns(monotonic_ns: int) -> int:
    """CLOCK_MONOTONIC nanoseconds as unix time."""
    return monotonic_ns + time.time_ns() - time.monotonic_ns()


def counter(name: str, unit: str, points: Sequence[Point], description: str = "") -> Metric:
    """A cumulative, monotonic sum."""
    data = Sum(_numbers(points), AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Metric(name, description, unit, data)


def level(name: str, unit: str, points: Sequence[Point], description: str = "") -> Metric:
    """A sum that may fall, as an UpDownCounter reports it."""
    data = Sum(_numbers(points), AggregationTemporality.CUMULATIVE, is_monotonic=False)
    return Metric(name, description, unit, data)


def gauge(name: str, unit: str, points: Sequence[Point], description: str = "") -> Metric:
    """Values as they are now."""
    return Metric(name, description, unit, Gauge(_numbers(points)))


def histogram(
    name: str, unit: str, bounds: Sequence[float], series: Sequence[Buckets], description: str = ""
) -> Metric:
    """A cumulative histogram with explicit bounds; minimum and maximum are not known."""
    now = time.time_ns()
    points = [
        HistogramDataPoint(
            attributes=dict(each.attributes),
            start_time_unix_nano=_LAUNCHED_NS,
            time_unix_nano=now,
            count=sum(each.counts),
            sum=each.total,
            bucket_counts=each.counts,
            explicit_bounds=bounds,
            exemplars=[_exemplar(each.example)] if each.example else [],
            min=None,  # type: ignore[arg-type]  # optional in OTLP, and the encoder leaves it out
            max=None,  # type: ignore[arg-type]
        )
        for each in series
    ]
    return Metric(name, description, unit, Histogram(points, AggregationTemporality.CUMULATIVE))


def _exemplar(span: Span) -> Exemplar:
    return Exemplar({}, span.seconds, unix_ns(span.end_ns), span.span_id, span.trace_id)


def _numbers(points: Sequence[Point]) -> list[NumberDataPoint]:
    now = time.time_ns()
    return [
        NumberDataPoint(dict(each.attributes), _LAUNCHED_NS, now, each.value) for each in points
    ]
