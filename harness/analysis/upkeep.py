"""What the stack costs that takes the telemetry, component by component; `summary` calls it.

It is nobody's bill but its own: an idle stack costs too, which the baseline shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis import hierarchy, value
from harness.analysis.cell import Cell
from harness.analysis.compare import Estimate
from harness.store import TrialRecord

KINDS = {"tempo": ("spans",), "prometheus": ("metrics",), "loki": ("logs",),
         "otelcol": ("spans", "metrics", "logs")}  # fmt: skip
LEAST_RECORDS = 1000  # fewer, and what an idle component does hides what a record costs
NONE = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Upkeep:
    """One component beside one arm: means over `n` trials, intervals are Student's t.

    `cpu_percent` is of one CPU. `ms_per_1000` is CPU beyond what it uses in the baseline for each
    1,000 records that it took, of which there were `records` in all; NaN if these are too few, or
    there is no baseline.
    """

    workload: str
    arm: str
    component: str
    cpu_percent: float
    us_per_request: float
    us_low: float
    us_high: float
    records: int
    ms_per_1000: float
    ms_low: float
    ms_high: float
    memory_mb: float
    n: int


def upkeeps(cell: Cell, idle: Mapping[str, float]) -> Iterator[Upkeep]:
    """A row for each component, if any was metered; `idle` as told by that function."""
    records = cell.records()
    for name in dict.fromkeys(n for record in records for n in _by(record, "stack_cpu_seconds")):
        trials = [r for r in records if name in _by(r, "stack_cpu_seconds")]
        us = hierarchy.mean_interval([_us(record, name) for record in trials])
        taken = sum(_taken(record, name) for record in trials)
        ms = NONE
        if taken >= LEAST_RECORDS and name in idle:
            ms = hierarchy.mean_interval(
                [each for r in trials if (each := _ms(r, name, idle[name])) is not None]
            )
        memory = [_by(record, "stack_pss_bytes").get(name, math.nan) / 1e6 for record in trials]
        yield Upkeep(
            cell.workload, cell.arm.name, name,
            100 * float(np.mean([_rate(record, name) for record in trials])),
            us.estimate, us.low, us.high, round(taken), ms.estimate, ms.low, ms.high,
            float(np.mean(memory)), len(trials),
        )  # fmt: skip


def idle(records: Sequence[TrialRecord]) -> dict[str, float]:
    """CPU seconds a second of each component in trials with nothing installed."""
    names = dict.fromkeys(n for record in records for n in _by(record, "stack_cpu_seconds"))
    return {
        name: float(
            np.mean([_rate(r, name) for r in records if name in _by(r, "stack_cpu_seconds")])
        )
        for name in names
    }


def _by(record: TrialRecord, metric: str, label: str = "component") -> dict[str, float]:
    return {v.labels[label]: v.value for v in record.values if v.metric == metric}


def _seconds(record: TrialRecord) -> float:
    return value.total(record, "stack_seconds") or math.nan


def _rate(record: TrialRecord, name: str) -> float:
    return _by(record, "stack_cpu_seconds")[name] / _seconds(record)


def _us(record: TrialRecord, name: str) -> float:
    requests = value.total(record, "steady_requests") or math.nan
    return 1e6 * _by(record, "stack_cpu_seconds")[name] / requests


def _taken(record: TrialRecord, name: str) -> float:
    told = _by(record, "stack_records", "kind")
    return sum(told.get(kind, 0.0) for kind in KINDS.get(name, ()))


def _ms(record: TrialRecord, name: str, idle_rate: float) -> float | None:
    """CPU beyond idling for 1,000 records; None of a trial without any."""
    if not (taken := _taken(record, name)):
        return None
    used = _by(record, "stack_cpu_seconds")[name] - idle_rate * _seconds(record)
    return 1e6 * used / taken
