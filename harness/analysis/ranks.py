"""The centre of differences and its interval by Wilcoxon's signed ranks, which spikes hardly move.

`cell`, `hierarchy` and `noise` call it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats

from harness.analysis.compare import CONFIDENCE, Array, Estimate

EXACT_UP_TO = 60
LEAST = 6  # differences: with fewer no signed-rank interval reaches 95 %
LISTED_UP_TO = 500  # differences whose Walsh averages are listed: n squared / 2 of them


def hodges_lehmann(sample: Array) -> Estimate:
    """Median of the Walsh averages of `sample` (n,), with the signed-rank interval.

    Distribution-free for symmetric differences: the order of states within a quadruple is a fair
    coin, which makes them so under no effect. With n < 6 no 95 % interval exists: it is NaN.
    The differences are taken as independent: `hierarchy.combine` is for those of several blocks.
    Source: Hodges and Lehmann 1963; Hollander, Wolfe and Chicken, Nonparametric Statistical
    Methods, 3rd ed., section 3.3.
    """
    n = len(sample)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    count, rank = n * (n + 1) // 2, _signed_rank_cut(n)
    middle = [(count - 1) // 2, count // 2]
    ends = [rank - 1, count - rank] if rank else []
    found = _walsh_averages(np.sort(sample), middle + ends)
    low, high = found[2:] if rank else (math.nan, math.nan)
    return Estimate((found[0] + found[1]) / 2, low, high, n)


def _walsh_averages(ordered: Array, places: Sequence[int]) -> list[float]:
    """Those of the sorted Walsh averages of a sorted sample that stand at `places`, from 0."""
    if len(ordered) <= LISTED_UP_TO:
        first, second = np.triu_indices(len(ordered))
        walsh = np.sort((ordered[first] + ordered[second]) / 2)
        return [float(walsh[place]) for place in places]
    return [_walsh_average(ordered, place) for place in places]


def _walsh_average(ordered: Array, place: int) -> float:
    """One of them by bisection, in memory of n: an hour of windows has 10^8 averages."""
    low, high = float(ordered[0]), float(ordered[-1])
    for _ in range(60):
        middle = (low + high) / 2
        ordered_pairs = int(np.searchsorted(ordered, 2 * middle - ordered, side="right").sum())
        same = int(np.searchsorted(ordered, middle, side="right"))
        if (ordered_pairs + same) // 2 > place:
            high = middle
        else:
            low = middle
    return high


def signed_rank_p(differences: Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that `differences` (n,) are symmetric about zero.

    Exact up to EXACT_UP_TO differences without ties or zeros, else the normal approximation with
    the correction for ties; zeros are left out (Wilcoxon 1945). NaN if n < 6.
    """
    if len(differences) < LEAST:
        return math.nan
    moved = np.abs(differences[differences != 0])
    if not len(moved):
        return 1.0
    is_exact = len(differences) <= EXACT_UP_TO and len(np.unique(moved)) == len(differences)
    found = stats.wilcoxon(differences, method="exact" if is_exact else "approx")
    return float(found.pvalue)


@cache
def _signed_rank_cut(n: int) -> int:
    """How many values t have P(signed-rank statistic <= t) <= 2.5 %: the interval's rank."""
    tail = (1 - CONFIDENCE) / 2
    if n > EXACT_UP_TO:
        centre, spread = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(centre + spread * float(stats.norm.ppf(tail)))
    weights = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(weights) + rank)
        longer[: len(weights)] += weights / 2
        longer[rank:] += weights / 2
        weights = longer
    return int(np.sum(np.cumsum(weights) <= tail))
