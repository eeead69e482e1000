"""What a calibration's trials injected, beside what was recovered; `calibration` calls it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis import compare, summary
from harness.analysis.compare import Quadruples
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.store import Run, TrialRecord, WindowRow

NS = re.compile(r"\bns=(\d+)")
AGENT_PERCENT = re.compile(r"\bagent_percent=([\d.]+)")
RECOVERED = ("workload_cpu_us", "latency_p50_us", "latency_p99_us")
ROW = ("metric", "unit", "estimate", "low", "high", "n", "mde", "level", "method")

Rows = Sequence[WindowRow]


@dataclass(frozen=True)
class Injected:
    """What one trial injected: by its own measure, and with what the program adds; us a request.

    `event_us` is the time burnt for one packet. `latency_us`, with what attaching adds, is what
    latency grows by if a request waits for one.
    """

    block: int
    injected_us: float
    truth_us: float
    event_us: float
    latency_us: float
    events_per_request: float


@dataclass(frozen=True)
class InjectedTrial:
    """A usable switched trial: its windows, their quadruples, what it injected."""

    record: TrialRecord
    rows: Rows
    sample: Quadruples
    injected: Injected | None

    @property
    def truth_us(self) -> float:
        """The effect that is to be recovered; NaN if it is not known."""
        if self.record.trial.arm == BASELINE:
            return 0.0
        return self.injected.truth_us if self.injected else math.nan


def truth(record: TrialRecord, attached_us: float) -> Injected | None:
    """What a trial injected a request while it was on; None if it says nothing of that.

    `attached_us` is what the program costs a request beside that.
    """
    names = ("injected_seconds", "injected_events", "injected_requests")
    seconds, events, requests = (_total(record, name) for name in names)
    if seconds is None or not events or not requests:
        return None
    injected = 1e6 * seconds / requests
    return Injected(
        record.trial.block, injected, injected + attached_us, 1e6 * seconds / events,
        1e6 * seconds / events + attached_us, events / requests,
    )  # fmt: skip


def _total(record: TrialRecord, metric: str) -> float | None:
    found = [value.value for value in record.values if value.metric == metric]
    return math.fsum(found) if found else None


def known(run: Run, found: Summary, entry_ns: float | None) -> dict[str, list[InjectedTrial]]:
    """Usable switched trials by arm, with what they injected."""
    least, extra = summary.least(found.experiment), attached_us(found, entry_ns)
    trials: dict[str, list[InjectedTrial]] = {arm.name: [] for arm in found.experiment.arms}
    for judged in found.trials:
        record = judged.record
        if judged.usable and record.trial.kind == "switched":
            rows = run.windows(record.trial)
            sample = compare.quadruples(rows, ("cpu.workload",), (), least, record.trial.block)
            injected = truth(record, extra.get(record.trial.arm, 0.0))
            trials[record.trial.arm].append(InjectedTrial(record, rows, sample, injected))
    return trials


def attached_us(found: Summary, entry_ns: float | None) -> dict[str, float]:
    """What the injecting program costs a request beside its burn, by arm; as far as it is known.

    Its run time by the report's own estimate, which one stalled run of a metered trial cannot move,
    less what it burnt: the clock reads and the loop around a burn. Arms that burn share the median
    of theirs, as the program is the same; one that asks for 0 ns never gets to loop and has its
    own. To that comes the cost of entering the program as often as it ran.
    """
    burnt: dict[str, list[float]] = {}
    for judged in found.trials:
        told = truth(judged.record, 0.0) if judged.usable else None
        if told is not None:
            burnt.setdefault(judged.record.trial.arm, []).append(told.injected_us)
    own = {
        arm: row.estimate - _mean(each)
        for arm, each in burnt.items()
        if (row := found.row(found.experiment.workloads[0], arm, "bpf_us")) is not None
    }
    active = injecting(found)
    looping = [us for arm, us in own.items() if arm in active]
    if looping:
        own = {arm: float(np.median(looping)) if arm in active else us for arm, us in own.items()}
    return {arm: us + _runs(found, arm) * (entry_ns or 0.0) / 1e3 for arm, us in own.items()}


def _runs(found: Summary, arm: str) -> float:
    """Runs of an arm's programs a request, the mean over metered trials."""
    runs = [p.runs_per_request for p in found.programs if p.arm == arm]
    return _mean(runs) if runs else 0.0


def injecting(found: Summary) -> frozenset[str]:
    """The arms that are asked to burn something in the service's context."""
    arms = found.experiment.arms
    return frozenset(a.name for a in arms if asked(NS, a.collectors))


def asked(what: re.Pattern[str], collectors: Sequence[str]) -> float | None:
    """What an arm's specs ask the injecting collector for."""
    match = what.search(",".join(collectors))
    return float(match[1]) if match else None


def arms(found: Summary, known: Mapping[str, list[InjectedTrial]]) -> Iterator[dict[str, Any]]:
    """Injected beside recovered, over the whole run."""
    for arm in found.experiment.arms:
        told = [t.injected for t in known[arm.name] if t.injected is not None]
        if not told:
            continue
        yield {
            "arm": arm.name,
            "asked_ns": asked(NS, arm.collectors),
            "injected_us": _mean(t.injected_us for t in told),
            "truth_us": _mean(t.truth_us for t in told),
            "event_us": _mean(t.event_us for t in told),
            "latency_us": _mean(t.latency_us for t in told),
            "events_per_request": _mean(t.events_per_request for t in told),
            "recovered": [
                recovered(row)
                for metric in RECOVERED
                if (row := found.row(found.experiment.workloads[0], arm.name, metric))
            ],
        }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def recovered(row: Comparison) -> dict[str, Any]:
    """A report's row as a certificate holds it."""
    return {key: getattr(row, key) for key in ROW}


def agents(found: Summary, known: Mapping[str, list[InjectedTrial]]) -> Iterator[dict[str, Any]]:
    """Arms whose agents burn CPU: what they burn more than the agents of the other arms.

    The truth is what the agents' own clocks tell of the steady parts.
    """
    workload = found.experiment.workloads[0]
    rows = {a.name: found.row(workload, a.name, "agent_us") for a in found.experiment.arms}
    burnt = {a.name: asked(AGENT_PERCENT, a.collectors) or 0.0 for a in found.experiment.arms}
    plain = [r.estimate for name, r in rows.items() if r is not None and not burnt[name]]
    for name, row in rows.items():
        told = [t for t in (burnt_us(each.record) for each in known[name]) if t is not None]
        if row is None or not burnt[name] or not told:
            continue
        idle = float(np.mean(plain)) if plain else 0.0
        yield {
            "arm": name, "asked_percent": burnt[name],
            "truth_us": _mean(told), "idle_us": idle,
            "estimate": row.estimate - idle, "low": row.low - idle, "high": row.high - idle,
            "n": row.n, "method": row.method,
        }  # fmt: skip


def burnt_us(record: TrialRecord) -> float | None:
    """What the agent burnt itself in a trial's steady part, us a request; None if not told."""
    seconds, requests = (_total(record, m) for m in ("agent_burnt_seconds", "steady_requests"))
    return None if seconds is None or not requests else 1e6 * seconds / requests
