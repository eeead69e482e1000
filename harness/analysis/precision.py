"""How wide an interval will be, by what an arm's windows and its processes vary; for `allocation`.

Known are variances only. Where an effect lies is not asked, so that time which is given by these
figures is not given by what was found.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis import cpu, summary
from harness.analysis.cell import Cell
from harness.analysis.compare import CONFIDENCE, Array
from harness.analysis.hierarchy import Heterogeneity, Within
from harness.model import FACTORIAL
from harness.results.run import Run

TAIL = (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Spread:
    """What the interval of an arm is made of, in percent of the service's CPU per request.

    `within`: variance that one second of windows in one process leaves (%^2 s), which falls with
    their number; `between`: variance of the effect between processes (%^2), which falls with the
    number of blocks alone; `arms` is how many tell it together.
    """

    within: float
    between: float = 0.0
    arms: int = 1


def half_widths(spread: Spread, piloted: Sequence[float], blocks: int, seconds: Array) -> Array:
    """Half the 95 % interval's width (%) after so many more blocks of `seconds` (n,) of windows.

    `piloted` are the seconds of the blocks that there are already. As `hierarchy.widened` has it:
    blocks weigh by their windows, and Student's quantile has the degrees of freedom of all arms
    that tell of what processes differ by.
    """
    whole = math.fsum(piloted) + blocks * seconds
    squares = math.fsum(each**2 for each in piloted) + blocks * seconds**2
    variance = spread.within / whole + spread.between * squares / whole**2
    found: Array = _quantile(spread, len(piloted) + blocks) * np.sqrt(variance)
    return found


def _quantile(spread: Spread, blocks: int) -> float:
    if spread.between <= 0:
        return float(stats.norm.ppf(TAIL))
    df = spread.arms * (blocks - 1)
    return float(stats.t.ppf(TAIL, df)) if df > 0 else math.inf


def spreads(run: Run) -> dict[str, dict[str, dict[str, Spread]]]:
    """Of each workload, by the arm of the trials, each arm whose interval time is given for.

    Sums of collectors that share their windows are left out where the collectors have arms: such
    an interval is as narrow as those of its parts let it be. What tells no interval is not there.
    """
    experiment, cells = run.experiment(), summary.cells_of(run)
    found: dict[str, dict[str, dict[str, Spread]]] = defaultdict(lambda: defaultdict(dict))
    for cell, level, within, between in cpu.by_process(cells, experiment.seed):
        seconds = [experiment.seconds_of(record.trial) for record, _ in cell.switched]
        if not _is_sum(cell, cells) and level > 0 and len(within.blocks) == len(seconds):
            spread = _spread(within, between, level, seconds)
            found[cell.workload][experiment.trial_arm(cell.arm.name)][cell.arm.name] = spread
    return {workload: dict(arms) for workload, arms in found.items()}


def _spread(
    within: Within, between: Heterogeneity, level: float, seconds: Sequence[float]
) -> Spread:
    """Of blocks' errors and their windows; `level` makes per cent of it."""
    each = [b.standard_error**2 * s for b, s in zip(within.blocks, seconds, strict=True)]
    arms = round(between.df / (len(seconds) - 1)) if math.isfinite(between.df) else 1
    scale = (100 / level) ** 2
    return Spread(scale * math.fsum(each) / len(each), scale * between.variance, max(1, arms))


def _is_sum(cell: Cell, cells: Sequence[Cell]) -> bool:
    """Whether all of a shared arm's collectors have arms of their own."""
    if cell.arm.method != FACTORIAL or len(cell.arm.collectors) < 2:
        return False
    alone = {each.arm.collectors for each in cells if len(each.arm.collectors) == 1}
    return all((name,) in alone for name in cell.arm.collectors)


def widest(
    of: Mapping[str, Spread], piloted: Sequence[float], blocks: int, seconds: Array
) -> Array:
    """That of the arm with the widest interval, (n,)."""
    each = [half_widths(spread, piloted, blocks, seconds) for spread in of.values()]
    found: Array = np.max(each, axis=0)
    return found
