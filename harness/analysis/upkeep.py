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
from harness.results.run import TrialRecord

ONCE = {"spans": "tempo", "metrics": "prometheus", "logs": "loki"}
"""Who kept which kind in runs that do not say it."""
LEAST_RECORDS = 1000  # fewer, and what an idle component does hides what a record costs
NONE = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Upkeep:
    """One component beside one arm: means over `n` trials, intervals are Student's t.

    Each trial is held against the baseline's in its block: `cpu_percent` (of one CPU) and
    `us_per_request` are of the steady part, with what its flush brought and without the idling
    after it. `ms_per_1000` is CPU beyond idling for each 1,000 records that it took beyond the
    baseline's, of which there were `records` in all; NaN if these are too few.
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


@dataclass(frozen=True)
class _Used:
    """What a component used in a trial: CPU in the steady part and beyond idling, in s."""

    steady: float
    extra: float
    records: float
    seconds: float
    requests: float
    memory: float


def upkeeps(cell: Cell, baselines: Sequence[TrialRecord]) -> Iterator[Upkeep]:
    """A row for each component, if it was metered beside a baseline in the same block."""
    idle = {record.trial.block: record for record in baselines}
    records = [record for record in cell.records() if record.trial.block in idle]
    for name in dict.fromkeys(n for record in records for n in _by(record, "stack_cpu_seconds")):
        used = [
            _used(record, idle[record.trial.block], name)
            for record in records
            if all(name in _by(r, "stack_cpu_seconds") for r in (record, idle[record.trial.block]))
        ]
        if not used:
            continue
        us = hierarchy.mean_interval([1e6 * each.steady / each.requests for each in used])
        taken = sum(each.records for each in used)
        told = [1e6 * each.extra / each.records for each in used if each.records > 0]
        ms = hierarchy.mean_interval(told) if taken >= LEAST_RECORDS else NONE
        yield Upkeep(
            cell.workload, cell.arm.name, name,
            100 * float(np.mean([each.steady / each.seconds for each in used])),
            us.estimate, us.low, us.high, max(0, round(taken)), ms.estimate, ms.low, ms.high,
            float(np.mean([each.memory for each in used])) / 1e6, len(used),
        )  # fmt: skip


def _used(record: TrialRecord, idle: TrialRecord, name: str) -> _Used:
    whole, steady = _total(record, "stack_seconds"), _total(record, "steady_seconds")
    before = _total(idle, "stack_seconds")
    rate = _by(idle, "stack_cpu_seconds")[name] / before
    extra = _by(record, "stack_cpu_seconds")[name] - rate * whole
    return _Used(
        rate * steady + extra,
        extra,
        _taken(record, name) - _taken(idle, name) * whole / before,
        steady,
        _total(record, "steady_requests"),
        _by(record, "stack_pss_bytes").get(name, math.nan),
    )


def _by(record: TrialRecord, metric: str) -> Mapping[str, float]:
    return {v.labels["component"]: v.value for v in record.values if v.metric == metric}


def _total(record: TrialRecord, metric: str) -> float:
    return value.total(record, metric) or math.nan


def _taken(record: TrialRecord, name: str) -> float:
    told = [v for v in record.values if v.metric == "stack_records"]
    keepers = [v.labels.get("component", ONCE[v.labels["kind"]]) for v in told]
    return sum(v.value for v, k in zip(told, keepers, strict=True) if name in (k, "otelcol"))
