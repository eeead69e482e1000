"""What of the workload's doings reached the small sink, and how late; `receivers` asks for it.

Counts of cumulative metrics are differences of two exports, so a collector must have flushed
before the time from which it is counted and again before it is asked.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.meters import otlp, posts
from harness.model import Part, Posted
from harness.wire.spool import Record, read_spool
from harness.wire.telemetry import PORT, SIGNALS, SPREAD, growth


@dataclass(frozen=True)
class Sink:
    """The small sink as a receiver: it notes when each post arrives, so it need not be watched."""

    url: str
    spool: Path
    cgroups: Mapping[str, Path]
    poll_seconds: float = 0.0
    keepers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    profiles_url: str = ""

    def check(self) -> None:
        """Nothing: agents say when it does not answer."""

    def mark(self) -> int:
        """Where the spool ends now, in bytes."""
        return self.spool.stat().st_size

    def sender(self, name: str, trial: str) -> str:
        """The name itself: a part begins at a mark, so that it need not be unique."""
        return name

    def read(self) -> dict[str, float]:
        """Nothing beside the CPU of its cgroup."""
        return {}

    def watch(
        self, parts: Sequence[tuple[Part, str]], seconds: float, complete: Callable[[], bool]
    ) -> None:
        """Nothing to do."""

    def count(self, part: Part, signal: str, made: float) -> float:
        """How much of a signal arrived; a flush is acknowledged after it was written."""
        return count(self.spool, part, signal)

    def ports(self, part: Part, signal: str, made: float) -> Mapping[int, float]:
        """The same by server port, see `by_port`."""
        return by_port(self.spool, part, signal)

    def posted(self, mark: int) -> Mapping[Posted, int]:
        """Who posted what since then, and what became of it."""
        return posts.posted(self.spool, mark)

    def data_latency(self, part: Part, kind: str) -> NDArray[np.float64]:
        """Seconds from when it happened to its arrival."""
        return data_latency(self.spool, part, kind)


def count(spool: Path, part: Part, signal: str) -> float:
    """How much of a signal (one of SIGNALS) arrived."""
    return sum(by_port(spool, part, signal).values())


def by_port(spool: Path, part: Part, signal: str) -> dict[int, float]:
    """How much of a signal (one of SIGNALS) arrived for each server port; 0: none was told."""
    told = SIGNALS[signal]
    found: dict[int, float] = defaultdict(float)
    for _, item, added, _ in _items(spool, part):
        is_it = item.kind == told.kind and item.counted == told.counted_by
        if is_it and (part.only is None or item.has(*part.only)):
            found[item.number(PORT)] += added
    return dict(found)


def of_port(found: Mapping[int, float], port: int) -> tuple[float, dict[int, float]]:
    """Of what was told by server port: what belongs to `port`, and what to each other one.

    What tells no port cannot be told apart, and belongs to it; so does all if `port` is 0.
    """
    others = {other: told for other, told in found.items() if told and other not in (0, port)}
    beside = others if port else {}
    return sum(found.values()) - sum(beside.values()), beside


def data_latency(spool: Path, part: Part, kind: str) -> NDArray[np.float64]:
    """Seconds from when it happened to its arrival, of `spans`, `logs` or `metrics`.

    Of a span from its end, of a log record from its time. What a metric counts happened anywhere
    in the interval that its export adds, so each export stands for delays spread over that.
    """
    found: list[float] = []
    for record, item, added, since_unix_ns in _items(spool, part):
        if item.kind != kind or not added:
            continue
        delay = (record.arrival_unix_ns - item.time_unix_ns) / 1e9
        if isinstance(item, otlp.Point):
            interval = (item.time_unix_ns - since_unix_ns) / 1e9
            found += [delay + share * interval for share in SPREAD]
        elif item.time_unix_ns:
            found.append(delay)
    return np.array(found)


def _items(spool: Path, part: Part) -> Iterator[tuple[Record, otlp.Point | otlp.Event, float, int]]:
    """Post, item, what it adds to its count, and since when (unix ns).

    What was posted twice counts once, and what cannot be read for nothing: `posted` tells of both.
    """
    series, repeats = _Series(), posts.Repeats()
    for record in read_spool(spool, part.mark):
        if part.until_ns is not None and record.arrival_ns > part.until_ns:
            return
        for item in _read(record, repeats):
            if item.scope != part.scope or (part.instance and not item.sent_by(part.instance)):
                continue
            added, since = 1.0, 0
            if isinstance(item, otlp.Point):
                added, since = series.add(item, record.arrival_ns)
            if record.arrival_ns > part.since_ns:
                yield record, item, added, since


def _read(record: Record, repeats: posts.Repeats) -> list[otlp.Point | otlp.Event]:
    with contextlib.suppress(*posts.UNREADABLE):
        if not repeats.is_one(record):
            return list(posts.items(record))
    return []


class _Series:
    """Turns cumulative and delta points into what each adds."""

    def __init__(self) -> None:
        self._last: dict[object, tuple[int, float]] = {}
        self._posts: dict[object, tuple[int, int, int]] = {}
        # of each sender: when its last post arrived, and until when that and the one before told

    def add(self, point: otlp.Point, arrival_ns: int) -> tuple[float, int]:
        """The increase that a point tells of, and since when, in unix ns.

        A series that starts again (another start time, or a smaller value) counts from zero. One
        that was not in its sender's post before was zero then: each has all series.
        """
        if point.gauge:
            return 0.0, 0
        if point.delta:
            return point.value, point.start_unix_ns
        key = (point.identity, point.start_unix_ns)
        arrived, last, before = self._posts.get(point.identity[:2], (0, 0, 0))
        if arrival_ns != arrived and point.time_unix_ns > last:  # and no other part of that export
            last, before = point.time_unix_ns, last
        self._posts[point.identity[:2]] = (arrival_ns, last, before)
        added, since = growth(self._last.get(key), point.value)
        self._last[key] = (point.time_unix_ns, point.value)
        return added, max(point.start_unix_ns, before) if since is None else since
