"""The rows of CPU per request, of all arms of a service together; `summary` calls it.

Whether there is a cost in these processes (p) is asked of each arm alone. The mean over processes
(the interval) takes what processes differ by from all arms of the service that compare as many
collectors in the same way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from harness.analysis import compare, effects, hierarchy, metrics
from harness.analysis.cell import PAIRED, Cell, seed_of
from harness.analysis.hierarchy import Heterogeneity, Within
from harness.analysis.metrics import CLIENT, SWITCHED_CPU
from harness.model import Comparison

WINDOWS = "robust regression on windows, redrawn coins, widened by what processes differ by"
HL = "Hodges-Lehmann over quadruples, signed-rank interval, widened by what processes differ by"
PAIRS = "context_cpu_us less those of {}; products of two in the regression on windows"
SUMS = (
    "weighted means of windows, redrawn coins, widened by what processes differ by "
    "(the counter moves by 10 ms: {} us a request of a window)"
)
TICKS = (
    "ratio of sums (the counter moves by ticks of 10 ms), bootstrap over quadruples within blocks, "
    "p by redrawing the coins, widened by what processes differ by"
)
METERS = {
    **{metric: (meter,) for meter, metric in SWITCHED_CPU.items()},
    **metrics.COMBINED_CPU,
    **{metric: (meter,) for metric, meter in metrics.COUNTED.items()},
    metrics.IPC: ("instructions",),
}
PERCENT = "workload_cpu_percent"
SERVICE = "workload_cpu_us"
PERCENT_OF = {SERVICE: PERCENT, "instructions_per_request": "instructions_percent"}
COUNTS = (*metrics.COUNTED, metrics.IPC)

Alike = tuple[str, str, int]
"""Workload, method and number of collectors: arms that are compared in the same way."""


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
class Difference:
    """One metric of a cell in the processes that were measured, and the level it is held against.

    `mean` is the effect on the mean of all windows, `down` the share of windows that count for less
    than half.
    """

    cell: Cell
    metric: str
    level: float
    method: str
    within: Within
    mean: float = math.nan
    down: float = math.nan


def rows(cells: Sequence[Cell], seed: int) -> dict[tuple[str, str], list[Comparison]]:
    """All differences of CPU per request, by workload and arm."""
    found = defaultdict(list)
    for metric in METERS:
        of = cells if metric != metrics.IPC else [_by_cycles(cell) for cell in cells]
        for row in _metric_rows(of, metric, seed):
            found[row.workload, row.arm].append(row)
    for cell in cells:
        found[cell.workload, cell.arm.name] += interactions(cell)
    return found


def _by_cycles(cell: Cell) -> Cell:
    """The cell with cycles in the place of requests, so that what is told is for each of them."""
    trials = []
    for record, windows in cell.switched:
        counted = [row for row in windows if "cycles" in row.meters]
        trials.append((record, tuple(replace(row, meters=_cycled(row.meters)) for row in counted)))
    return replace(cell, switched=tuple(trials))


def _cycled(meters: Mapping[str, float]) -> Mapping[str, float]:
    twin = {"requests.twin": meters["cycles.twin"]} if "cycles.twin" in meters else {}
    return {**meters, "requests": meters["cycles"], **twin}


def percent_rows(cells: Sequence[Cell], seed: int) -> list[Comparison]:
    """Only those of the metric by which a run may end early."""
    return [row for row in _metric_rows(cells, SERVICE, seed) if row.metric == PERCENT]


def service_rows(cells: Sequence[Cell], seed: int) -> list[Comparison]:
    """Only those of the service's own CPU, in microseconds."""
    return [row for row in _metric_rows(cells, SERVICE, seed) if row.metric == SERVICE]


def by_process(
    cells: Sequence[Cell], seed: int
) -> Iterator[tuple[Cell, float, Within, Heterogeneity]]:
    """Of each cell: the level of the service's CPU (us), each block's effect with its error, and
    what processes differ by in it.
    """
    found = [each for cell in cells if (each := _difference(cell, SERVICE, seed)) is not None]
    between = _between(found)
    for each in found:
        known = between.get(_name(each), hierarchy.NONE)
        yield each.cell, each.level, each.within, known


def interactions(cell: Cell) -> Iterator[Comparison]:
    """What collectors that are switched in the same windows cost together beyond each alone.

    The sum over all pairs; that three change what two do is not told apart.
    """
    if not cell.switched or not cell.is_switched:
        return
    factors = [i for i, of in enumerate(cell.contrast) if of]
    parts = _paying(cell, "context_cpu_us")
    if len(factors) < 2 or not parts:
        return
    sample = cell.windows(parts)
    pairs = [sample.states[:, i] & sample.states[:, j] for i, j in combinations(factors, 2)]
    states = np.column_stack([sample.states, *pairs])
    contrast = [0.0] * len(cell.contrast) + [1.0] * len(pairs)
    (effect,) = effects.fit(replace(sample, states=states), [contrast])
    if effect.n:
        within, method = hierarchy.of(effect), PAIRS.format(", ".join(cell.arm.collectors))
        whole = hierarchy.widened(within, hierarchy.pooled([within]))
        row = cell.row("interaction_us", whole, effect.level, method, effect.p)
        yield replace(row, mde=within.whole.mde, mean=effect.mean, down_share=effect.down)


def block_rows(cell: Cell) -> Iterator[BlockRow]:
    """The same estimate of each block alone."""
    for trial in cell.switched:
        found = _difference(replace(cell, switched=(trial,)), SERVICE, 0)
        if found is not None:
            e, block = found.within.whole, trial[0].trial.block
            yield BlockRow(
                cell.workload, cell.arm.name, SERVICE, block, e.estimate, e.low, e.high, e.n
            )


def _metric_rows(cells: Sequence[Cell], metric: str, seed: int) -> Iterator[Comparison]:
    yield from estimated(
        [each for cell in cells if (each := _difference(cell, metric, seed)) is not None]
    )


def estimated(found: Sequence[Difference]) -> Iterator[Comparison]:
    """The rows of one metric's differences, of all arms and services together."""
    between = _between(found)
    for each in found:
        yield from _rows(each, between.get(_name(each), hierarchy.NONE))


def _paying(cell: Cell, metric: str) -> tuple[str, ...]:
    """The meters of a metric; none if one of them stood still: load from elsewhere pays nothing."""
    trials = [rows for _, rows in cell.switched]
    parts = METERS[metric]
    still = CLIENT in parts and not any(
        row.meters.get(CLIENT, 1.0) for rows in trials for row in rows
    )
    return () if still else parts


def _alike(found: Difference) -> Alike:
    """Arms that share processes and compare in the same way share what processes differ by.

    That is, as far as their effects are alike (`hierarchy.by_size`). Not so arms of several
    collectors and of one: a sum differs by more than its parts do.
    """
    arm = found.cell.arm
    return found.cell.workload, arm.method, len(arm.collectors)


def _between(found: Iterable[Difference]) -> Mapping[tuple[str, str], Heterogeneity]:
    """What processes differ by, by workload and arm."""
    arms: dict[Alike, list[Difference]] = defaultdict(list)
    for each in found:
        if not _is_null(each.cell):
            arms[_alike(each)].append(each)
    between: dict[tuple[str, str], Heterogeneity] = {}
    for alike in arms.values():
        pools = hierarchy.by_size([d.within for d in alike], [d.level for d in alike])
        between |= {_name(d): pool for d, pool in zip(alike, pools, strict=True)}
    return between


def _name(found: Difference) -> tuple[str, str]:
    return found.cell.workload, found.cell.arm.name


def _is_null(cell: Cell) -> bool:
    """Nothing differs within one process where nothing is switched; two twins differ."""
    return not cell.arm.collectors and cell.arm.method != "twin"


def _difference(cell: Cell, metric: str, seed: int) -> Difference | None:
    """One metric of a cell; None if it was not measured."""
    if not cell.switched or (metric == "unexplained_us" and cell.arm.against):
        return None
    parts, less = _paying(cell, metric), metrics.APART.get(metric, ())
    if not parts:
        return None
    is_ticked = _is_ticked(cell, parts)
    if cell.is_switched:
        return _of_windows(cell, metric, is_ticked)
    sample = cell.sample(parts, less)
    if not len(sample.on):
        return None
    if is_ticked:
        sums, level = hierarchy.of_sums(sample, seed_of(cell, seed, metric))
        return Difference(cell, metric, level, TICKS, sums)
    method = PAIRED if cell.arm.method == "block" else HL
    level = float(np.median(sample.off))
    return Difference(cell, metric, level, method, hierarchy.within(sample))


def _of_windows(cell: Cell, metric: str, is_ticked: bool) -> Difference | None:
    sample = cell.windows(_paying(cell, metric), metrics.APART.get(metric, ()))
    (effect,) = effects.fit(sample, [cell.contrast])
    if not effect.n:
        return None
    if is_ticked:
        floor = compare.tick_error_us(sample.value, sample.weight, cell.contrast)
        tick_us = 1e6 * compare.USER_HZ_SECONDS / float(sample.weight.mean())
        within, method = hierarchy.of_mean(effect, floor), SUMS.format(f"{tick_us:.0f}")
        return Difference(cell, metric, effect.mean_level, method, within)
    within = hierarchy.of(effect)
    mean, down = effect.mean, effect.down
    return Difference(cell, metric, effect.level, WINDOWS, within, mean, down)


def _is_ticked(cell: Cell, parts: Sequence[str]) -> bool:
    """Whether windows are too short for a meter's ticks; the parts of a trial by `block` never are.

    Instructions are whole numbers too, and many.
    """
    timed = [part for part in parts if part.startswith("cpu.")]
    return cell.arm.method != "block" and any(
        compare.is_ticked(rows, part) for part in timed for _, rows in cell.switched
    )


def _rows(found: Difference, between: Heterogeneity) -> Iterator[Comparison]:
    cell, metric, level = found.cell, found.metric, found.level
    whole = hierarchy.widened(found.within, hierarchy.NONE if _is_null(cell) else between)
    row = replace(
        cell.row(metric, whole, level, found.method, found.within.p),
        mde=found.within.whole.mde, mean=found.mean, down_share=found.down,
    )  # fmt: skip
    if metric in COUNTS:  # what is counted is no seconds, of which us are told
        row = scaled(row, 1e-6)
    yield row
    if metric in PERCENT_OF and level > 0:
        yield percent(row)


def percent(row: Comparison) -> Comparison:
    """What the service pays in percent of its level."""
    found = scaled(row, 100 / row.level)
    metric = PERCENT_OF[row.metric]
    return replace(found, metric=metric, unit=metrics.metric(metric).unit, level=100.0)


def scaled(row: Comparison, by: float) -> Comparison:
    """A difference in another unit."""
    return replace(
        row, estimate=row.estimate * by, low=row.low * by, high=row.high * by, mde=row.mde * by,
        mean=row.mean * by, level=row.level * by,
    )  # fmt: skip
