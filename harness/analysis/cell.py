"""The rows of one workload and arm, from its usable trials; `summary` calls it for each."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.analysis import (
    bill,
    compare,
    coverage,
    hierarchy,
    metrics,
    pairs,
    ranks,
    value,
)
from harness.analysis.bill import Found, Metered
from harness.analysis.compare import Estimate, Quadruples
from harness.analysis.metrics import CLIENT, SWITCHED_CPU
from harness.analysis.value import CANDIDATE
from harness.model import Arm, Comparison, WindowRow
from harness.results.run import TrialRecord

HL = "Hodges-Lehmann over quadruples, signed-rank interval, widened by blocks and autocorrelation"
PAIRED = "Hodges-Lehmann over trials, signed-rank interval"
TICKS = "ratio of sums (the counter moves by ticks), bootstrap over quadruples within blocks"
ONE = "one trial"

Trial = tuple[TrialRecord, tuple[WindowRow, ...]]


@dataclass(frozen=True)
class BlockRow:
    """The estimate of one block alone, to be compared with the other blocks'."""

    workload: str
    arm: str
    metric: str
    block: int
    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Cell:
    """The usable trials of one workload and arm, with the windows of each."""

    workload: str
    arm: Arm
    switched: tuple[Trial, ...]
    metered: tuple[Trial, ...]
    least_seconds: float = 0.0  # windows shorter than this do not count
    entry: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # ns by type of hook

    def sample(self, parts: Sequence[str], less: Sequence[str] = ()) -> Quadruples:
        """The quadruples (or the pairs, by the arm's method) of every trial that compares."""
        return compare.join([self.trial_sample(trial, parts, less) for trial in self.switched])

    def trial_sample(
        self, trial: Trial, parts: Sequence[str], less: Sequence[str] = ()
    ) -> Quadruples:
        """Those of one trial."""
        record, rows = trial
        return pairs.pairs(
            rows, self.arm.method, parts, less, self.least_seconds, record.trial.block
        )

    def records(self, role: str = CANDIDATE) -> list[TrialRecord]:
        """The trials that compare, as the arm's collectors or those against them saw them."""
        return [value.of_role(record, role) for record, _ in self.switched]

    def metering(self, role: str = CANDIDATE) -> list[Metered]:
        """The metered trials, likewise."""
        if not self.arm.against:
            return [bill.metered(record, rows) for record, rows in self.metered]
        on = role == CANDIDATE
        return [bill.metered(record, rows, role, on) for record, rows in self.metered]

    def row(
        self, metric: str, found: Estimate, level: float, method: str, p: float = math.nan
    ) -> Comparison:
        """A row of report.json; only differences have a smallest effect seen."""
        kind = metrics.metric(metric)
        return Comparison(
            self.workload, self.arm.name, metric, kind.unit, found.estimate, found.low, found.high,
            found.n, found.mde if kind.difference else math.nan, level, method, p,
        )  # fmt: skip

    def told(self, metric: str, found: Found) -> Iterator[Comparison]:
        """The row of a figure, if it was measured."""
        if not math.isnan(found.value.estimate):
            sole = found.value.n == 1 and found.method in (value.MEAN, value.RANGE)
            yield self.row(metric, found.value, found.level, ONE if sole else found.method)


def cpu_percent_row(cell: Cell) -> Comparison | None:
    """The one row by which a run may end early."""
    sample = cell.sample(("cpu.workload",))
    if not len(sample.on) or not (level := float(np.median(sample.off))) > 0:
        return None
    return _percent(cell, sample, hierarchy.combine(sample), level)


def cpu_rows(cell: Cell, seed: int) -> Iterator[Comparison]:
    """Differences of CPU per request, by who pays."""
    meters = {metric: (meter,) for meter, metric in SWITCHED_CPU.items()}
    for metric, parts in {**meters, **metrics.COMBINED_CPU}.items():
        payers = _here(cell, parts)
        sample = cell.sample(payers, metrics.APART.get(metric, ()))
        if not payers or not len(sample.on) or (metric == "unexplained_us" and cell.arm.against):
            continue
        if _is_ticked(cell, payers):
            found, level = compare.ratio_of_sums(sample, _seed(cell, seed, metric))
            yield cell.row(metric, found, level, TICKS)
            continue
        found, level = hierarchy.combine(sample), float(np.median(sample.off))
        yield cell.row(metric, found, level, _method(cell), hierarchy.probability(sample))
        if metric == "workload_cpu_us" and level > 0:
            yield _percent(cell, sample, found, level)


def _here(cell: Cell, parts: Sequence[str]) -> list[str]:
    """Those of the meters that moved, if they may stand still: load from elsewhere pays nothing."""
    trials = [rows for _, rows in cell.switched]
    return [
        part
        for part in parts
        if part != CLIENT or any(row.meters.get(part, 1.0) for rows in trials for row in rows)
    ]


def _is_ticked(cell: Cell, parts: Sequence[str]) -> bool:
    """Whether windows are too short for a meter's ticks; half a trial is never."""
    return cell.arm.method != "block" and any(
        compare.is_ticked(rows, part) for part in parts for _, rows in cell.switched
    )


def _percent(cell: Cell, sample: Quadruples, found: Estimate, level: float) -> Comparison:
    p = hierarchy.probability(sample)
    return cell.row("workload_cpu_percent", found.scaled(100 / level), 100.0, _method(cell), p)


def _method(cell: Cell) -> str:
    return PAIRED if cell.arm.method == "block" else HL


def _seed(cell: Cell, seed: int, name: str) -> int:
    return zlib.crc32(f"{seed}/{cell.workload}/{cell.arm.name}/{name}".encode())


def block_rows(cell: Cell) -> Iterator[BlockRow]:
    """The same estimate of each block alone."""
    metric = "workload_cpu_us"
    for trial in cell.switched:
        sample = cell.trial_sample(trial, ("cpu.workload",))
        if len(sample.on):
            e, block = ranks.hodges_lehmann(sample.differences), trial[0].trial.block
            yield BlockRow(
                cell.workload, cell.arm.name, metric, block, e.estimate, e.low, e.high, e.n
            )


def value_rows(cell: Cell) -> Iterator[Comparison]:
    """What whole trials tell: memory, data latency, losses, attach times."""
    records = cell.records()
    for metric, read in value.MEANS.items():
        yield from cell.told(metric, Found(value.mean(value.found(records, read)), value.MEAN))
    if count := value.lost(records):  # two trials without a loss do not make it certain
        share, method = coverage.share(count, "events"), coverage.method(count, "events")
        yield cell.row("lost_percent", share, math.nan, method)
    readers = {**value.RANGES, "switch_ms": _switch_reader(cell)}
    for metric, read in readers.items():
        yield from cell.told(metric, Found(value.spread(value.found(records, read)), value.RANGE))


def coverage_rows(cell: Cell) -> Iterator[Comparison]:
    """The share of each signal that arrived, pooled over trials; `n` is how many were made."""
    for signal, count in coverage.pooled(cell.records()).items():
        metric = f"coverage_percent[{signal}]"
        share, method = coverage.share(count, signal), coverage.method(count, signal)
        yield cell.row(metric, share, math.nan, method)


def _switch_reader(cell: Cell) -> value.Reader:
    windows = {record.trial: rows for record, rows in cell.switched}

    def read(record: TrialRecord) -> float | None:
        found = [
            row.meters["switch_seconds"]
            for before, row in itertools.pairwise(windows[record.trial])
            if before.window.on != row.window.on and "switch_seconds" in row.meters
        ]
        return 1e3 * float(np.median(found)) if found else None

    return read
