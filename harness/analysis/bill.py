"""The full bill of a collector: BPF run time, entry, agent, and what they leave.

`cell` calls it. Every part is measured its own way; docs/method.md says how.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.analysis import compare, hierarchy, unseen, value
from harness.analysis.compare import Array, Estimate, Quadruples
from harness.model import WindowRow
from harness.results.run import TrialRecord
from harness.wire.telemetry import IN_AGENT

RARE = 0.1  # more slices than this share without any run: a median would lose the rare ones
SEED = 1  # of the bootstrap: any, but always the same
SLICES = "Hodges-Lehmann over slices of metered trials, widened by blocks"
SUMS = "ratio of sums over slices of metered trials (runs are rare), bootstrap within blocks"
ENTRY = "runs a request x calibrated cost of entry by hook, its interval; runs taken as exact"
WHOLE = "sum of {}; intervals in quadrature"
RESIDUE = "context_cpu_us less {}; intervals in quadrature"
SHARE = "unexplained_us in percent of host_cpu_us + agent_us, these taken as exact"


@dataclass(frozen=True)
class Found:
    """A figure of the bill, the level it is compared with, and how it was obtained."""

    value: Estimate
    method: str
    level: float = math.nan


@dataclass(frozen=True)
class Metered:
    """A metered trial as one set of collectors saw it: its slices, and the requests meanwhile."""

    record: TrialRecord
    slices: tuple[WindowRow, ...]
    requests: float


@dataclass(frozen=True)
class ProgramCost:
    """One BPF program in a metered trial: time, runs and entry per request, ns per run.

    `entry_us_per_request` is NaN where its `hook` has not been calibrated; `role` is candidate or
    reference in an arm that compares two sets, else empty.
    """

    workload: str
    arm: str
    collector: str
    program: str
    us_per_request: float
    runs_per_request: float
    ns_per_run: float
    hook: str = ""
    entry_us_per_request: float = math.nan
    role: str = ""


def combined(terms: Sequence[tuple[float, Estimate]]) -> Estimate:
    """Sum of factor x estimate over independent estimates; intervals add in quadrature.

    What is exactly zero and has no interval adds none.
    """
    terms = [(f, e) for f, e in terms if e.estimate or math.isfinite(e.low)] or terms
    down = [f * (e.estimate - e.low) if f > 0 else f * (e.estimate - e.high) for f, e in terms]
    up = [f * (e.high - e.estimate) if f > 0 else f * (e.low - e.estimate) for f, e in terms]
    centre = math.fsum(f * e.estimate for f, e in terms)
    return Estimate(
        centre,
        centre - math.sqrt(math.fsum(d * d for d in down)),
        centre + math.sqrt(math.fsum(u * u for u in up)),
        min(e.n for _, e in terms),
    )


def metered(
    record: TrialRecord, rows: Sequence[WindowRow], role: str = "", on: bool = True
) -> Metered:
    """A metered trial as the collectors of `role` saw it; they ran in the slices that are `on`.

    Without a role all slices count; runs before slices had none.
    """
    whole = [r for r in rows if "bpf.run" in r.meters and r.meters.get("requests")]
    mine = whole if not role else [r for r in whole if r.window.on == on]
    seen = value.of_role(record, role) if role else record
    return Metered(seen, tuple(mine), value.total(seen, "metered_requests") or 0.0)


def bpf_us(trials: Sequence[Metered]) -> Found | None:
    """Time in the arm's BPF programs, us a request; None if no trial metered it.

    Without those that run in the agent's own context: its CPU time contains them.
    """
    sample = compare.join([_sample(trial) for trial in trials if trial.slices])
    if unseen.is_none(sample):
        return Found(*unseen.bound(sample, _longest_us(trials)))
    if len(sample.on):
        if is_rare(sample.on):
            return Found(value.not_negative(compare.ratio_of_sums(sample, SEED)[0]), SUMS)
        return Found(value.not_negative(hierarchy.level(sample)), SLICES)
    each = [
        1e6 * math.fsum(ran) / trial.requests
        for trial in trials
        if trial.requests and (ran := _in_contexts(trial.record, "bpf_run_time_seconds"))
    ]
    return Found(value.mean(each), value.MEAN) if each else None


def _longest_us(trials: Sequence[Metered]) -> float:
    """A run of the programs outside of the slices, the longest mean of one; or what is supposed."""
    known = [cost.ns_per_run / 1e3 for trial in trials for cost in programs(trial, "", {})]
    return max((us for us in known if us > 0), default=unseen.LONGEST_US)


def is_rare(us: Array) -> bool:
    """Whether too many slices (n,) are without a run for a median to see the others."""
    return float(np.mean(us == 0)) > RARE


def _in_contexts(record: TrialRecord, metric: str) -> list[float]:
    """A metric of the programs that do not run in the agent's own context."""
    return [
        v.value
        for v in record.values
        if v.metric == metric and v.labels.get("hook", "") not in IN_AGENT
    ]


def _sample(trial: Metered) -> Quadruples:
    """The slices of a trial, us a request, with zero as what is compared with."""
    requests: Array = np.array([r.meters["requests"] for r in trial.slices], dtype=float)
    seconds: Array = np.array([r.meters["bpf.run"] for r in trial.slices], dtype=float)
    block = np.full(len(requests), trial.record.trial.block, dtype=np.int64)
    return Quadruples(1e6 * seconds / requests, 0 * seconds, requests, requests, block)


def entry_us(trials: Sequence[Metered], entry: Mapping[str, Mapping[str, Any]]) -> Found | None:
    """Cost of entering the programs, us a request; None if any hook that ran is not calibrated."""
    hooks = runs(trials)
    if not entry or not hooks or unknown_hooks(trials, entry):
        return None
    terms = [(count, _entry(entry[hook])) for hook, count in hooks.items() if count]
    terms = terms or [(1.0, Estimate(0.0, 0.0, 0.0, 1))]
    return Found(replace(combined(terms), n=len(trials)), ENTRY)


def _entry(ns: Mapping[str, Any]) -> Estimate:
    """Calibrated ns an entry, in us; without an interval it has none."""
    low, high = (ns.get(end) for end in ("low", "high"))
    return Estimate(
        ns["entry_ns"] / 1e3,
        math.nan if low is None else low / 1e3,
        math.nan if high is None else high / 1e3,
        int(ns.get("n") or 1),
    )


def runs(trials: Sequence[Metered]) -> dict[str, float]:
    """Runs a request of the programs by type of hook, the mean over trials; not the agent's own."""
    sums: dict[str, float] = {}
    counted = [trial for trial in trials if trial.requests]
    for trial in counted:
        for v in trial.record.values:
            hook = v.labels.get("hook", "")
            if v.metric == "bpf_run_count" and hook not in IN_AGENT:
                sums[hook] = sums.get(hook, 0.0) + v.value / trial.requests / len(counted)
    return sums


def unknown_hooks(
    trials: Sequence[Metered], entry: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Types of hooks that ran and whose cost of entry is not known."""
    return tuple(
        hook or "not recorded"
        for hook, count in runs(trials).items()
        if count and (entry.get(hook) or {}).get("entry_ns") is None
    )


def whole(parts: Mapping[str, Found | None]) -> Found | None:
    """The bill: BPF programs, agents and, where calibrated, entry; None if one is not known."""
    needed = ("bpf_us", "agent_us")
    if any(parts.get(name) is None for name in needed):
        return None
    paid = {name: part for name in ("bpf_us", "entry_us", "agent_us") if (part := parts.get(name))}
    total = combined([(1.0, part.value) for part in paid.values()])
    return Found(value.not_negative(total), WHOLE.format(_listed(list(paid))))


def residual(parts: Mapping[str, Found | None], context: Found | None) -> Found | None:
    """What workload and client pay in their own contexts beyond BPF programs and their entry."""
    known = {name: part for name in ("bpf_us", "entry_us") if (part := parts.get(name))}
    if context is None or "bpf_us" not in known:
        return None
    left = combined([(1.0, context.value), *((-1.0, part.value) for part in known.values())])
    return Found(left, RESIDUE.format(_listed(list(known))), context.level)


def unexplained_percent(
    left: Found | None, host: Found | None, agent: Found | None
) -> Found | None:
    """The share of the host's extra CPU that nobody's cgroup pays.

    None where the interval of that extra CPU reaches down to zero: it is no share of anything.
    """
    if left is None or host is None or agent is None:
        return None
    if not host.value.low + agent.value.estimate > 0:
        return None
    whole = host.value.estimate + agent.value.estimate
    return Found(left.value.scaled(100 / whole), SHARE, 100.0)


def _listed(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def machine_percent_factor(rate: float, cpus: int) -> float:
    """us per request x this = percent of a machine of `cpus` at `rate` requests a second."""
    return 100 * rate / (cpus * 1e6)


def cpu_count(facts: Mapping[str, Any]) -> int | None:
    """How many CPUs the machine has; None if the run does not tell."""
    cpus = facts.get("cpus_online")
    return int(cpus) if cpus else None


def programs(
    trial: Metered, arm: str, entry: Mapping[str, Mapping[str, Any]], role: str = ""
) -> Iterator[ProgramCost]:
    """Each BPF program of an arm in a metered trial."""
    record, requests = trial.record, trial.requests
    counts = {_key(v.labels): v.value for v in record.values if v.metric == "bpf_run_count"}
    for v in record.values:
        if v.metric != "bpf_run_time_seconds" or not requests:
            continue
        collector, program = _key(v.labels)
        count, hook = counts.get((collector, program), 0.0), v.labels.get("hook", "")
        ns = (entry.get(hook) or {}).get("entry_ns")
        yield ProgramCost(
            record.trial.workload, arm, collector, program,
            1e6 * v.value / requests, count / requests, 1e9 * v.value / count if count else 0.0,
            hook, math.nan if ns is None else count / requests * ns / 1e3, role,
        )  # fmt: skip


def _key(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("collector", ""), labels.get("program", "")
