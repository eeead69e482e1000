"""What a calibration's trials injected, beside what was recovered; `calibration` calls it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis import metrics, summary, switched, value
from harness.analysis.compare import Estimate
from harness.analysis.effects import Windows
from harness.analysis.summary import Summary
from harness.analysis.value import CANDIDATE, REFERENCE
from harness.model import BASELINE, Comparison, WindowRow
from harness.results.run import Run, TrialRecord

NS = re.compile(r"\bns=(\d+)")
ASIDE = re.compile(r"\bat=getsockopt\b")  # where nobody waits for what is burnt
AGENT_PERCENT = re.compile(r"\bagent_percent=([\d.]+)")
RECOVERED = ("workload_cpu_us", "latency_p50_us", "latency_p99_us")
ROW = ("metric", "unit", "estimate", "low", "high", "n", "mde", "level", "method")

Rows = Sequence[WindowRow]


@dataclass(frozen=True)
class Injected:
    """What one trial injected: by its own measure, and what of it is CPU time; us a request.

    `event_us` is that of one burn. `latency_us`, with what attaching adds, is what the median
    latency grows by if a request waits for one; 0 if none does. In an arm against the same program
    without a burn all are differences.
    """

    block: int
    injected_us: float
    truth_us: float
    event_us: float
    latency_us: float
    events_per_request: float


@dataclass(frozen=True)
class InjectedTrial:
    """A usable switched trial: its windows, their CPU a request, what it injected."""

    record: TrialRecord
    rows: Rows
    sample: Windows
    injected: Injected | None

    @property
    def truth_us(self) -> float:
        """The effect that is to be recovered; NaN if it is not known."""
        if self.record.trial.arm == BASELINE:
            return 0.0
        return self.injected.truth_us if self.injected else math.nan


def truth(
    record: TrialRecord, attached_us: float, *, stolen: bool, waited_for: bool = True
) -> Injected | None:
    """What a trial injected a request while it was on; None if it says nothing of that.

    `attached_us` is what the program costs a request beside that; `waited_for` whether a request
    waits for a burn. The burn is of wall time. Where a hypervisor takes time (`stolen`), pauses of
    0.2 ms or longer are its doing and no CPU time of the service. For the median latency those
    burns count that nothing interrupted: it hardly sees the others, which are few.
    """
    mine, other = (value.of_role(record, role) for role in (CANDIDATE, REFERENCE))
    requests = value.total(mine, "injected_requests")
    burn, events = _burn(mine), value.total(mine, "injected_events")
    if any(v.labels.get("role") == REFERENCE for v in record.values):
        unburnt = _burn(other)
        burn = burn.less(unburnt) if burn and unburnt else None
    if burn is None or not events or not requests:
        return None
    each = events / requests
    cpu_us = (burn.mean_us - burn.paused_us * stolen) * each
    latency_us = burn.calm_us + attached_us if waited_for else 0.0
    return Injected(
        record.trial.block, burn.mean_us * each, cpu_us + attached_us, burn.mean_us, latency_us,
        each,
    )  # fmt: skip


@dataclass(frozen=True)
class Burn:
    """Of one burn, us: its mean, what of that was a pause, and the mean of those in calm."""

    mean_us: float
    paused_us: float
    calm_us: float

    def less(self, other: Burn) -> Burn:
        """Each less that of the other."""
        return Burn(
            self.mean_us - other.mean_us, self.paused_us - other.paused_us,
            self.calm_us - other.calm_us,
        )  # fmt: skip


def _burn(record: TrialRecord) -> Burn | None:
    """The burns that a trial tells of; None if it tells of none."""
    told = {
        name: value.total(record, f"injected_{name}")
        for name in ("seconds", "paused_seconds", "events", "calm_seconds", "calm_events")
    }
    seconds, paused, events, calm_seconds, calm_events = told.values()
    if not events or seconds is None or paused is None:
        return None
    calm = calm_seconds / calm_events if calm_seconds is not None and calm_events else math.nan
    return Burn(1e6 * seconds / events, 1e6 * paused / events, 1e6 * calm)


def _stolen(found: Summary) -> bool:
    """Whether a hypervisor takes time of this machine, as far as the kernel is told."""
    return any(value.total(judged.record, "steal_share") for judged in found.trials)


def known(run: Run, found: Summary, entry_ns: float | None) -> dict[str, list[InjectedTrial]]:
    """Usable switched trials by arm, with what they injected."""
    least, extra = summary.least(found.experiment), attached_us(found, entry_ns)
    alone, stolen = aside(found), _stolen(found)
    trials: dict[str, list[InjectedTrial]] = {arm.name: [] for arm in found.experiment.arms}
    for judged in found.trials:
        record = judged.record
        if judged.usable and record.trial.kind == "switched":
            rows = run.windows(record.trial)
            sample = switched.windows(rows, ("cpu.workload",), (), least, record.trial.block)
            arm = record.trial.arm
            injected = truth(
                record, extra.get(arm, 0.0), stolen=stolen, waited_for=arm not in alone
            )
            trials[arm].append(InjectedTrial(record, rows, sample, injected))
    return trials


def attached_us(found: Summary, entry_ns: float | None) -> dict[str, float]:
    """What the injecting program costs a request beside its burn, by arm; as far as it is known.

    Nothing where it is compared with the same program. Else its run time by the report's own
    estimate, which one stalled run of a metered trial cannot move, less what it burnt, and the cost
    of entering it as often as it ran.
    """
    extra = {}
    for arm in found.experiment.arms:
        row = found.row(found.experiment.workloads[0], arm.name, "bpf_us")
        told = [
            each.injected_us
            for judged in found.trials
            if judged.usable and judged.record.trial.arm == arm.name
            if (each := truth(judged.record, 0.0, stolen=False)) is not None
        ]
        if row is not None and told and not arm.against:
            entered = _runs(found, arm.name) * (entry_ns or 0.0) / 1e3
            extra[arm.name] = row.estimate - _mean(told) + entered
    return extra


def _runs(found: Summary, arm: str) -> float:
    """Runs of an arm's programs a request, the mean over metered trials."""
    runs = [p.runs_per_request for p in found.programs if p.arm == arm]
    return _mean(runs) if runs else 0.0


def injecting(found: Summary) -> frozenset[str]:
    """The arms that are asked to burn something in the service's context."""
    arms = found.experiment.arms
    return frozenset(a.name for a in arms if asked(NS, a.collectors))


def readable(run: Run) -> bool:
    """Whether all that a run tells of burns can be read; earlier versions told less."""
    told = {v.metric for record in run.records() for v in record.values}
    return "injected_events" not in told or "injected_calm_events" in told


def aside(found: Summary) -> frozenset[str]:
    """The arms that burn where no request waits for it."""
    arms = found.experiment.arms
    return frozenset(a.name for a in arms if ASIDE.search(",".join(a.collectors)))


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
    mine = value.of_role(record, CANDIDATE)
    seconds, requests = (value.total(mine, m) for m in ("agent_burnt_seconds", "steady_requests"))
    return None if seconds is None or not requests else 1e6 * seconds / requests


def residual(found: Summary, arm: str, trials: Sequence[InjectedTrial]) -> Estimate | None:
    """What nobody's cgroup pays of an effect, in percent of the host's extra CPU; None if unknown.

    Of an arm against the same program too: agents, which both sets have, are apart on both sides.
    """
    row = found.row(found.experiment.workloads[0], arm, "unexplained_percent")
    if row is not None or not found.experiment.arm(arm).against:
        return None if row is None else Estimate.of(row)
    least = summary.least(found.experiment)
    left, whole = (
        switched.combine(
            switched.join(
                [
                    switched.windows(
                        t.rows, ("cpu.host",), metrics.APART[metric], least, t.record.trial.block
                    )
                    for t in trials
                ]
            )
        )
        for metric in ("unexplained_us", "host_cpu_us")
    )
    return left.scaled(100 / whole.estimate) if whole.low > 0 else None
