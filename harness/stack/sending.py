"""An open loop of requests, and what became of each; `generator` runs it over its connections.

Each request is due at a time that no answer moves. One that could not be sent within a second of
that is given up and counted: as `held`, if answers took longer than the connections have time for
at this rate, or as `starved`, if this process did not get to it. What was refused is counted and
not sent again; a connection that was told to come back later stays away.
"""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.stack.batches import Batch

GIVE_UP_SECONDS = 1.0
LATE_SECONDS = 0.1  # that may be missing at the end
ANSWER_SECONDS = 10.0


@dataclass
class Tally:
    """Records by what became of them; all but `due` add up to it when all is over."""

    due: int = 0
    accepted: int = 0
    refused: int = 0  # by an answer that is not 200
    rejected: int = 0  # by a partial success
    failed: int = 0  # no answer: nobody knows
    held: int = 0
    starved: int = 0
    posts: int = 0
    bytes: int = 0
    late_seconds: float = 0.0  # the most that one was sent after it was due
    statuses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the Collector said: `rejected` records of those sent, when it wants the next."""

    status: int
    rejected: int = 0
    retry_after: float = 0.0


Post = Callable[[bytes], Answer]


class Schedule:
    """When each request is due, one after the other; shared by the connections."""

    def __init__(self, rate: float, records: int, begin: float) -> None:
        self.records, self.interval, self._begin = records, records / rate, begin
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> tuple[int, float]:
        """The number of the next request and when it is due (monotonic)."""
        with self._lock:
            number = self._next
            self._next += 1
        return number, self._begin + number * self.interval

    def due(self, now: float) -> int:
        """Records that are due by now."""
        return self.records * max(0, math.floor((now - self._begin) / self.interval) + 1)


class Sending:
    """One run of the generator: what was due, and what became of it."""

    def __init__(
        self,
        schedule: Schedule,
        connections: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        self.tally, self.trace = Tally(), ""
        self.stopped = threading.Event()
        self._schedule, self._clock, self._sleep = schedule, clock, sleep or self.stopped.wait
        # an answer that takes longer than this is what a rate is not kept for
        self._patience = schedule.interval * connections
        self._why = "starved"
        self._lock = threading.Lock()

    def drive(self, requests: list[Batch], post: Post) -> None:
        """Send what is due over one connection, until `stopped` is set."""
        why = "starved"
        while not self.stopped.is_set():
            number, due = self._schedule.take()
            batch = requests[number % len(requests)]
            if (early := due - self._clock()) > 0:
                self._sleep(early)
                if self.stopped.is_set():
                    return
            began = self._clock()
            if began - due > GIVE_UP_SECONDS:
                why = "starved" if early > 0 else why
                self._give_up(batch, why)
                continue
            self._send(batch, post, began - due)
            why = "held" if self._clock() - began > self._patience else "starved"
            self._why = why

    def finish(self, now: float) -> None:
        """Count what was due by now and was neither sent nor given up, as lately happened."""
        with self._lock:
            rest = self._schedule.due(now - LATE_SECONDS) - self.tally.due
            if rest > 0:
                self._add(rest, self._why)

    def said(self) -> dict[str, Any]:
        """The tally and the last trace that was accepted, as the lines of the file have them."""
        with self._lock:
            return {"time": time.time(), **asdict(self.tally), "trace": self.trace}

    def _send(self, batch: Batch, post: Post, late: float) -> None:
        body = batch.fill(time.time_ns())
        try:
            answer = post(body)
        except (OSError, http.client.HTTPException):
            answer = Answer(0)
        with self._lock:
            self._count(batch, answer)
            self.tally.bytes += len(body)
            self.tally.late_seconds = max(self.tally.late_seconds, late)
        if answer.retry_after:
            self._sleep(min(answer.retry_after, ANSWER_SECONDS))

    def _count(self, batch: Batch, answer: Answer) -> None:
        tally, records = self.tally, batch.records
        tally.due += records
        tally.posts += 1
        if answer.status == 200:
            tally.accepted += records - answer.rejected
            tally.rejected += answer.rejected
            self.trace = batch.trace
        elif answer.status == 0:
            tally.failed += records
        else:
            tally.refused += records
        key = str(answer.status)
        tally.statuses[key] = tally.statuses.get(key, 0) + 1

    def _give_up(self, batch: Batch, why: str) -> None:
        with self._lock:
            self._add(batch.records, why)

    def _add(self, records: int, why: str) -> None:
        self.tally.due += records
        setattr(self.tally, why, getattr(self.tally, why) + records)
