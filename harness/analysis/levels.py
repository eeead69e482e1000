"""A row's interval at another level than the 95 % of report.json; `verdicts`, `looks` call it."""

from __future__ import annotations

import math
from dataclasses import replace

from scipy import stats

from harness.analysis import coverage, value
from harness.analysis.budgets import LEVEL
from harness.analysis.coverage import Count
from harness.model import Comparison


def at(row: Comparison, level: float) -> Comparison:
    """The row with its interval at `level`; a range, which has no level, stays as it is.

    Exact intervals of counts are computed anew, those of means over trials by Student's t with
    their degrees of freedom. Of all others each side is scaled by the ratio of normal quantiles.
    That holds where the error is about normal; where a quantile of Student's is in the interval it
    makes it too wide below 95 %, and too narrow above.
    """
    if level == LEVEL or is_range(row) or not math.isfinite(row.low + row.high):
        return row
    if row.method.startswith(coverage.POOLED):
        count = Count(row.estimate * row.n / 100, row.n)
        found = coverage.exact(count, level, poisson="Poisson" in row.method)
        return replace(row, low=found.low, high=found.high)
    by = _quantile(row, level) / _quantile(row, LEVEL)
    low, high = (row.estimate + by * (end - row.estimate) for end in (row.low, row.high))
    return replace(row, low=low, high=high)


def is_range(row: Comparison) -> bool:
    """Whether low and high are the range of a few trials rather than an interval."""
    return "range" in row.method


def _quantile(row: Comparison, level: float) -> float:
    tail = (1 + level) / 2
    if row.method.startswith(value.MEAN) and row.n > 1:
        return float(stats.t.ppf(tail, row.n - 1))
    return float(stats.norm.ppf(tail))
