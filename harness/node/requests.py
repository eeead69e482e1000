"""What the load driver recorded, by window: counts, latencies, how it went; for `windows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.load import latency, record
from harness.load.record import Requests
from harness.model import WindowRow
from harness.node.load_driver import LoadSummary
from harness.node.testbed import TrialLog

read = record.read


def note_load(summary: LoadSummary, path: Path, rate: float, notes: TrialLog) -> None:
    """Note the load of a phase whose requests are in `path`."""
    log = read(path)
    answered = log.status > 0
    # n requests take n intervals: the last one that was due has its own still before it
    first_to_last = (log.due_ns.max() - log.due_ns.min()) / 1e9 if len(log.due_ns) > 1 else 1.0
    seconds = first_to_last * len(log.due_ns) / max(len(log.due_ns) - 1, 1)
    # by chance arrivals that are drawn are more or fewer than the rate: that is no shortcoming
    notes.add("rate_asked", summary.due_per_second or rate, "{request}/s")
    notes.add("rate_achieved", answered.sum() / seconds, "{request}/s")
    notes.add("requests_total", summary.requests, "{request}")
    notes.add("errors_total", summary.errors, "{request}")
    notes.add("late_p99_ms", summary.late_p99_ms, "ms")
    notes.add("driver_cpu_share", summary.cpu_share, "1")
    if summary.failures:
        notes.details["failures"] = dict(summary.failures)
        notes.details["first_failed"] = summary.first_failed
    if summary.clock:
        notes.details["clock"] = dict(summary.clock)
    if summary.workers:
        notes.details["load_workers"] = [dict(each) for each in summary.workers]
    if summary.saturated:
        notes.details["saturated"] = summary.reason


def count(rows: Sequence[WindowRow], log: Requests) -> list[WindowRow]:
    """Add `requests`: those that were answered within the metered stretch of each window."""
    return _counted(rows, log, log.status > 0)


def count_well(rows: Sequence[WindowRow], log: Requests) -> list[WindowRow]:
    """The same of those answered well: 2xx, 3xx, and what the locustfile calls a success."""
    return _counted(rows, log, (log.status > 0) & ~log.failed)


def _counted(rows: Sequence[WindowRow], log: Requests, which: NDArray[np.bool_]) -> list[WindowRow]:
    stretches = [(row.window.start_ns, row.window.end_ns) for row in rows]
    counts = _ended(stretches, log.end_ns[which])
    return [
        replace(row, meters={**row.meters, "requests": float(count)})
        for row, count in zip(rows, counts, strict=True)
    ]


def within(stretches: Sequence[tuple[int, int]], log: Requests) -> NDArray[np.intp]:
    """How many requests were answered in each stretch of time (ns)."""
    return _ended(stretches, log.end_ns[log.status > 0])


def _ended(stretches: Sequence[tuple[int, int]], at_ns: NDArray[np.int64]) -> NDArray[np.intp]:
    ends = np.sort(at_ns)
    edges = np.array(stretches, dtype=np.int64).reshape(-1, 2)
    return np.searchsorted(ends, edges[:, 1]) - np.searchsorted(ends, edges[:, 0])


def between(edges: Sequence[int], log: Requests, twin: bool) -> list[float]:
    """How many requests of the plain twin, or of the one in scope, were answered between edges."""
    ends = np.sort(log.end_ns[(log.status > 0) & (log.twin == twin)])
    return [float(count) for count in np.diff(np.searchsorted(ends, np.array(edges)))]


def histograms(rows: Sequence[WindowRow], log: Requests) -> dict[str, dict[str, str]]:
    """Encoded HDR histograms of latency by route and state: small enough to be kept for ever."""
    starts = np.array([row.window.start_ns for row in rows])
    place = np.searchsorted(starts, log.due_ns, side="right") - 1
    ends = np.array([row.window.end_ns for row in rows])
    states = np.array([row.window.on for row in rows])
    inside = (place >= 0) & (log.due_ns <= ends[place]) & (log.status > 0)
    kept = {}
    for number, route in enumerate(log.route_names):
        mine = inside & (log.route == number)
        kept[str(route)] = {
            name: latency.encode(latency.histogram((log.end_ns - log.due_ns)[mine & which]))
            for name, which in (("on", states[place]), ("off", ~states[place]))
        }
    return kept
