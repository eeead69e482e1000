"""Robust differences of on and off windows with their intervals; `summary` calls it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.store import WindowRow

Array = NDArray[np.float64]

CONFIDENCE = 0.95
Z_CONFIDENCE = 1.96
Z_DETECT = 1.96 + 0.84  # two-sided 5 % level, 80 % power
EXACT_UP_TO = 60


@dataclass(frozen=True)
class Estimate:
    """A centre with its 95 % interval and the smallest effect seen with 80 % power."""

    estimate: float
    low: float
    high: float
    n: int

    @property
    def mde(self) -> float:
        """2.8 standard errors, the standard error derived from the interval."""
        return Z_DETECT * self.standard_error

    @property
    def standard_error(self) -> float:
        """Half the interval's width / 1.96."""
        return (self.high - self.low) / 2 / Z_CONFIDENCE

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit; `factor` is positive."""
        return Estimate(self.estimate * factor, self.low * factor, self.high * factor, self.n)

    def less(self, known: float) -> Estimate:
        """What is left after an effect that is known exactly."""
        return Estimate(self.estimate - known, self.low - known, self.high - known, self.n)


@dataclass(frozen=True)
class Quadruples:
    """CPU per request of each whole quadruple, in us, with the collectors on and off; (n,) each."""

    on: Array
    off: Array

    @property
    def differences(self) -> Array:
        """on - off of each quadruple."""
        return self.on - self.off


def quadruples(rows: Iterable[WindowRow], meters: Sequence[str]) -> Quadruples:
    """Sum `meters` (seconds) over each quadruple's on and off windows and divide by requests.

    A quadruple that lacks a window, a meter or any request in one state is left out.
    """
    groups: dict[int, list[WindowRow]] = defaultdict(list)
    for row in rows:
        groups[row.window.quadruple].append(row)
    whole = [group for _, group in sorted(groups.items()) if is_whole(group, meters)]
    return Quadruples(
        np.array([_per_request(group, meters, True) for group in whole], dtype=float),
        np.array([_per_request(group, meters, False) for group in whole], dtype=float),
    )


def is_whole(group: Sequence[WindowRow], meters: Sequence[str]) -> bool:
    """Two windows on, two off, every meter read, and requests in both states."""
    if sum(row.window.on for row in group) != 2 or len(group) != 4:
        return False
    if any(meter not in row.meters for row in group for meter in (*meters, "requests")):
        return False
    return all(
        sum(row.meters["requests"] for row in group if row.window.on == on) > 0
        for on in (True, False)
    )


def _per_request(group: Sequence[WindowRow], meters: Sequence[str], on: bool) -> float:
    rows = [row for row in group if row.window.on == on]
    seconds = sum(row.meters[meter] for row in rows for meter in meters)
    return 1e6 * seconds / sum(row.meters["requests"] for row in rows)


def join(parts: Sequence[Quadruples]) -> Quadruples:
    """The quadruples of several trials as one sample."""
    if not parts:
        return Quadruples(np.empty(0), np.empty(0))
    return Quadruples(np.concatenate([p.on for p in parts]), np.concatenate([p.off for p in parts]))


def hodges_lehmann(sample: Array) -> Estimate:
    """Median of the Walsh averages of `sample` (n,), with the signed-rank interval.

    Distribution-free for symmetric differences: the order of states within a quadruple is a fair
    coin, which makes them so under no effect. With n < 6 no 95 % interval exists: it is NaN.
    Source: Hodges and Lehmann 1963; Hollander, Wolfe and Chicken, Nonparametric Statistical
    Methods, 3rd ed., section 3.3.
    """
    n = len(sample)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    first, second = np.triu_indices(n)
    walsh = np.sort((sample[first] + sample[second]) / 2)
    rank = _signed_rank_cut(n)
    if rank == 0:
        return Estimate(float(np.median(walsh)), math.nan, math.nan, n)
    return Estimate(float(np.median(walsh)), float(walsh[rank - 1]), float(walsh[-rank]), n)


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


def disagreement(blocks: Sequence[Estimate]) -> float:
    """Probability (Cochran's Q) that blocks with one common effect differ as much as these do."""
    known = [b for b in blocks if math.isfinite(b.standard_error) and b.standard_error > 0]
    if len(known) < 2:
        return 1.0
    weights = np.array([b.standard_error**-2 for b in known])
    values = np.array([b.estimate for b in known])
    centre = float(np.average(values, weights=weights))
    return float(stats.chi2.sf(float(np.sum(weights * (values - centre) ** 2)), len(known) - 1))
