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
    factorial,
    hierarchy,
    metrics,
    pairs,
    switched,
    value,
)
from harness.analysis.bill import Found, Metered
from harness.analysis.compare import Estimate, Quadruples
from harness.analysis.effects import Windows
from harness.analysis.factorial import View
from harness.analysis.value import CANDIDATE
from harness.model import Arm, Comparison, WindowRow
from harness.results.run import TrialRecord

PAIRED = "Hodges-Lehmann over trials, signed-rank interval"
ONE = "one trial"

Trial = tuple[TrialRecord, tuple[WindowRow, ...]]


@dataclass(frozen=True)
class Cell:
    """The usable trials of one workload and arm, with the windows of each.

    Of trials that arms share, `view` says what is this arm's; their values are its own already, and
    their windows have the states of all factors.
    """

    workload: str
    arm: Arm
    switched: tuple[Trial, ...]
    metered: tuple[Trial, ...]
    least_seconds: float = 0.0  # windows shorter than this do not count
    entry: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # ns by type of hook
    view: View = factorial.NONE
    saturated: tuple[Trial, ...] = ()

    @property
    def contrast(self) -> tuple[float, ...]:
        """Of the factors that its trials switch."""
        return self.view.contrast

    @property
    def is_switched(self) -> bool:
        """Whether its windows differ in what is on, and in nothing else."""
        return self.arm.method not in ("twin", "block")

    def windows(self, parts: Sequence[str], less: Sequence[str] = ()) -> Windows:
        """The windows of every trial that compares."""
        return switched.join(
            [
                switched.windows(rows, parts, less, self.least_seconds, record.trial.block)
                for record, rows in self.switched
            ]
        )

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

    def states(self, rows: Sequence[WindowRow]) -> Sequence[WindowRow]:
        """Windows whose `on` is the state of the arm's collectors."""
        return self.view.states(rows)

    def records(self, role: str = CANDIDATE) -> list[TrialRecord]:
        """The trials that compare, as the arm's collectors or those against them saw them."""
        return [value.of_role(record, role) for record, _ in self.switched]

    def metering(self, role: str = CANDIDATE) -> list[Metered]:
        """The metered trials, likewise."""
        if self.view:
            return [bill.metered(record, self.view.slices(rows)) for record, rows in self.metered]
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


def seed_of(cell: Cell, seed: int, name: str) -> int:
    """Of what is drawn for one figure of a cell."""
    return zlib.crc32(f"{seed}/{cell.workload}/{cell.arm.name}/{name}".encode())


def value_rows(cell: Cell) -> Iterator[Comparison]:
    """What whole trials tell: memory, data latency, losses, attach times."""
    records = cell.records()
    means = {metric: value.mean(value.found(records, read)) for metric, read in value.MEANS.items()}
    if any(map(value.is_part, records)):
        means["agent_us"] = _more_of_agents(cell)
    for metric, mean in means.items():
        yield from cell.told(metric, Found(mean, value.MEAN))
    if count := value.lost(records):  # two trials without a loss do not make it certain
        share, method = coverage.share(count, "events"), coverage.method(count, "events")
        yield cell.row("lost_percent", share, math.nan, method)
    readers = {**value.RANGES, "switch_ms": _switch_reader(cell)}
    for metric, read in readers.items():
        yield from cell.told(metric, Found(value.spread(value.found(records, read)), value.RANGE))
    both = [*records, *(value.of_role(record, CANDIDATE) for record, _ in cell.metered)]
    for metric, read in value.ATTACHING.items():
        yield from cell.told(metric, Found(value.spread(value.found(both, read)), value.RANGE))


def _more_of_agents(cell: Cell) -> Estimate:
    """What agents use more with the arm's collectors, of which one is a part of an agent.

    It is of either sign: the difference of the parts of each trial, as that of all who pay.
    """
    return hierarchy.mean_interval(cell.sample((metrics.AGENT,)).differences.tolist())


def coverage_rows(cell: Cell) -> Iterator[Comparison]:
    """The share of each signal that arrived, pooled over trials; `n` is how many were made."""
    for signal, count in coverage.pooled(cell.records()).items():
        metric = f"coverage_percent[{signal}]"
        share, method = coverage.share(count, signal), coverage.method(count, signal)
        yield cell.row(metric, share, math.nan, method)


def _switch_reader(cell: Cell) -> value.Reader:
    windows = {record.trial: rows for record, rows in cell.switched}

    def read(record: TrialRecord) -> float | None:
        found = list(_switches(cell, windows[record.trial]))
        return 1e3 * float(np.median(found)) if found else None

    return read


def _switches(cell: Cell, rows: Sequence[WindowRow]) -> Iterator[float]:
    """How long switching the arm's collectors took, s; in a shared trial the slowest of them."""
    if cell.view:
        for row in rows:
            meters = [f"switch_seconds[{name}]" for name in cell.view.collectors]
            if took := [row.meters[meter] for meter in meters if meter in row.meters]:
                yield max(took)
        return
    for before, row in itertools.pairwise(rows):
        if before.window.on != row.window.on and "switch_seconds" in row.meters:
            yield row.meters["switch_seconds"]
