"""Effects from single windows: robust regression, with errors by redrawing the coins; for `cpu`.

A window's value is its level, a slow drift, and the effect of each factor that is on in it. Windows
that something else disturbed count for less the farther off they are (Tukey's bisquare; Beaton and
Tukey 1974, Technometrics 16), so that one of them does not spoil its neighbours. How sure an effect
is comes from the design alone: what the coins might as well have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.analysis import redraw
from harness.analysis.compare import CONFIDENCE, Array, Estimate
from harness.analysis.drift import Drift

BISQUARE = 4.685  # scales: 95 % efficient where noise is normal (Holland and Welsch 1977)
HUBER = 1.345  # likewise, for the first steps: it has one minimum, the bisquare may have several
FROM_MAD = 1.4826
FIRST, MOST = 10, 60  # steps with Huber's weights, and in all
STILL = 1e-3  # of a standard error: a step that moves the effects by less is the last
LEAST_DF = 5  # below, no interval is given: six quadruples, as for signed ranks
FEWEST = 4  # windows beyond the factors: two knots, and something left
DOWN = 0.5  # windows of less weight are counted as weighted down

States = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Windows of one or more blocks: what was measured in each, and what was on.

    `value` and `weight` (n,): in any unit, and what its precision is in proportion to; `states`
    (n, k): of the factors; `group` (n,): within it the coins are drawn, a quadruple where one
    factor is switched, a cycle of all combinations where several are; `block` (n,): a process;
    `time` (n,): s.
    """

    value: Array
    weight: Array
    states: States
    group: Numbers
    block: Numbers
    time: Array

    def __len__(self) -> int:
        return len(self.value)

    def pick(self, which: NDArray[np.bool_] | Numbers) -> Windows:
        """Some of the windows."""
        return Windows(
            self.value[which], self.weight[which], self.states[which], self.group[which],
            self.block[which], self.time[which],
        )  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """The effect of a contrast in the processes that were measured.

    `estimate` is that on the typical window, `mean` that on the mean of all windows; each with its
    standard error. `p` is two-sided, of no effect in any window; `down` the share of windows that
    count for less than half; `level` the typical value with every factor off, `mean_level` the
    mean of that; `blocks` what each block tells alone, with the weight it has (`shares`), and
    `mean_blocks` the same of the means.
    """

    estimate: float
    standard_error: float
    df: float
    p: float
    n: int
    mean: float
    mean_error: float
    down: float
    level: float
    mean_level: float
    blocks: tuple[Estimate, ...] = ()
    shares: tuple[float, ...] = ()
    mean_blocks: tuple[Estimate, ...] = ()
    mean_shares: tuple[float, ...] = ()

    @property
    def interval(self) -> Estimate:
        """The estimate with its 95 % interval in these processes."""
        return interval(self.estimate, self.standard_error, self.df, self.n)


UNKNOWN = Effect(
    math.nan, math.nan, math.nan, math.nan, 0, math.nan, math.nan, math.nan, math.nan, math.nan
)


@dataclass(frozen=True)
class Fit:
    """One block: effects of its factors (k,), their covariance, and the same of plain means.

    A factor that is not `moving` has the same state in all windows: of its effect nothing is known.
    """

    block: int
    moving: NDArray[np.bool_]
    theta: Array
    covariance: Array
    mean: Array
    mean_covariance: Array
    df: float
    level: float
    mean_level: float
    down: int
    n: int
    weight: float


def fit(windows: Windows, contrasts: Sequence[Sequence[float]] | Array) -> list[Effect]:
    """The effect of each contrast, a vector over the factors (k,).

    Blocks are fitted one by one, as their noise differs, and meet with the inverse of their
    variances as weights. Fewer windows than LEAST_DF asks for give no interval.
    """
    fits = [fitted(windows.pick(windows.block == name)) for name in np.unique(windows.block)]
    known = [each for each in fits if each is not None]
    return [_effect(known, np.asarray(contrast, dtype=float)) for contrast in contrasts]


def interval(estimate: float, error: float, df: float, n: int) -> Estimate:
    """Student's 95 % interval; none if `df` is NaN."""
    reach = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, df))
    return Estimate(estimate, estimate - reach, estimate + reach, n)


def fitted(windows: Windows) -> Fit | None:
    """One block; None if its windows cannot tell its factors apart.

    The errors are the sandwich of the redraw: under no effect the scores of the windows stay what
    they are and the states are drawn anew, so that the variance of their sum of products is known
    without drawing (`redraw`). Divided by the mean slope of the scores it is that of the effects
    (Huber 1973, Annals of Statistics 1, section 6, with his correction for the number of
    parameters).
    """
    windows = windows.pick(np.argsort(windows.time, kind="stable"))
    moving: States = np.ptp(windows.states.astype(np.int8), axis=0) > 0
    n, k = len(windows), int(moving.sum())
    if not k or n < k + FEWEST:
        return None
    drift = Drift.of(windows.time)
    free = n - k - drift.knots
    if free < 1:
        return None
    weight = windows.weight / windows.weight.mean()
    states = windows.states[:, moving].astype(float)
    apart = drift.without(weight, states)
    information = apart.T @ (weight[:, None] * apart)
    if np.linalg.matrix_rank(information, tol=1e-6 * n) < k:
        return None
    inverse = np.linalg.inv(information)
    plain = drift.without(weight, windows.value)
    mean = inverse @ (apart.T @ (weight * plain))
    theta, rest, scale, robust = _robust(windows.value, states, weight, drift)
    score, slope = _scores(rest * np.sqrt(weight), scale, k + drift.knots)
    lost = n / free
    bread, root = inverse / slope, np.sqrt(weight)
    drawn = np.ix_(moving, moving)
    covariance = lost * bread @ redraw.variance(windows, root * score)[drawn] @ bread
    mean_score = weight * (plain - apart @ mean)
    mean_covariance = lost * inverse @ redraw.variance(windows, mean_score)[drawn] @ inverse
    whole = np.eye(len(moving))[:, moving]  # from the factors that move to all
    return Fit(
        int(windows.block[0]), moving, whole @ theta, whole @ covariance @ whole.T, whole @ mean,
        whole @ mean_covariance @ whole.T,
        redraw.degrees(windows, free), float(np.median(windows.value - states @ theta)),
        float(np.average(windows.value - states @ mean, weights=weight)),
        int(np.sum(robust < DOWN)), n, float(windows.weight.sum()),
    )  # fmt: skip


def _robust(
    value: Array, states: Array, weight: Array, drift: Drift
) -> tuple[Array, Array, float, Array]:
    """Effects (k,), residuals (n,), their scale, and the robust weights (n,).

    Iteratively reweighted least squares; the scale is the residuals' MAD, whitened by the weights.
    """
    robust, theta, scale = np.ones(len(value)), np.full(states.shape[1], math.inf), 0.0
    floor = 1e-9 * float(np.abs(value).max()) or 1.0
    for step in range(MOST):
        both = drift.without(weight * robust, np.column_stack([value, states]))
        rest, apart = both[:, 0], both[:, 1:]
        now = weight * robust
        before, theta = theta, _solve(apart.T @ (now[:, None] * apart), apart.T @ (now * rest))
        rest = rest - apart @ theta
        white = rest * np.sqrt(weight)
        scale = max(FROM_MAD * float(np.median(np.abs(white))), floor)
        distance = np.abs(white) / scale
        is_first = step < FIRST
        robust = _huber(distance) if is_first else _bisquare(distance)
        moved = float(np.max(np.abs(theta - before)))
        if not is_first and moved < STILL * scale / math.sqrt(len(value)):
            break
    return theta, rest, scale, robust


def _solve(matrix: Array, right: Array) -> Array:
    """Least squares, so that a factor whose windows all lost their weight is no error."""
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], dtype=float)


def _huber(distance: Array) -> Array:
    weights: Array = np.minimum(1.0, HUBER / np.maximum(distance, HUBER))
    return weights


def _bisquare(distance: Array) -> Array:
    weights: Array = np.maximum(0.0, 1 - (distance / BISQUARE) ** 2) ** 2
    return weights


def _scores(white: Array, scale: float, parameters: int) -> tuple[Array, float]:
    """Each residual's score, in its unit, and the mean slope of the scores, corrected."""
    square = (white / scale / BISQUARE) ** 2
    inside = square < 1
    slopes = np.where(inside, (1 - square) * (1 - 5 * square), 0.0)
    slope = float(slopes.mean())
    correction = 1 + parameters / len(white) * float(slopes.var()) / slope**2
    return np.where(inside, white * (1 - square) ** 2, 0.0), slope / correction


def _effect(fits: Sequence[Fit], contrast: Array) -> Effect:
    """Blocks put together: weights 1 / variance, which are estimated themselves (Meier 1953)."""
    fits = [each for each in fits if not contrast[~each.moving].any()]
    n = sum(each.n for each in fits)
    if not fits:
        return UNKNOWN
    values = np.array([contrast @ each.theta for each in fits])
    variances = np.array([contrast @ each.covariance @ contrast for each in fits])
    dfs = np.array([each.df for each in fits])
    shares = _shares(variances, np.array([each.n for each in fits], dtype=float))
    parts = shares**2 * variances
    estimate, variance = float(shares @ values), float(parts.sum())
    df = variance**2 / float(np.sum(parts**2 / dfs)) if variance else float(dfs.sum())
    df = df if dfs.sum() >= LEAST_DF else math.nan
    error = math.sqrt(variance * (1 + 4 * float(np.sum(shares * (1 - shares) / dfs))))
    weights = np.array([each.weight for each in fits])
    weights /= weights.sum()
    means = np.array([contrast @ each.mean for each in fits])
    mean_variances = np.array([contrast @ each.mean_covariance @ contrast for each in fits])
    return Effect(
        estimate, error, df, p_of(estimate, error, df), n,
        float(weights @ means),
        math.sqrt(float(weights**2 @ mean_variances)),
        sum(each.down for each in fits) / n,
        float(shares @ [each.level for each in fits]),
        float(weights @ [each.mean_level for each in fits]),
        _apart(fits, values, variances), tuple(shares.tolist()),
        _apart(fits, means, mean_variances), tuple(weights.tolist()),
    )  # fmt: skip


def _apart(fits: Sequence[Fit], values: Array, variances: Array) -> tuple[Estimate, ...]:
    """What each block tells alone."""
    return tuple(
        interval(float(v), math.sqrt(e), each.df if each.df >= LEAST_DF else math.nan, each.n)
        for v, e, each in zip(values, variances, fits, strict=True)
    )


def _shares(variances: Array, counts: Array) -> Array:
    known = variances > 0
    weights = 1 / np.where(known, variances, 1.0) if known.all() else counts
    shares: Array = weights / weights.sum()
    return shares


def p_of(estimate: float, error: float, df: float) -> float:
    """Student's, which the redraw comes near: a score is bounded, so no window decides the sum."""
    if math.isnan(df) or math.isnan(estimate):
        return math.nan
    return float(2 * stats.t.sf(abs(estimate) / error, df)) if error > 0 else float(estimate == 0)
