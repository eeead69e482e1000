"""What a collector costs and gives while it is on, from whole trials; `summary` calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.compare import Estimate
from harness.store import TrialRecord

Reader = Callable[[TrialRecord], float | None]


@dataclass(frozen=True)
class ProgramCost:
    """One BPF program in a metered trial: time and runs per request, ns per run."""

    workload: str
    arm: str
    collector: str
    program: str
    us_per_request: float
    runs_per_request: float
    ns_per_run: float


def over_trials(records: Sequence[TrialRecord], read: Reader) -> Estimate:
    """Mean over trials with their range as `low` and `high` (NaN for a single trial)."""
    found = [value for record in records if (value := read(record)) is not None]
    if not found:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if len(found) == 1:
        return Estimate(found[0], math.nan, math.nan, 1)
    return Estimate(float(np.mean(found)), min(found), max(found), len(found))


def total(record: TrialRecord, metric: str) -> float | None:
    """Sum of a metric over the trial's collectors (and programs); None if it was not measured."""
    found = [value.value for value in record.values if value.metric == metric]
    return math.fsum(found) if found else None


def greatest(record: TrialRecord, metric: str) -> float | None:
    """Largest value of a metric over the trial's collectors; None if it was not measured."""
    return max((v.value for v in record.values if v.metric == metric), default=None)


def per(record: TrialRecord, metric: str, count: str, factor: float = 1.0) -> float | None:
    """factor x sum of `metric` / `count`; None if either is missing or the count is zero."""
    above, below = total(record, metric), total(record, count)
    return None if above is None or not below else factor * above / below


def _scaled(read: Callable[[TrialRecord, str], float | None], metric: str, factor: float) -> Reader:
    def scaled(record: TrialRecord) -> float | None:
        value = read(record, metric)
        return None if value is None else factor * value

    return scaled


def _lost(record: TrialRecord) -> float | None:
    """Lost events are not among the events seen."""
    lost, seen = total(record, "events_lost"), total(record, "events")
    if lost is None or seen is None or not lost + seen:
        return None
    return 100 * lost / (lost + seen)


SWITCHED: Mapping[str, Reader] = {
    "agent_us": lambda r: per(r, "steady_agent_cpu_seconds", "steady_requests", 1e6),
    "agent_memory_mb": _scaled(total, "agent_pss_bytes", 1e-6),
    "agent_peak_memory_mb": _scaled(total, "agent_peak_rss_bytes", 1e-6),
    "map_memory_mb": _scaled(total, "map_bytes", 1e-6),
    "lost_percent": _lost,
    "data_latency_p50_s": _scaled(greatest, "data_latency_p50_seconds", 1),
    "data_latency_p99_s": _scaled(greatest, "data_latency_p99_seconds", 1),
    "load_s": _scaled(greatest, "load_seconds", 1),
    "attach_ms": _scaled(total, "attach_seconds", 1e3),
    "detach_ms": _scaled(total, "detach_seconds", 1e3),
    "rate_per_s": _scaled(total, "rate_achieved", 1),
    "late_p99_ms": _scaled(total, "late_p99_ms", 1),
    "error_percent": lambda r: per(r, "errors_total", "requests_total", 100),
}  # read from the trials that switch
METERED: Mapping[str, Reader] = {
    "bpf_us": lambda r: per(r, "bpf_run_time_seconds", "metered_requests", 1e6),
}  # read from the trials that meter BPF programs


def whole(bpf: Estimate, agent: Estimate) -> Estimate:
    """BPF time + agents' CPU; the range is the sum of the ranges, a sole trial counting as one.

    `n` is the trials behind the part with more of them.
    """
    if math.isnan(bpf.low) and math.isnan(agent.low):
        return Estimate(bpf.estimate + agent.estimate, math.nan, math.nan, min(bpf.n, agent.n))
    return Estimate(
        bpf.estimate + agent.estimate,
        _or(bpf.low, bpf.estimate) + _or(agent.low, agent.estimate),
        _or(bpf.high, bpf.estimate) + _or(agent.high, agent.estimate),
        max(bpf.n, agent.n),
    )


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def machine_percent_factor(rate: float, cpus: int) -> float:
    """us per request x this = percent of a machine of `cpus` at `rate` requests a second."""
    return 100 * rate / (cpus * 1e6)


def cpu_count(facts: Mapping[str, Any]) -> int | None:
    """How many CPUs the machine has; None if the run does not tell."""
    cpus = facts.get("cpus_online")
    return int(cpus) if cpus else None


def programs(record: TrialRecord) -> Iterator[ProgramCost]:
    """Each BPF program of a metered trial."""
    requests = total(record, "metered_requests")
    runs = {_key(v.labels): v.value for v in record.values if v.metric == "bpf_run_count"}
    for value in record.values:
        if value.metric != "bpf_run_time_seconds" or not requests:
            continue
        collector, program = _key(value.labels)
        count = runs.get((collector, program), 0.0)
        yield ProgramCost(
            record.trial.workload, record.trial.arm, collector, program,
            1e6 * value.value / requests, count / requests,
            1e9 * value.value / count if count else 0.0,
        )  # fmt: skip


def _key(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("collector", ""), labels.get("program", "")
