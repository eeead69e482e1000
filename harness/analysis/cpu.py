"""The rows of CPU per request, of all arms of a service together; `summary` calls it.

Whether there is a cost in these processes (p) is asked of each arm alone. The mean over processes
(the interval) takes what processes differ by from all arms of the service that compare alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import compare, hierarchy, metrics
from harness.analysis.cell import PAIRED, Cell, seed_of
from harness.analysis.compare import Estimate
from harness.analysis.hierarchy import Heterogeneity, Within
from harness.analysis.metrics import SWITCHED_CPU
from harness.model import Comparison

HL = "Hodges-Lehmann over quadruples, signed-rank interval, widened by what processes differ by"
TICKS = "ratio of sums (the counter moves by ticks), bootstrap over quadruples within blocks"
METERS = {**{metric: (meter,) for meter, metric in SWITCHED_CPU.items()}, **metrics.COMBINED_CPU}
PERCENT = "workload_cpu_percent"
SERVICE = "workload_cpu_us"


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
class Effect:
    """One metric of a cell in the processes that were measured, and the level it is held against.

    `within` is None where only sums can be compared: `sums` is their difference then.
    """

    cell: Cell
    metric: str
    level: float
    within: Within | None
    sums: Estimate | None = None


def rows(cells: Sequence[Cell], seed: int) -> dict[tuple[str, str], list[Comparison]]:
    """All differences of CPU per request, by workload and arm."""
    found = defaultdict(list)
    for metric in METERS:
        for row in _metric_rows(cells, metric, seed):
            found[row.workload, row.arm].append(row)
    return found


def percent_rows(cells: Sequence[Cell], seed: int) -> list[Comparison]:
    """Only those of the metric by which a run may end early."""
    return [row for row in _metric_rows(cells, SERVICE, seed) if row.metric == PERCENT]


def block_rows(cell: Cell) -> Iterator[BlockRow]:
    """The same estimate of each block alone."""
    for trial in cell.switched:
        effect = _effect(replace(cell, switched=(trial,)), SERVICE, 0)
        if effect is not None and effect.within is not None:
            e, block = effect.within.whole, trial[0].trial.block
            yield BlockRow(
                cell.workload, cell.arm.name, SERVICE, block, e.estimate, e.low, e.high, e.n
            )


def _metric_rows(cells: Sequence[Cell], metric: str, seed: int) -> Iterator[Comparison]:
    effects = [each for cell in cells if (each := _effect(cell, metric, seed)) is not None]
    between = _between(effects)
    for effect in effects:
        yield from _rows(effect, between.get(_alike(effect), hierarchy.NONE))


def _alike(effect: Effect) -> tuple[str, str]:
    """Arms that share processes and compare in the same way share what processes differ by."""
    return effect.cell.workload, effect.cell.arm.method


def _between(effects: Iterable[Effect]) -> Mapping[tuple[str, str], Heterogeneity]:
    arms = defaultdict(list)
    for effect in effects:
        if effect.within is not None and not _is_null(effect.cell):
            arms[_alike(effect)].append(effect.within)
    return {alike: hierarchy.pooled(each) for alike, each in arms.items()}


def _is_null(cell: Cell) -> bool:
    """Nothing differs within one process where nothing is switched; two twins differ."""
    return not cell.arm.collectors and cell.arm.method != "twin"


def _effect(cell: Cell, metric: str, seed: int) -> Effect | None:
    """One metric of a cell; None if it was not measured."""
    parts, less = METERS[metric], metrics.APART.get(metric, ())
    sample = cell.sample(parts, less)
    if not len(sample.on) or (metric == "unexplained_us" and cell.arm.against):
        return None
    if _is_ticked(cell, parts):
        sums, level = compare.ratio_of_sums(sample, seed_of(cell, seed, metric))
        return Effect(cell, metric, level, None, sums)
    return Effect(cell, metric, float(np.median(sample.off)), hierarchy.within(sample))


def _is_ticked(cell: Cell, parts: Sequence[str]) -> bool:
    """Whether windows are too short for a meter's ticks; half a trial is never."""
    return cell.arm.method != "block" and any(
        compare.is_ticked(rows, part) for part in parts for _, rows in cell.switched
    )


def _rows(effect: Effect, between: Heterogeneity) -> Iterator[Comparison]:
    cell, level = effect.cell, effect.level
    if effect.within is None:
        sums = effect.sums or Estimate(math.nan, math.nan, math.nan, 0)
        yield cell.row(effect.metric, sums, level, TICKS)
        return
    between = hierarchy.NONE if _is_null(cell) else between
    method = PAIRED if cell.arm.method == "block" else HL
    row = replace(
        cell.row(
            effect.metric, hierarchy.widened(effect.within, between), level, method,
            effect.within.p,
        ),
        mde=effect.within.whole.mde,
    )  # fmt: skip
    yield row
    if effect.metric == SERVICE and level > 0:
        yield percent(row)


def percent(row: Comparison) -> Comparison:
    """The service's CPU in percent of its level."""
    scale = 100 / row.level
    return replace(
        row, metric=PERCENT, unit=metrics.metric(PERCENT).unit, level=100.0, mde=row.mde * scale,
        estimate=row.estimate * scale, low=row.low * scale, high=row.high * scale,
    )  # fmt: skip

