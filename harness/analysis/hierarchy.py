"""What several processes tell together: one heterogeneity of a service's arms, and its price.

Two questions are kept apart. Whether there is an effect in the processes that were measured is
answered by the coins alone: under no effect nothing differs between processes either. How large it
is in the mean over processes needs to know how much they differ, which two of them hardly tell:
that is pooled over the arms of a service that have as many collectors and whose effects are alike.
docs/adr/0019-coins-and-windows.md and 0023 have the simulations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis import compare, effects
from harness.analysis.compare import CONFIDENCE, Array, Estimate, Quadruples
from harness.analysis.effects import Effect
from harness.analysis.ranks import LEAST, hodges_lehmann, signed_rank_p

# Standard errors above zero from which autocorrelation counts. One, not 1.64: overlooking it costs
# coverage (92 % instead of 95 % at 0.2), counting a chance value costs 3 % of the width.
SIGNIFICANT = 1.0
LONGEST = 0.9  # the autocorrelation that is believed at most
# Of the level. Processes differ by some per cent of an effect: of a smaller one that is less than a
# block can tell, of a larger one more than the others have.
LARGE = 0.1


@dataclass(frozen=True)
class Within:
    """An effect in the processes that were measured: `whole`, and of each block alone.

    `shares` are the weights that the blocks have in `whole`; `p` is that of no effect.
    """

    whole: Estimate
    blocks: tuple[Estimate, ...]
    shares: tuple[float, ...]
    p: float


@dataclass(frozen=True)
class Heterogeneity:
    """Variance of the effect between processes, and the degrees of freedom that it is known by."""

    variance: float
    df: float


NONE = Heterogeneity(0.0, math.inf)


def within(sample: Quadruples) -> Within:
    """Hodges-Lehmann over quadruples, with the signed-rank test's interval and p."""
    whole, p = hodges_lehmann(sample.differences), signed_rank_p(sample.differences)
    each = [hodges_lehmann(part) for part in _blocks(sample) if len(part) >= LEAST]
    known = tuple(e for e in each if e.standard_error > 0)
    return Within(whole, known, tuple(_overlaps(known)) if known else (), p)


def of(effect: Effect) -> Within:
    """An effect from windows, with Student's interval and p of the redrawn coins."""
    each = zip(effect.blocks, effect.shares, strict=True)
    known = [(block, share) for block, share in each if block.standard_error > 0]
    return Within(effect.interval, tuple(b for b, _ in known), tuple(s for _, s in known), effect.p)


def of_mean(effect: Effect, floor: float) -> Within:
    """The effect on the mean of all windows, with p and interval of the redrawn coins.

    For counters of ticks, whose typical window tells nothing; `floor` is the standard error that
    the ticks alone have: coins see less where the counter hardly moved.
    """
    error = max(effect.mean_error, floor)
    whole = effects.interval(effect.mean, error, effect.df, effect.n)
    each = zip(effect.mean_blocks, effect.mean_shares, strict=True)
    known = [(block, share) for block, share in each if block.standard_error > 0]
    p = effects.p_of(effect.mean, error, effect.df)
    return Within(whole, tuple(b for b, _ in known), tuple(s for _, s in known), p)


def of_sums(sample: Quadruples, seed: int) -> tuple[Within, float]:
    """The ratio of sums, with p of the redrawn coins and an interval by bootstrap; off.

    For counters of ticks where two processes are compared.
    """
    whole, level = compare.ratio_of_sums(sample, seed)
    parts = [sample.pick(sample.block == name) for name in np.unique(sample.block)]
    each = [compare.ratio_of_sums(part, seed)[0] for part in parts]
    shares = np.array([part.on_requests.sum() for part in parts])
    shares = shares / shares.sum()
    known = [(e, s) for e, s in zip(each, shares.tolist(), strict=True) if e.standard_error > 0]
    blocks, weights = tuple(e for e, _ in known), tuple(s for _, s in known)
    return Within(whole, blocks, weights, compare.coins_p(sample)), level


def pooled(arms: Iterable[Within]) -> Heterogeneity:
    """One variance between processes for arms that share them, in the square of their unit.

    DerSimonian and Laird's (1986, Controlled Clinical Trials 7) with Cochran's Q, its degrees of
    freedom and its scale each summed over the arms; zero if Q is below its degrees of freedom.
    """
    q, df, scale = np.sum([_moments(arm) for arm in arms] or [_NOTHING], axis=0)
    return Heterogeneity(max(0.0, float((q - df) / scale)), float(df)) if scale > 0 else NONE


_NOTHING = (0.0, 0.0, 0.0)


def _moments(arm: Within) -> tuple[float, float, float]:
    """Cochran's Q of an arm's blocks, its degrees of freedom, and what a variance of one adds."""
    if len(arm.blocks) < 2:
        return _NOTHING
    values = np.array([block.estimate for block in arm.blocks])
    weights = np.array([block.standard_error for block in arm.blocks]) ** -2
    centre = float(np.average(values, weights=weights))
    q = float(weights @ (values - centre) ** 2)
    return q, len(values) - 1.0, float(weights.sum() - (weights @ weights) / weights.sum())


def by_size(arms: Sequence[Within], levels: Sequence[float]) -> list[Heterogeneity]:
    """What processes differ by, for each of the arms that share them; `levels` in their unit.

    Arms whose effect is below LARGE of the level have one variance. In a larger effect they differ
    by that and by a share of the effect, which the large arms have in common: were it pooled with
    the small ones', it would widen those by what they do not have.
    """
    large = [abs(a.whole.estimate) > LARGE * level for a, level in zip(arms, levels, strict=True)]
    common = pooled(arm for arm, is_large in zip(arms, large, strict=True) if not is_large)
    share, df = _share([arm for arm, is_large in zip(arms, large, strict=True) if is_large], common)
    return [
        Heterogeneity(common.variance + share * arm.whole.estimate**2, df)
        if is_large and share
        else common
        for arm, is_large in zip(arms, large, strict=True)
    ]


def _share(arms: Sequence[Within], common: Heterogeneity) -> tuple[float, float]:
    """The variance between processes beyond the common one, per square of the effect; its df."""
    q = df = scale = 0.0
    for arm in arms:
        its_q, its_df, its_scale = _moments(arm)
        q += its_q - its_scale * common.variance
        df += its_df
        scale += its_scale * arm.whole.estimate**2
    return (max(0.0, (q - df) / scale), df) if scale > 0 else (0.0, math.inf)


def widened(arm: Within, between: Heterogeneity) -> Estimate:
    """The mean over processes: the interval of `whole` with the variance between them.

    The quantile is Student's with the pooled degrees of freedom. With a single one that would be
    6.5 times as wide in one run of three though nothing differs, so there they are Satterthwaite's
    (1946), at the price of a coverage below 95 % where two blocks of one arm are all that is known.
    """
    whole, error = arm.whole, arm.whole.standard_error
    added = between.variance * math.fsum(share**2 for share in arm.shares)
    if not (error > 0 and added > 0):
        return whole
    total = error**2 + added
    df = between.df if between.df > 1 else (total / added) ** 2
    tail = (1 + CONFIDENCE) / 2
    by = math.sqrt(total) / error * float(stats.t.ppf(tail, df) / stats.norm.ppf(tail))
    low, high = (whole.estimate + by * (end - whole.estimate) for end in (whole.low, whole.high))
    return Estimate(whole.estimate, low, high, whole.n)


def combine(sample: Quadruples) -> Estimate:
    """The mean over processes from one arm alone; unit as given."""
    arm = within(sample)
    return widened(arm, pooled([arm]))


def level(sample: Quadruples) -> Estimate:
    """The same of slices that no coin has put in order, so that neighbours may resemble each other.

    Positive lag-1 autocorrelation r within blocks multiplies the variance by (1 + r) / (1 - r), as
    for a first-order autoregression.
    """
    r, found = autocorrelation(sample), combine(sample)
    if not r * math.sqrt(len(sample.block)) > SIGNIFICANT:
        return found
    by = math.sqrt((1 + min(r, LONGEST)) / (1 - min(r, LONGEST)))
    low, high = (found.estimate + by * (end - found.estimate) for end in (found.low, found.high))
    return Estimate(found.estimate, low, high, found.n)


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


def probability(sample: Quadruples) -> float:
    """Two-sided p of no effect in these processes, by the coins: the signed-rank test's.

    NaN if n < 6.
    """
    return signed_rank_p(sample.differences)


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


def _overlaps(blocks: Sequence[Estimate]) -> Array:
    """Weight of each block in the pooled estimate: its overlap with all (normal densities).

    Moving block b moves the Hodges-Lehmann estimate by n_b x integral of f_b x f, normalised: a
    noisy block counts for less.
    """
    counts = np.array([block.n for block in blocks], dtype=float)
    variances = np.array([block.standard_error for block in blocks]) ** 2 * counts
    overlap = 1 / np.sqrt(variances[:, None] + variances[None, :])
    weights = counts * (overlap @ counts)
    shares: Array = weights / weights.sum()
    return shares
