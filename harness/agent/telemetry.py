"""Telemetry in OpenTelemetry's data model; made by collectors, sent by otlp.

Collectors hand over finished aggregates and events (no SDK meter or tracer runs):

    counter("tcp.connections", "{connection}", [Point({"direction": "in"}, 23)])
    level("process.memory.usage", "By", [Point({...}, 31_457_280)])
    gauge("tcp.rtt", "s", [Point({...}, 0.00012)])
    histogram("http.server.request.duration", "s", BOUNDS, [Buckets({...}, counts, total)])
    Span("GET /", start_ns, end_ns, {...})
    Log("process.executed", at_ns, {...})

Times of spans and logs are CLOCK_MONOTONIC nanoseconds, as bpf_ktime_get_ns returns them. What was
handed over is encoded later, by another thread: it changes no more.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.agent.container import Container
from harness.agent.origin import Origin

if TYPE_CHECKING:
    from harness.agent.pprof import Frame

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

LAUNCHED_NS = time.time_ns()
"""The start of every cumulative series, in unix time."""


@dataclass(frozen=True, slots=True)
class Point:
    """One series of a counter (cumulative since the agent's start), a level or a gauge."""

    attributes: Attributes
    value: int | float


@dataclass(frozen=True, slots=True)
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


class SpanBatch(Protocol):
    """Spans of one container, as the kernel told them: only bytes are made of them, to be sent."""

    @property
    def container(self) -> Container | None:
        """Whose they are."""
        ...

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, part: slice, /) -> SpanBatch:
        """Some of them."""
        ...

    def encoded(self) -> bytes:
        """The field `spans` of OTLP's ScopeSpans."""
        ...


Spans = Sequence[Span] | SpanBatch


class ProfileBatch(Protocol):
    """Profiles of one drain, which are sent together; otlp_profiles makes them."""

    def __len__(self) -> int:
        """How many."""
        ...

    def encoded(self, origin: Origin, /) -> bytes:
        """OTLP's ExportProfilesServiceRequest."""
        ...


class Stacks(ProfileBatch, Protocol):
    """A ProfileBatch that is still being made: `otlp_profiles.Profiles`, `parca.Profiles`."""

    def add(
        self,
        container: Container | None,
        frames: Sequence[Frame],
        count: int,
        attributes: Mapping[str, str | int],
        /,
    ) -> None:
        """Count one stack, leaf first."""
        ...


@dataclass(frozen=True, slots=True)
class Buckets:
    """One series of a histogram: len(bounds) + 1 counts and the sum of all values.

    `example` is one of what it counts since it was last told, its value being the span's seconds.
    """

    attributes: Attributes
    counts: Sequence[int]
    total: float
    example: Span | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """An event, told one by one."""

    event_name: str
    at_ns: int
    attributes: Attributes
    body: str = ""
    container: Container | None = None


@dataclass(frozen=True)
class Sum:
    """What is counted since the agent's start; one that is monotonic never falls."""

    data_points: Sequence[Point]
    is_monotonic: bool


@dataclass(frozen=True)
class Gauge:
    """Values as they are now."""

    data_points: Sequence[Point]


@dataclass(frozen=True)
class Histogram:
    """Buckets since the agent's start, of values up to each bound, and above the last."""

    data_points: Sequence[Buckets]
    explicit_bounds: Sequence[float]


@dataclass(frozen=True)
class Metric:
    """One metric as it was read at `time_unix_ns`."""

    name: str
    unit: str
    description: str
    data: Sum | Gauge | Histogram
    time_unix_ns: int = field(default_factory=time.time_ns)


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
    all metrics, where reading them once more would cost as much as the metrics. `batches` are
    spans, too, `profiles` those of one drain. `then` is what may fail once all that is taken over,
    such as writing a file.
    """

    metrics: Sequence[Metric] = field(default=())
    spans: Sequence[Span] = field(default=())
    logs: Sequence[Log] = field(default=())
    counts: Counts | None = None
    contained: Mapping[Container, Sequence[Metric]] = field(default_factory=dict)
    batches: Sequence[SpanBatch] = ()
    profiles: Sequence[ProfileBatch] = ()
    then: Callable[[], None] | None = None


@dataclass(frozen=True)
class Readings:
    """The metrics of one export: what was seen, the agent's `own`, and those of containers."""

    metrics: Sequence[Metric] = ()
    own: Sequence[Metric] = ()
    contained: Mapping[Container, Sequence[Metric]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many points there are of what it was asked to see."""
        seen = chain(self.metrics, *self.contained.values())
        return sum(len(each.data.data_points) for each in seen)


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


_OFFSET_MOVES_NS = 1_000_000
_offset_ns = time.time_ns() - time.monotonic_ns()


def unix_ns(monotonic_ns: int) -> int:
    """CLOCK_MONOTONIC nanoseconds as unix time."""
    return monotonic_ns + unix_offset_ns()


def unix_offset_ns() -> int:
    """How far unix time is ahead of CLOCK_MONOTONIC now, to a millisecond.

    The same as before while it is: what is sent again has the bytes that it had, and counts once.
    """
    global _offset_ns
    now = time.time_ns() - time.monotonic_ns()
    if abs(now - _offset_ns) > _OFFSET_MOVES_NS:
        _offset_ns = now
    return _offset_ns


def counter(name: str, unit: str, points: Sequence[Point], description: str = "") -> Metric:
    """A cumulative, monotonic sum."""
    return Metric(name, unit, description, Sum(points, is_monotonic=True))


def level(name: str, unit: str, points: Sequence[Point], description: str = "") -> Metric:
    """A sum that may fall, as an UpDownCounter reports it."""
    return Metric(name, unit, description, Sum(points, is_monotonic=False))


def gauge(name: str, unit: str, points: Sequence[Point], description: str = "") -> Metric:
    """Values as they are now."""
    return Metric(name, unit, description, Gauge(points))


def histogram(
    name: str, unit: str, bounds: Sequence[float], series: Sequence[Buckets], description: str = ""
) -> Metric:
    """A cumulative histogram with explicit bounds; minimum and maximum are not known."""
    return Metric(name, unit, description, Histogram(series, bounds))
