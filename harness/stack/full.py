"""The full stack as a receiver: what arrived is what its backends find; `receivers` makes it.

A record has arrived when a query finds it. So the backends are asked over and over while they are
watched, and the delay is known to the pause between two queries.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import ComponentError
from harness.model import Part, Posted
from harness.stack import backends, catalog
from harness.stack.backends import Backends
from harness.stack.config import Stack
from harness.stack.config.prometheus import metric
from harness.stack.questions import COUNTERS, Series, label
from harness.wire.telemetry import PORT, SIGNALS, SPREAD, growth

POLL_SECONDS = 0.2
COMPLETE_SECONDS = 30.0  # how long what was flushed may take until it is found
BACK_SECONDS = 60  # how far back samples are asked for while watching
SPANS_SECONDS = 5  # how far back every second question for spans goes


@dataclass
class Full:
    """The Collector and what keeps each signal; `cgroups` and `logs` are by component.

    `stays` says whether it was up before the run, and will be after it.
    """

    stack: Stack
    cgroups: Mapping[str, Path]
    logs: Mapping[str, Path] = field(default_factory=dict)
    stays: bool = False
    poll_seconds: float = POLL_SECONDS
    _delays: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._backends = Backends(self.stack)

    @property
    def keepers(self) -> Mapping[str, tuple[str, str]]:
        """Name and title of the component that keeps each kind of telemetry."""
        names = {kind: self.stack.keeps[signal] for kind, signal in backends.TAKEN.items()}
        return {kind: (name, catalog.known()[name].title) for kind, name in names.items()}

    @property
    def url(self) -> str:
        """Where the Collector takes OTLP over HTTP."""
        return self.stack.otlp_url

    @property
    def profiles_url(self) -> str:
        """Where what keeps profiles takes them; empty if nothing does."""
        keeper = self.stack.keeps.get("profiles", "")
        return self.stack.url(keeper) if keeper else ""

    def check(self) -> None:
        """ComponentError if a component that it needs has ended."""
        for name in (*self.stack.keeps.values(), "otelcol"):
            if name in self.cgroups and not _processes(self.cgroups[name]):
                raise ComponentError(
                    f"{name} ended while it was needed.",
                    _last_words(self.logs.get(name)),
                    "Start the stack anew (harness down, harness up), then resume the run."
                    if self.stays
                    else "Its log is kept in the run's folder, below logs/.",
                )

    def mark(self) -> int:
        """The time, unix ns."""
        return time.time_ns()

    def sender(self, name: str, trial: str) -> str:
        """A service.instance.id that no other has: backends keep what earlier ones sent."""
        return f"{name}-{trial}-{secrets.token_hex(3)}"

    def read(self) -> dict[str, float]:
        """How many records its backends took so far, by kind."""
        return self._backends.taken()

    def count(self, part: Part, signal: str, made: float) -> float:
        """How much of a signal is found once all that was flushed is; after 30 s what is there."""
        deadline = time.monotonic() + COMPLETE_SECONDS
        while True:
            found, complete = self._count(part, signal, made)
            if complete or time.monotonic() > deadline:
                return found
            self.check()
            time.sleep(POLL_SECONDS)

    def ports(self, part: Part, signal: str, made: float) -> Mapping[int, float]:
        """The same by server port; 0: none was told, as of what no metric counts."""
        total = self.count(part, signal, made)
        if SIGNALS[signal].kind != "metrics":
            return {0: total}
        since = unix_ns(part.since_ns) if part.since_ns else part.mark
        wanted = metric(SIGNALS[signal].counted_by)
        found: dict[int, float] = defaultdict(float)
        for one in self._backends.metrics.counters(part.instance, wanted, part.mark):
            port = dict(one.labels).get(label(PORT), "")
            found[int(port) if port.isdecimal() else 0] += counted([one], since, part.only)
        return found

    def watch(
        self, parts: Sequence[tuple[Part, str]], seconds: float, complete: Callable[[], bool]
    ) -> None:
        """Ask for so long what is new of each part and kind, and note when it was first found.

        After that until it is `complete`, for 30 s at most, without a limit to how far back.
        `poll_seconds` becomes the mean time from one round of questions to the next, of those that
        found something: rounds are shorter where nothing goes on.
        """
        self._delays = {(part.instance, kind): [] for part, kind in parts}
        seen: set[Hashable] = set()
        begun, last, gaps = time.monotonic(), time.monotonic(), list[float]()
        whole = False  # whether the round before asked for all
        for number in itertools.count(1):
            now = time.monotonic()
            over = now - begun >= seconds
            if now - begun >= seconds + COMPLETE_SECONDS or (whole and complete()):
                break
            known = len(seen)
            for part, kind in parts:
                since = unix_ns(part.since_ns)
                back = since if over else max(since, time.time_ns() - back_ns(number))
                for key, delays in self._new(part, kind, seen, back):
                    seen.add(key)
                    self._delays[part.instance, kind] += delays
            if len(seen) > known:
                gaps.append(now - last)
            last, whole = now, over
            self.check()
            time.sleep(max(0.0, now + POLL_SECONDS - time.monotonic()))
        self.poll_seconds = sum(gaps) / len(gaps) if gaps else POLL_SECONDS

    def posted(self, mark: int) -> Mapping[Posted, int]:
        """Nothing: what the Collector refuses is in its own metrics."""
        return {}

    def data_latency(self, part: Part, kind: str) -> NDArray[np.float64]:
        """Seconds from when it happened until it was found, of what was watched last."""
        return np.array(self._delays.get((part.instance, kind), ()))

    def _count(self, part: Part, signal: str, made: float) -> tuple[float, bool]:
        """How much is found now, and whether more cannot come."""
        since = unix_ns(part.since_ns) if part.since_ns else part.mark
        told = SIGNALS[signal]
        if told.kind == "metrics":
            wanted = metric(told.counted_by)
            found = self._backends.metrics.counters(part.instance, wanted, part.mark)
            flushed = _whole_ms(unix_ns(part.flushed_ns))
            return counted(found, since, part.only), newest(found) >= flushed
        if told.kind == "spans":
            number = len(self._backends.traces.spans(part.instance))
        else:
            lines = self._backends.logs.lines(part.instance, since, part.only)
            number = sum(line.name == told.counted_by for line in lines)
        return float(number), number >= made

    def _new(
        self, part: Part, kind: str, seen: set[Hashable], back: int
    ) -> Iterator[tuple[Hashable, list[float]]]:
        """What happened since the part began and was not seen before, with its delays.

        Spans are many, and are asked for no further `back` than that (unix ns).
        """
        since = unix_ns(part.since_ns)
        if kind == "metrics":
            after = max(part.mark, time.time_ns() - BACK_SECONDS * 10**9)
            found = self._backends.metrics.counters(part.instance, COUNTERS, after)
            yield from new_points(found, since, seen, time.time_ns())
            return
        ask = self._backends
        is_spans = kind == "spans"
        events = (
            ask.traces.spans(part.instance, back)
            if is_spans
            else ask.logs.lines(part.instance, since)
        )
        now = time.time_ns()
        for event in events:
            if event.time_unix_ns > since and event.key not in seen:
                yield event.key, [(now - event.time_unix_ns) / 1e9]


def back_ns(number: int) -> int:
    """How far back the question of this number goes: 5 s, 10, 5, 20, 5, 10, 5, 40 s and so on.

    So few questions ask for much, and what is late is found later still by a share of its delay:
    about a fifth where there are two questions a second.
    """
    return SPANS_SECONDS * 10**9 * (number & -number)


def counted(found: Sequence[Series], since_unix_ns: int, only: tuple[str, str] | None) -> float:
    """What series that carry this attribute counted after that time."""
    wanted = None if only is None else (label(only[0]), only[1])
    return sum(
        added
        for one in found
        if wanted is None or wanted in one.labels
        for at, _, added in _growths(one)
        if at > since_unix_ns
    )


def newest(found: Sequence[Series]) -> int:
    """The time of the last point of any series, unix ns; 0 if there is none."""
    return max((one.points[-1][0] for one in found if one.points), default=0)


def new_points(
    found: Sequence[Series], since_unix_ns: int, seen: set[Hashable], now_unix_ns: int
) -> Iterator[tuple[Hashable, list[float]]]:
    """Exports after that time that added something; what one counts is spread over its interval.

    All series of a sender that are less than 0.1 s apart are of one export.
    """
    for one in found:
        sender = dict(one.labels).get("service_instance_id", "")
        for at, before, added in _growths(one):
            slot = at // 10**8
            known = any((sender, near) in seen for near in (slot - 1, slot, slot + 1))
            if at <= since_unix_ns or not added or before is None or known:
                continue
            seen.add((sender, slot))
            delay, interval = (now_unix_ns - at) / 1e9, (at - before) / 1e9
            yield (sender, slot), [delay + share * interval for share in SPREAD]


def _growths(one: Series) -> Iterator[tuple[int, int | None, float]]:
    """When (unix ns), since when (None: since the series began), and how much was added."""
    last: tuple[int, float] | None = None
    for at, value in one.points:
        added, before = growth(last, value)
        last = (at, value)
        yield at, before, added


def unix_ns(monotonic_ns: int) -> int:
    """CLOCK_MONOTONIC nanoseconds as unix time."""
    return monotonic_ns + time.time_ns() - time.monotonic_ns()


def _whole_ms(ns: int) -> int:
    """As Prometheus keeps times."""
    return ns // 10**6 * 10**6


def _processes(cgroup: Path) -> str:
    try:
        return (cgroup / "cgroup.procs").read_text().strip()
    except OSError:
        return ""


def _last_words(log: Path | None) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-2:] if log else []
    except OSError:
        lines = []
    return " ".join(lines)[-400:]
