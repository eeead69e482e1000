"""Several load drivers side by side that are one load; for `block` and `driving`.

One driver is a thread, and so as fast as one CPU. Each of several has its share of users and
arrivals (`load.schedule.Share`) and writes what became of its own requests; here they are told
when to begin and to end, all at the same moment, and what they recorded becomes one record.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import ComponentError, HarnessError, LoadError
from harness.load import merging
from harness.load.phase import MAX_CPU_SHARE
from harness.load.schedule import Share
from harness.node.load_driver import Answer, Capacity, Driver, LoadDriver, LoadSummary
from harness.wire import failures
from harness.wire.placement import names

AHEAD_NS = 50_000_000  # until all have been told, and have done what comes before

Start = Callable[[Share], Driver]
"""Starts the driver that has this share; it need not be ready."""


def own(path: Path, share: Share) -> Path:
    """The file of this name that is a driver's own; the first one has the name itself."""
    return path.with_stem(f"{path.stem}-{share.worker + 1}") if share.worker else path


def drivers(
    workers: int, made: Callable[..., Driver], cpus: Sequence[int], *, log: Path, control: Path
) -> LoadDriver:
    """One driver, or so many on these CPUs; LoadError if one of them does not start.

    `made` is Driver with all that they have in common.
    """

    def start(share: Share) -> Driver:
        files = {"log": own(log, share), "control": own(control, share)}
        return made(**files, share=share, awaited=False)

    if workers > 1:
        return Workers(workers, start, cpus)
    one = start(Share())
    one.await_ready()
    return one


class Workers:
    """A `LoadDriver` of several processes; one that fails, ends or stands still fails them all."""

    def __init__(self, workers: int, start: Start, cpus: Sequence[int]) -> None:
        self._cpus = tuple(cpus or sorted(os.sched_getaffinity(0)))
        self._drivers: list[Driver] = []
        try:
            for worker in range(workers):
                self._drivers.append(start(Share(worker, workers)))
            for driver in self._drivers:
                driver.await_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """The processes, in the order of their shares."""
        return [driver.pid for driver in self._drivers]

    def capacity(self, seconds: float) -> Capacity:
        """Drive as fast as the answers come, for that long."""
        found = self._all("capacity", seconds, seconds=seconds, at_ns=_soon())
        return joint_capacity([Capacity(**each) for each in found], self._cpus)

    def start(self, rate: float | None, requests: int | None = None) -> int:
        """Begin `rate` arrivals a second of all together, or a closed loop; returns when (ns)."""
        for driver in self._drivers:
            driver.expect(rate, requests)
        found = self._all("start", rate=rate, requests=requests, at_ns=_soon())
        return max(int(each["at_ns"]) for each in found)

    def aim(self, twin: bool) -> int:
        """LoadError: several processes would take a new aim at several moments."""
        raise LoadError(
            "Several load workers have one service.",
            "Which of two twins gets the load is told at each window's edge, and each worker would "
            "hear it at a moment of its own.",
            "Choose the method switch or block, or load_workers = 1.",
        )

    def finish(self, path: Path) -> LoadSummary:
        """End the phase at one moment and write all its requests to `path`, see record.read."""
        return self._end("finish", path, 0.0, at_ns=_soon())

    def wait(self, path: Path) -> LoadSummary:
        """Wait until the phase's `requests` were made, then as finish."""
        return self._end("wait", path, self._drivers[0].lasts_seconds)

    def stop(self) -> None:
        """End all of them; safe to call again. ComponentError if one cannot be ended."""
        failed: list[ComponentError] = []
        for driver in self._drivers:
            try:
                driver.stop()
            except ComponentError as error:  # the others are ended all the same
                failed.append(error)
        if failed:
            raise failed[0]

    def _end(self, cmd: str, path: Path, seconds: float, /, **arguments: Any) -> LoadSummary:
        parts = [path.with_name(f"{path.name}.{i}") for i in range(len(self._drivers))]
        try:
            each: list[Mapping[str, Any]] = [{**arguments, "path": str(part)} for part in parts]
            found = self._told(cmd, seconds, each)
            merging.merge(parts, path)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
        return joint_summary([LoadSummary(**each) for each in found], self._cpus)

    def _all(self, cmd: str, seconds: float = 0.0, /, **arguments: Any) -> list[dict[str, Any]]:
        return self._told(cmd, seconds, [arguments] * len(self._drivers))

    def _told(
        self, cmd: str, seconds: float, arguments: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """What each answers, once all have; the first error if one does not, or has ended.

        All are told before any is heard. Nobody is told anything if one is not there any more: the
        others would do by themselves what was meant for all.
        """
        if cmd != "finish" and cmd != "wait":
            for i, driver in enumerate(self._drivers):
                if (gone := driver.gone(cmd)) is not None:
                    raise self._named(i, gone)
        answers, failed = list[tuple[int, Answer]](), list[HarnessError]()
        for i, (driver, given) in enumerate(zip(self._drivers, arguments, strict=True)):
            try:
                answers.append((i, driver.ask(cmd, seconds, **given)))
            except HarnessError as error:
                failed.append(self._named(i, error))
        found = []
        for i, answer in answers:
            try:
                found.append(answer())
            except HarnessError as error:
                failed.append(self._named(i, error))
        if failed:
            raise failed[0]
        return found

    def _named(self, i: int, error: HarnessError) -> HarnessError:
        """The same, with which of them it is of."""
        who = _who(i, len(self._drivers))
        return type(error)(f"{who}: {error.what}", error.why, error.next_step)


def joint_capacity(found: Sequence[Capacity], cpus: Sequence[int]) -> Capacity:
    """What all reached together; the share of CPU is that of the busiest, or of all their CPUs."""
    made = [each.rate + each.refused for each in found]
    redirected = sum(each.redirects * part for each, part in zip(found, made, strict=True))
    return Capacity(
        rate=sum(each.rate for each in found),
        cpu_share=max(_busiest(found), _all_cpus(found, cpus)),
        refused=sum(each.refused for each in found),
        failures=_summed(each.failures for each in found),
        redirects=redirected / (sum(made) or 1.0),
    )


def joint_summary(found: Sequence[LoadSummary], cpus: Sequence[int]) -> LoadSummary:
    """The phase of all together: sums, the latest slots of any, the CPU as in `joint_capacity`.

    It is saturated if one of them was, or all the CPUs that they may use.
    """
    reasons = [
        f"{_who(i, len(found)).lower()}: {each.reason}"
        for i, each in enumerate(found)
        if each.saturated
    ]
    shared = _all_cpus(found, cpus)
    if shared > MAX_CPU_SHARE:
        reasons.append(f"the {len(found)} load workers used {shared:.0%} of {names(cpus)}")
    reasons.sort(key=lambda reason: failures.WAITING in reason)  # their own limits first
    return replace(
        found[0],
        requests=sum(each.requests for each in found),
        errors=sum(each.errors for each in found),
        late_p99_ms=max(each.late_p99_ms for each in found),
        cpu_share=max(_busiest(found), shared),
        saturated=bool(reasons),
        reason=reasons[0] if reasons else "",
        failures=_summed(each.failures for each in found),
        first_failed=next(filter(None, (each.first_failed for each in found)), ""),
        due_per_second=sum(each.due_per_second for each in found),
        workers=tuple(
            {"requests": e.requests, "cpu_share": e.cpu_share, "late_p99_ms": e.late_p99_ms}
            for e in found
        ),
    )


def _who(i: int, workers: int) -> str:
    return f"Load worker {i + 1} of {workers}"


def _soon() -> int:
    return time.monotonic_ns() + AHEAD_NS


def _busiest(found: Sequence[Capacity | LoadSummary]) -> float:
    return max(each.cpu_share for each in found)


def _all_cpus(found: Sequence[Capacity | LoadSummary], cpus: Sequence[int]) -> float:
    """Of those that they can use, which are no more than they are."""
    return sum(each.cpu_share for each in found) / max(1, min(len(cpus), len(found)))


def _summed(each: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counts in each:
        total.update(counts)
    return dict(total)
