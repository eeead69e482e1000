"""Runs that asked the same before: pooled, and judged at a level that pays for each look; `gates`.

Whoever repeats a run until it passes finds a wrong pass in the end. The runs are therefore pooled,
and the k-th look is judged at 1 / k of the probability of an error (Bonferroni). As the looks
before it had theirs, the chance that any of k looks passes a broken budget is at most that of one
times 1 + 1/2 + ... + 1/k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.analysis import coverage, levels
from harness.analysis.compare import Z_CONFIDENCE
from harness.analysis.coverage import Count
from harness.model import Comparison

POOLED = "mean of {} runs by inverse variance, widened by their disagreement (Birge); {}"


def level(one: float, looks: int) -> float:
    """That of the interval at the `looks`-th look, if a single one is judged at `one`."""
    return 1 - (1 - one) / looks


def spent(looks: int) -> float:
    """By how many times the chance of a wrong pass in any of so many looks is that of one."""
    return math.fsum(1 / k for k in range(1, looks + 1))


def pooled(rows: Sequence[Comparison]) -> Comparison:
    """Rows of independent runs as one with a 95 % interval; the last is the newest.

    Counts are added up. Of ranges the widest is kept. Others are weighted by their variances; where
    they differ by more than those allow, the interval is widened by the root of Q / df (Birge 1932,
    Physical Review 40). What has no interval cannot be weighted: then there is none.
    """
    newest = rows[-1]
    if len(rows) == 1:
        return newest
    if all(row.method.startswith(coverage.POOLED) for row in rows):
        return _counted(rows)
    n = sum(row.n for row in rows)
    if any(levels.is_range(row) for row in rows):
        low, high = min(row.low for row in rows), max(row.high for row in rows)
        centre = math.fsum(row.n * row.estimate for row in rows) / n
        return replace(newest, estimate=centre, low=low, high=high, n=n)
    return _weighted(rows, n)


def _counted(rows: Sequence[Comparison]) -> Comparison:
    made = math.fsum(row.n for row in rows)
    seen = math.fsum(row.estimate * row.n / 100 for row in rows)
    poisson = any("Poisson" in row.method for row in rows)
    found = coverage.exact(Count(seen, made), 0.95, poisson=poisson)
    return replace(
        rows[-1], estimate=found.estimate, low=found.low, high=found.high, n=found.n
    )  # fmt: skip


def _weighted(rows: Sequence[Comparison], n: int) -> Comparison:
    errors = np.array([(row.high - row.low) / 2 / Z_CONFIDENCE for row in rows])
    values = np.array([row.estimate for row in rows])
    if not bool(np.all(errors > 0)):
        return replace(rows[-1], low=math.nan, high=math.nan, mde=math.nan, n=n)
    weights = errors**-2
    centre = float(np.average(values, weights=weights))
    q = float(weights @ (values - centre) ** 2)
    reach = Z_CONFIDENCE * math.sqrt(max(1.0, q / (len(rows) - 1)) / float(weights.sum()))
    method = POOLED.format(len(rows), rows[-1].method)
    level_off = float(np.average([row.level for row in rows], weights=weights))
    return replace(
        rows[-1], estimate=centre, low=centre - reach, high=centre + reach, n=n, method=method,
        level=level_off, mde=math.nan, p=math.nan, p_holm=math.nan,
    )  # fmt: skip
