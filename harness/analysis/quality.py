"""How good the telemetry is that a person finds in the stack: coverage, data latency; `summary`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis import coverage
from harness.analysis.cell import Cell
from harness.results.run import TrialRecord
from harness.wire.telemetry import SIGNALS

COVERAGE_PERCENT = 95.0  # more is wanted
LATENCY_SECONDS = 30.0  # of the 99th percentile of data latency; less is wanted
GOAL_SECONDS = 5.0  # less is the goal
ONCE = {"spans": "Tempo", "metrics": "Prometheus", "logs": "Loki"}
"""Where each kind was found in runs that do not say it."""


@dataclass(frozen=True)
class Quality:
    """One signal of an arm: how much of it was found, and how late.

    Coverage in percent with its exact 95 % interval, of `made`. Percentiles in s, the mean over
    trials of the slowest collector, of the `kind` of telemetry that tells the signal, from
    `records` records in all, asked for every `resolution_s`; NaN where there were too few.
    `keeper` is the title of the component in which that kind is found.
    """

    workload: str
    arm: str
    signal: str
    kind: str
    coverage_percent: float
    coverage_low: float
    coverage_high: float
    made: int
    data_latency_p50_s: float
    data_latency_p99_s: float
    records: int
    resolution_s: float
    keeper: str

    @property
    def covered(self) -> bool:
        """Whether as much was found as is wanted."""
        return self.coverage_percent > COVERAGE_PERCENT

    @property
    def certain(self) -> bool:
        """Whether the coverage's interval lies on one side of what is wanted."""
        return not self.coverage_low <= COVERAGE_PERCENT <= self.coverage_high

    @property
    def quick(self) -> bool | None:
        """Whether it was found as early as is wanted; None if that is not known."""
        return _below(self.data_latency_p99_s, LATENCY_SECONDS)

    @property
    def at_goal(self) -> bool | None:
        """Whether it was found as early as is the goal; None if that is not known."""
        return _below(self.data_latency_p99_s, GOAL_SECONDS)


def qualities(cell: Cell) -> Iterator[Quality]:
    """A row for each signal of the cell, if its backends were asked."""
    records = cell.records()
    if not any(v.metric == "data_latency_records" for r in records for v in r.values):
        return
    for signal, count in coverage.pooled(records).items():
        kind, share = SIGNALS[signal].kind, coverage.share(count, signal)
        p50, p99 = (_mean(records, f"data_latency_{q}_seconds", kind) for q in ("p50", "p99"))
        yield Quality(
            cell.workload, cell.arm.name, signal, kind, share.estimate, share.low, share.high,
            share.n, p50, p99, round(sum(_of(records, "data_latency_records", kind))),
            max(_of(records, "data_latency_resolution_seconds"), default=math.nan),
            _keeper(records, kind),
        )  # fmt: skip


def _keeper(records: Sequence[TrialRecord], kind: str) -> str:
    told = (
        v.labels["title"]
        for record in records
        for v in record.values
        if v.metric == "stack_records" and v.labels["kind"] == kind and "title" in v.labels
    )
    return next(told, ONCE[kind])


def _mean(records: Sequence[TrialRecord], metric: str, kind: str) -> float:
    """Over trials, of the slowest collector; NaN if no trial tells."""
    found = [max(each) for record in records if (each := _of([record], metric, kind))]
    return float(np.mean(found)) if found else math.nan


def _of(records: Sequence[TrialRecord], metric: str, kind: str = "") -> list[float]:
    return [
        v.value
        for record in records
        for v in record.values
        if v.metric == metric and _is(v.labels, kind)
    ]


def _is(labels: Mapping[str, str], kind: str) -> bool:
    return not kind or labels.get("signal") == kind


def _below(seconds: float, limit: float) -> bool | None:
    return None if math.isnan(seconds) else seconds < limit
