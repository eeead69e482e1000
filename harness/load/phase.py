"""A stretch of load: what was due, what was served, and whether the driver kept up with it."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.errors import LoadError
from harness.load.record import Record
from harness.load.schedule import NS_PER_SECOND, Schedule
from harness.wire import failures

MAX_CPU_SHARE = 0.85
# Lateness is the same with a collector on and off, so below this it widens intervals and no more.
MAX_LATE_MS = 20.0
MIN_SERVED = 0.98


@dataclass
class Phase:
    """Counts of one phase; without a schedule it is a closed loop: users never wait.

    `late_ns` holds, for each slot that found an idle user, how long after it was due it was given.
    `failures` counts the failed requests of the record, `first_failed` is the first of them: see
    harness.load.failures.
    """

    schedule: Schedule | None
    record: Record = field(default_factory=Record)
    failures: Counter[str] = field(default_factory=Counter)
    first_failed: str = ""
    late_ns: array[int] = field(default_factory=lambda: array("q"))
    started: int = 0
    done: int = 0
    began_ns: int = field(default_factory=time.monotonic_ns)
    began_cpu_seconds: float = field(default_factory=time.process_time)
    stopped: Stopped | None = None

    @property
    def complete(self) -> bool:
        """Whether every slot was taken and served."""
        return (
            self.schedule is not None
            and self.schedule.exhausted
            and self.done >= self.schedule.taken
        )

    def stop(self) -> Stopped:
        """Nothing is due from now on; reads the clocks the first time it is called."""
        if self.stopped is None:
            seconds = max(time.monotonic_ns() - self.began_ns, 1) / NS_PER_SECOND
            cpu_seconds = time.process_time() - self.began_cpu_seconds
            self.stopped = Stopped(seconds, cpu_seconds / seconds, self.started)
            if self.schedule is not None:
                self.schedule.count = self.schedule.taken
        return self.stopped

    def capacity(self) -> dict[str, Any]:
        """What a closed loop found, see load_driver.Capacity; LoadError if nothing was good.

        Of a task with several requests, some of which were refused, the share that was answered
        counts: a limit is on requests.
        """
        end, made, bad = self.stop(), len(self.record), self.record.errors
        if made == bad:
            if not made and self.started > self.done:
                raise LoadError(
                    f"The service answered none of {self.started:,} requests within "
                    f"{end.seconds:.1f} s, in which its capacity was looked for.",
                    next_step="Give it longer: warmup_seconds and calibration_seconds in an "
                    "experiment file; and window_seconds, if a request takes longer than that.",
                )
            if not made:
                raise LoadError(
                    "The users of the locustfile made no request.",
                    f"They ran {self.done:,} tasks without one.",
                    "Its tasks are to ask by self.client; `locust --headless` shows what they do.",
                )
            told = failures.told(self.failures)
            first = f", first {self.first_failed}" if self.first_failed else ""
            raise LoadError(
                "The service answered no request well.",
                f"{made:,} were made: {told}{first}.",
                "Only 2xx and 3xx count, or what the locustfile calls a success: give a --url that "
                "answers so, or a --locustfile.",
            )
        return {
            "rate": self.done / end.seconds * (made - bad) / made,
            "cpu_share": end.cpu_share,
            "refused": bad / end.seconds,
            "failures": dict(self.failures),
            "redirects": sum(300 <= status < 400 for status in self.record.status) / made,
        }

    def summary(self, connections: int, stopped: bool) -> dict[str, Any]:
        """What a phase was, see load_driver.LoadSummary; `stopped`: no user is left."""
        reason = "all users stopped" if stopped else self.saturation(connections)
        return {
            "requests": len(self.record),
            "errors": self.record.errors,
            "late_p99_ms": self.late_p99_ms(),
            "cpu_share": self.stop().cpu_share,
            "saturated": bool(reason),
            "reason": reason,
            "failures": dict(self.failures),
            "first_failed": self.first_failed,
            "due_per_second": self.schedule.drawn_rate if self.schedule else 0.0,
        }

    def late_p99_ms(self) -> float:
        """How late the driver gave out slots while users were idle."""
        return float(np.percentile(self.late_ns, 99)) / 1e6 if self.late_ns else 0.0

    def saturation(self, connections: int) -> str:
        """Why this phase's latencies are not the service's alone; empty if they are."""
        end = self.stop()
        due = self.schedule.taken if self.schedule is not None else end.started
        behind = due - end.started
        if end.cpu_share > MAX_CPU_SHARE:
            return f"the load driver used {end.cpu_share:.0%} of its CPU"
        if (late := self.late_p99_ms()) > MAX_LATE_MS:
            return f"the load driver was late: {late:.1f} ms at the 99th percentile"
        if behind > max((1 - MIN_SERVED) * due, connections):
            return (
                f"only {end.started} of {due} requests that were due could be sent: all "
                f"{connections} {failures.WAITING}"
            )
        return ""


@dataclass(frozen=True)
class Stopped:
    """A phase at its end: its length, the driver's CPU share of one CPU, the slots given out."""

    seconds: float
    cpu_share: float
    started: int
