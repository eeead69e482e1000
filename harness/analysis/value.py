"""What whole trials tell of a collector that is on: readers and their mean; `cell`, `bill`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.analysis import hierarchy
from harness.analysis.compare import Estimate
from harness.analysis.coverage import Count
from harness.results.run import TrialRecord

Reader = Callable[[TrialRecord], float | None]

MEAN = "mean over trials, Student's t interval"
RANGE = "mean and range over trials"
CANDIDATE, REFERENCE = "candidate", "reference"  # the two sets of an arm with `against`


def of_role(record: TrialRecord, role: str) -> TrialRecord:
    """The trial as one of its two sets of collectors saw it: what is labelled for the other goes.

    Values without the label belong to both; the label itself is taken off.
    """
    mine = (v for v in record.values if v.labels.get("role", role) == role)
    values = (
        replace(v, labels={k: each for k, each in v.labels.items() if k != "role"}) for v in mine
    )
    return replace(record, values=tuple(values))


def found(records: Sequence[TrialRecord], read: Reader) -> list[float]:
    """What the trials that recorded it tell."""
    return [value for record in records if (value := read(record)) is not None]


def mean(values: Sequence[float]) -> Estimate:
    """Mean with its interval over trials; of what cannot be negative. NaN where there is none."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0)
    return not_negative(hierarchy.mean_interval(values))


def not_negative(value: Estimate) -> Estimate:
    """The same with an interval that does not reach below zero."""
    low = value.low if math.isnan(value.low) else max(0.0, min(value.low, value.estimate))
    return replace(value, low=low)


def spread(values: Sequence[float]) -> Estimate:
    """Mean with the range as `low` and `high` (NaN for a single trial)."""
    if len(values) < 2:
        return Estimate(values[0] if values else math.nan, math.nan, math.nan, len(values))
    return Estimate(float(np.mean(values)), min(values), max(values), len(values))


def total(record: TrialRecord, metric: str) -> float | None:
    """Sum of a metric over the trial's collectors (and programs); None if it was not measured."""
    values = [value.value for value in record.values if value.metric == metric]
    return math.fsum(values) if values else None


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


def lost(records: Sequence[TrialRecord]) -> Count | None:
    """Events lost of all events, over trials and collectors; None if there were none.

    Those that a collector says it lost are not among those that it saw.
    """
    told = [(total(record, "events_lost"), total(record, "events")) for record in records]
    both = [(gone, seen) for gone, seen in told if gone is not None and seen is not None]
    gone = math.fsum(gone for gone, _ in both)
    every = gone + math.fsum(seen for _, seen in both)
    return Count(gone, every) if every else None


def agent_us(record: TrialRecord) -> float | None:
    """CPU of the trial's agents over its steady part, us a request; not of parts of them."""
    return per(record, "steady_agent_cpu_seconds", "steady_requests", 1e6)


def sink_us(record: TrialRecord) -> float | None:
    """CPU of the receiver over the steady part, us a request; of arms with an agent."""
    told = total(record, "steady_agent_cpu_seconds") is not None
    if not (told or is_within(record) or is_part(record)):
        return None
    return per(record, "steady_sink_cpu_seconds", "steady_requests", 1e6)


def is_within(record: TrialRecord) -> bool:
    """Whether the trial had a collector in a process of the service: its CPU is the service's."""
    return total(record, "startup_seconds") is not None


def is_part(record: TrialRecord) -> bool:
    """Whether the trial had a part of an agent that goes on without it: it has no programs."""
    return total(record, "beside_cpu_seconds") is not None


def idle_agent_mcpu(record: TrialRecord) -> float | None:
    """CPU of the trial's agents while no request came, in thousandths of a CPU."""
    return per(record, "idle_agent_cpu_seconds", "idle_seconds", 1e3)


def idle_mcpu(record: TrialRecord) -> float | None:
    """The same with the time in the programs that others ran meanwhile."""
    agent, programs = idle_agent_mcpu(record), per(record, "idle_bpf_seconds", "idle_seconds", 1e3)
    return None if agent is None or programs is None else agent + programs


memory_mb: Reader = _scaled(total, "agent_pss_bytes", 1e-6)

MEANS: Mapping[str, Reader] = {
    "agent_us": agent_us,
    "sink_us": sink_us,
    "agent_memory_mb": memory_mb,
    "agent_peak_memory_mb": _scaled(total, "agent_peak_rss_bytes", 1e-6),
    "agent_first_peak_memory_mb": _scaled(total, "agent_first_peak_rss_bytes", 1e-6),
    "map_memory_mb": _scaled(total, "map_bytes", 1e-6),
    "map_memory_96_mb": _scaled(total, "map_bytes_on_many_cpus", 1e-6),
    "service_rss_mb": _scaled(total, "service_rss_bytes", 1e-6),
    "plain_rss_mb": _scaled(total, "plain_rss_bytes", 1e-6),
    "service_heap_mb": _scaled(total, "service_heap_bytes", 1e-6),
    "plain_heap_mb": _scaled(total, "plain_heap_bytes", 1e-6),
    "data_latency_p50_s": _scaled(greatest, "data_latency_p50_seconds", 1),
    "data_latency_p99_s": _scaled(greatest, "data_latency_p99_seconds", 1),
}  # what may be held against a budget: means with an interval
RANGES: Mapping[str, Reader] = {
    "load_s": _scaled(greatest, "load_seconds", 1),
    "startup_s": _scaled(total, "startup_seconds", 1),
    "startup_plain_s": _scaled(total, "startup_plain_seconds", 1),
    "attach_ms": _scaled(total, "attach_seconds", 1e3),
    "detach_ms": _scaled(total, "detach_seconds", 1e3),
    "rate_per_s": _scaled(total, "rate_achieved", 1),
    "late_p99_ms": _scaled(total, "late_p99_ms", 1),
}  # what describes a trial: means with their range
ATTACHING: Mapping[str, Reader] = {
    "attach_peak_memory_mb": _scaled(total, "attach_peak_rss_bytes", 1e-6),
    **{
        f"attach_{when}_{which}_ms": _scaled(greatest, f"attach_{when}_{which}_ms", 1)
        for when in ("before", "meanwhile")
        for which in ("p99", "worst")
    },
}  # the same of metered trials, too
