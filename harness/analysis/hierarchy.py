"""Estimates over quadruples within blocks, and over trials: what every row is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis.compare import CONFIDENCE, Array, Estimate, Quadruples
from harness.analysis.ranks import LEAST, hodges_lehmann, signed_rank_p

# Standard errors above zero from which autocorrelation counts. One, not 1.64: overlooking it costs
# coverage (92 % instead of 95 % at 0.2), counting a chance value costs 3 % of the width.
SIGNIFICANT = 1.0
LONGEST = 0.9  # the autocorrelation that is believed at most


@dataclass(frozen=True)
class Spread:
    """What independent quadruples do not tell: `factor` on the standard error, and Student's df."""

    factor: float
    df: float

    @property
    def widening(self) -> float:
        """By how much the signed-rank interval is widened to each side."""
        tail = (1 + CONFIDENCE) / 2
        return self.factor * float(stats.t.ppf(tail, self.df) / stats.norm.ppf(tail))


def combine(sample: Quadruples) -> Estimate:
    """Hodges-Lehmann over the quadruples, its interval widened for what they share; unit as given.

    Two things widen it. Positive lag-1 autocorrelation r within blocks multiplies the variance by
    (1 + r) / (1 - r), as for a first-order autoregression. Variance tau^2 between the blocks'
    estimates (DerSimonian and Laird 1986, Controlled Clinical Trials 7; zero if Cochran's Q is
    below its degrees of freedom) adds tau^2 x the sum of the squared weights of the blocks, and as
    tau^2 is then known from B blocks only, the quantile is Student's with B - 1 df.

    Coverage of the 95 % interval in simulation (docs/adr/0010-statistics.md has the table): 94 to
    97 % with four blocks or more, whatever tau. With two blocks B - 1 df would make one interval in
    three 6.5 times as wide though nothing differs, so there the df are Satterthwaite's (1946); its
    price is a coverage of 90 % if tau equals the standard error of a block, 86 % at 1.5 times it.
    """
    whole = hodges_lehmann(sample.differences)
    if not whole.standard_error > 0:
        return whole
    centre, by = whole.estimate, spread(sample, whole).widening
    low, high = centre - by * (centre - whole.low), centre + by * (whole.high - centre)
    return Estimate(centre, low, high, whole.n)


def probability(sample: Quadruples) -> float:
    """Two-sided p of no effect: the signed-rank test's, weakened as `combine` widens.

    NaN if n < 6.
    """
    whole, p = hodges_lehmann(sample.differences), signed_rank_p(sample.differences)
    if not whole.standard_error > 0 or math.isnan(p):
        return p
    found = spread(sample, whole)
    return float(2 * stats.t.sf(stats.norm.isf(p / 2) / found.factor, found.df))


def autocorrelation(sample: Quadruples) -> float:
    """Lag-1 correlation of the differences' ranks within blocks, pooled; NaN if there is none.

    Ranks, because the variance of the Hodges-Lehmann estimate depends on those and because one
    spike would hide it. Corrected for its bias of -(1 + 3 r) / n (Kendall 1954, Biometrika 41).
    """
    products = squares = 0.0
    lengths: list[int] = []
    for part in _blocks(sample):
        ranks = stats.rankdata(part)
        ranks -= ranks.mean()
        products += float(ranks[1:] @ ranks[:-1])
        squares += float(ranks @ ranks)
        lengths.append(len(part))
    if not squares or float(np.mean(lengths)) < LEAST:
        return math.nan
    n = float(np.mean(lengths))
    return (products / squares + 1 / n) / (1 - 3 / n)


def spread(sample: Quadruples, whole: Estimate) -> Spread:
    """How far `whole`, the estimate over all quadruples, is wider than if they were independent."""
    r = autocorrelation(sample)
    is_correlated = r * math.sqrt(len(sample.block)) > SIGNIFICANT
    inflation = (1 + min(r, LONGEST)) / (1 - min(r, LONGEST)) if is_correlated else 1.0
    within = whole.standard_error**2 * inflation
    between, blocks = _between(sample, inflation)
    if not between:
        return Spread(math.sqrt(inflation), math.inf)
    df = blocks - 1 if blocks > 2 else ((within + between) / between) ** 2
    return Spread(math.sqrt(within + between) / whole.standard_error, df)


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of values, one a trial, with Student's t interval; its bounds are NaN if n < 2."""
    n = len(values)
    if n < 2:
        return Estimate(values[0] if n else math.nan, math.nan, math.nan, n)
    centre = float(np.mean(values))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Estimate(centre, centre - reach, centre + reach, n)


def _blocks(sample: Quadruples) -> list[Array]:
    return [sample.differences[sample.block == name] for name in np.unique(sample.block)]


def _between(sample: Quadruples, inflation: float) -> tuple[float, int]:
    """Variance that the blocks' own effects give to the pooled estimate, and how many blocks."""
    each = [(hodges_lehmann(part), len(part)) for part in _blocks(sample) if len(part) >= LEAST]
    known = [(e, n) for e, n in each if e.standard_error > 0]
    if len(known) < 2:
        return 0.0, len(known)
    errors = np.array([e.standard_error for e, _ in known]) * math.sqrt(inflation)
    tau2 = _dersimonian_laird(np.array([e.estimate for e, _ in known]), errors)
    shares = _shares(errors, np.array([n for _, n in known], dtype=float))
    return tau2 * float(shares @ shares), len(known)


def _dersimonian_laird(values: Array, errors: Array) -> float:
    weights = errors**-2
    centre = float(np.average(values, weights=weights))
    q, df = float(weights @ (values - centre) ** 2), len(values) - 1
    scale = float(weights.sum() - (weights @ weights) / weights.sum())
    return max(0.0, (q - df) / scale)


def _shares(errors: Array, counts: Array) -> Array:
    """Weight of each block in the pooled estimate: its overlap with all (normal densities).

    Moving block b moves the Hodges-Lehmann estimate by n_b x integral of f_b x f, normalised: a
    noisy block counts for less.
    """
    variances = errors**2 * counts
    overlap = 1 / np.sqrt(variances[:, None] + variances[None, :])
    weights = counts * (overlap @ counts)
    shares: Array = weights / weights.sum()
    return shares
