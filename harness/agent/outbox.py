"""Telemetry on its way out, kept while no receiver takes it; for `runtime` and `hosted`.

Threads that drain put it in, another one sends: neither waits for the other. Each signal waits by
itself and is tried again by itself, later and later. Security events (log records) go first, and
have the most room, profiles go last. Of metrics only the newest wait. Signals may go to receivers
of their own: who does not answer keeps nothing from another one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError
from harness.agent.lanes import Drains, Lane, Latest, R, size
from harness.agent.origin import Origin
from harness.agent.telemetry import Log, Metric, ProfileBatch, Readings, Spans, Telemetry

WAITING = 8192  # spans: 2 MB while a receiver is away
WAITING_LOGS = 32768
WAITING_DRAINS = 16  # of profiles: large, and old soon
END_SECONDS = 5.0  # for the rest at an end, and what is under way then
_BURST = 128  # records at once: a ring buffer fills, and wakes its reader again
LIMITS = MappingProxyType({"spans": WAITING, "logs": WAITING_LOGS, "profiles": WAITING_DRAINS})


class Sends(Protocol):
    """What an Exporter does; each tells how much of it the receiver threw away."""

    def receiver(self, signal: str) -> str:
        """Where this signal goes: two that go to the same place are told the same."""
        ...

    def send_metrics(self, batch: Sequence[tuple[Origin, Readings]]) -> int:
        """Export metrics."""
        ...

    def send_spans(self, batch: Sequence[tuple[Origin, Spans]]) -> int:
        """Export spans."""
        ...

    def send_logs(self, batch: Sequence[tuple[Origin, Sequence[Log]]]) -> int:
        """Export log records."""
        ...

    def send_profiles(self, batch: Sequence[tuple[Origin, Sequence[ProfileBatch]]]) -> int:
        """Export profiles."""
        ...


@dataclass
class Tally:
    """What became of one collector's telemetry; `spans` are those of `exported`.

    `dropped` is by signal and reason: `queue_full`, `refused` (for good), `rejected` (of what was
    taken otherwise), `unsent` (at the end), `superseded` (metrics that newer ones told again).
    """

    waiting: int = 0
    exported: int = 0
    spans: int = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """Spans, log records and profiles that nobody will ever take."""
        dropped = list(self.dropped.items())  # others count on meanwhile
        return sum(n for (signal, _), n in dropped if signal != "metrics")

    def told(self) -> dict[str, dict[str, int]]:
        """What was dropped: signal -> reason -> how much."""
        by_signal: dict[str, dict[str, int]] = {}
        dropped = list(self.dropped.items())
        for (signal, reason), number in sorted(dropped):
            by_signal.setdefault(signal, {})[reason] = number
        return by_signal


class Outbox:
    """What waits, and what became of the rest; for any number of threads.

    `gather_seconds` is how long something waits for what comes at the same time, and goes with it;
    of what comes some hundred at once more follows soon, and it waits `burst_gather_seconds`.
    """

    def __init__(
        self,
        exporter: Sends,
        limits: Mapping[str, int] = LIMITS,
        gather_seconds: float = 0.0,
        burst_gather_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gather_seconds, self._clock = gather_seconds, clock
        self._burst_seconds = max(gather_seconds, burst_gather_seconds)
        limits = {**LIMITS, **limits}
        to = exporter.receiver
        self._logs = Lane[Sequence[Log]]("logs", to("logs"), exporter.send_logs, limits["logs"])
        self._metrics = Latest("metrics", to("metrics"), _readings_to(exporter))
        self._spans = Lane[Spans]("spans", to("spans"), exporter.send_spans, limits["spans"])
        self._profiles = Drains(
            "profiles", to("profiles"), exporter.send_profiles, limits["profiles"]
        )
        self._lanes: tuple[Lane[Any], ...]
        self._lanes = self._logs, self._metrics, self._spans, self._profiles
        self._tallies: dict[Origin, Tally] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._silent: set[str] = set()  # receivers that did not answer, and took nothing since
        self._closed = False
        self._ends: list[float] = []

    def tally(self, origin: Origin) -> Tally:
        """What became of this collector's telemetry so far; it goes on counting."""
        with self._changed:
            return self._tallies.setdefault(origin, Tally())

    def put(self, origin: Origin, telemetry: Telemetry, own: Sequence[Metric] = ()) -> None:
        """Let it be sent; `own` are the agent's metrics of itself."""
        tally = self.tally(origin)
        readings = Readings(telemetry.metrics, own, telemetry.contained)
        some = readings.metrics or readings.own or readings.contained
        with self._changed:
            spans: Sequence[Spans] = [telemetry.spans, *telemetry.batches]
            tally.waiting += len(telemetry.logs) + sum(map(len, spans))
            tally.waiting += sum(map(len, telemetry.profiles))
            self._put(self._logs, origin, telemetry.logs)
            self._put(self._metrics, origin, [readings] if some else [])
            for each in spans:
                self._put(self._spans, origin, each)
            self._put(self._profiles, origin, telemetry.profiles)
            if some or telemetry.logs or telemetry.profiles or any(map(len, spans)):
                self._changed.notify()  # who sends is left asleep otherwise

    def await_due(self) -> bool:
        """Wait until there is something to be sent; False when the outbox was closed."""
        with self._changed:
            while not self._closed:
                due = min((lane.due for lane in self._lanes if len(lane)), default=None)
                pause = None if due is None or self._is_over() else due - self._clock()
                if pause is not None and pause <= 0:
                    return True
                self._changed.wait(pause)
            return False

    def send(self, *, now: bool = False) -> None:
        """Send what is due, or all that waits `now`; AgentError if not all was acknowledged.

        Whoever refuses one signal may take the others. Whoever does not answer is not asked for
        them in the same round, and in the next one last: it takes the time of an `ending`, after
        which nothing is begun.
        """
        with self._sending:
            first: AgentError | None = None
            asked_in_vain: set[str] = set()
            for lane in sorted(self._lanes, key=lambda lane: lane.to in self._silent):
                is_due = len(lane) and (now or lane.due <= self._clock())
                if not is_due or lane.to in asked_in_vain:
                    continue
                try:
                    self._empty(lane)
                    self._silent.discard(lane.to)
                except AgentError as error:
                    first = first or error
                    if isinstance(error, UnansweredError):
                        asked_in_vain.add(lane.to)
                        self._silent.add(lane.to)
            if first is not None:
                raise first

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Inside, no batch is begun after END_SECONDS: a slow receiver holds up no end."""
        end = self._clock() + END_SECONDS
        with self._changed:
            self._ends.append(end)
        try:
            yield
        finally:
            with self._changed:
                self._ends.remove(end)
                self._changed.notify_all()

    def give_up(self, origin: Origin) -> int:
        """Nothing of this collector is sent any more: how much that was, metrics left out."""
        with self._sending, self._changed:  # what is under way may be acknowledged yet
            tally = self.tally(origin)
            before = tally.lost
            for lane in self._lanes:
                self._drop(lane, lane.give_up(origin), "unsent")
            return tally.lost - before

    def close(self) -> None:
        """Let `await_due` return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, lane: Lane[R], origin: Origin, some: R) -> None:
        if len(some) and not len(lane):
            pause = self._burst_seconds if len(some) >= _BURST else self._gather_seconds
            lane.due = max(lane.due, self._clock() + pause)
        self._drop(lane, lane.put(origin, some), lane.overflow)

    def _empty(self, lane: Lane[Any]) -> None:
        """Send what waits by now; what comes meanwhile would keep whoever asks for it for ever."""
        left, refused = len(lane), None
        while left > 0 and (batch := self._taken(lane)):
            left -= size(batch)
            try:
                rejected = lane.send(batch)
            except RefusedError as error:
                refused = error
                with self._changed:
                    self._drop(lane, batch, "refused")
                    lane.done()
            except Exception as error:
                seconds = error.seconds if isinstance(error, LaterError) else 0.0
                with self._changed:
                    self._drop(lane, lane.back(self._clock(), seconds), lane.overflow)
                raise
            else:
                with self._changed:
                    self._acknowledge(lane, batch, rejected)
                    lane.done()
        if refused is not None:
            raise refused

    def _taken(self, lane: Lane[Any]) -> Sequence[tuple[Origin, Any]]:
        with self._changed:
            if self._is_over():
                raise AgentError(
                    f"Not all {lane.signal} that wait were sent.",
                    "A collector ends, and the receiver is slow.",
                    "What is left of that collector is told as unsent; the rest is sent later.",
                )
            return lane.take()

    def _is_over(self) -> bool:
        return bool(self._ends) and min(self._ends) <= self._clock()

    def _acknowledge(
        self, lane: Lane[Any], batch: Sequence[tuple[Origin, Any]], rejected: int
    ) -> None:
        for origin, number in lane.numbers(batch).items():
            tally = self._tallies[origin]
            gone = min(rejected, number)  # a receiver does not say whose they were
            rejected -= gone
            tally.exported += number - gone
            if gone:
                tally.dropped[lane.signal, "rejected"] += gone
            if lane is self._spans:
                tally.spans += number - gone
            if lane is not self._metrics:
                tally.waiting -= number

    def _drop(self, lane: Lane[Any], batch: Sequence[tuple[Origin, Any]], reason: str) -> None:
        for origin, number in lane.numbers(batch).items():
            tally = self._tallies[origin]
            if number:
                tally.dropped[lane.signal, reason] += number
            if lane is not self._metrics:
                tally.waiting -= number


def _readings_to(exporter: Sends) -> Callable[[Sequence[tuple[Origin, Sequence[Readings]]]], int]:
    return lambda batch: exporter.send_metrics(
        [(origin, each) for origin, some in batch for each in some]
    )
