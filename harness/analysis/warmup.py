"""Whether a workload has warmed up, judged by its CPU per request; `block` calls it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.analysis.compare import Array

LEAST = 8  # pieces
LONGEST = 6  # pieces of a third: what lies further back was warm-up, or is another disturbance
# A false "not yet" costs one more piece, a false "steady" spoils a block: the trend test is lenient
# and the noise allowed is one standard error.
UNLIKELY = 0.3
REACH = 1.0
SCALE = 1.4826  # median absolute deviation -> standard deviation, normal
MEDIAN = 1.2533  # standard error of a median / that of a mean, normal


def steady(us_per_request: Sequence[float]) -> bool:
    """Whether pieces (n,) of equal length, in order, show neither trend nor step any more.

    Of the last two thirds (8 to 12 pieces): Mann and Kendall's test finds no trend at 30 %, and the
    median of the last third lies within the noise of the third before (one standard error of the
    difference of medians, noise from their median absolute deviations). False with fewer than 8
    pieces. In simulation with pieces of 0.5 s and 5 to 10 % noise, a process that is steady from
    the start is called so after 4.5 s (median); one whose cost falls to half with a time constant
    of 3 s after 11 to 14 s, when 3 % of the excess or less are left (medians).
    Sources: Mann 1945, Nonparametric tests against trend, Econometrica 13; Kalibera and Jones 2013,
    Rigorous benchmarking in reasonable time, for judging warm-up by data.
    """
    values = np.asarray(us_per_request, dtype=float)
    if len(values) < LEAST or not np.isfinite(values).all():
        return False
    third = min(len(values) // 3, LONGEST)
    recent = values[-max(LEAST, 2 * third) :]
    return not _has_trend(recent) and _agree(values[-2 * third : -third], values[-third:])


def _has_trend(values: Array) -> bool:
    if np.all(values == values[0]):
        return False
    return bool(stats.kendalltau(np.arange(len(values)), values).pvalue < UNLIKELY)


def _agree(before: Array, last: Array) -> bool:
    residuals = np.concatenate([before - np.median(before), last - np.median(last)])
    noise = SCALE * float(np.median(np.abs(residuals)))
    error = MEDIAN * noise * (1 / len(before) + 1 / len(last)) ** 0.5
    return bool(abs(np.median(last) - np.median(before)) <= REACH * error)
