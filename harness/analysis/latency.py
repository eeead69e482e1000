"""Latency percentiles on and off, and their difference with its interval; `summary` calls it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.compare import RESAMPLES, Z_CONFIDENCE, Array, Estimate, draws
from harness.model import WindowRow
from harness.results.requests import read as read_requests

Counts = NDArray[np.int32]

STEP = float(np.log1p(0.005))  # bins are 0.5 % wide; percentiles are interpolated within them
BINS = int(np.log(1e8) / STEP) + 1  # 1 us to 100 s
NEVER_NS = 2**62  # the latency of a request without an answer: the last bin
GROUPS = 200  # of neighbouring quadruples that the jackknife leaves out in turn, at most
TAIL = 10  # a percentile needs as many requests beyond it, in each state

GRID = np.unique(
    np.concatenate([np.linspace(0.005, 0.99, 120), 1 - np.logspace(-2, -4, 60)])
)  # the quantiles of a drawn curve


@dataclass(frozen=True)
class Histograms:
    """Requests by latency bin, a row a quadruple: `on` and `off` (n, BINS), `block` (n,)."""

    on: Counts
    off: Counts
    block: NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """Pooled quantiles of latency in us at `q`, and how many requests stand behind them."""

    q: Array
    on: Array
    off: Array
    n_on: int
    n_off: int


@dataclass(frozen=True)
class Requests:
    """The requests of one trial: due times and latencies in ns, and their routes."""

    due_ns: NDArray[np.int64]
    latency_ns: NDArray[np.int64]
    route: NDArray[np.str_]

    @classmethod
    def load(cls, path: Path) -> Requests:
        """Read requests.npz; a request without an answer took longer than every other.

        StoreError if it cannot be read.
        """
        found = read_requests(path)
        latency = np.where(found.status > 0, found.end_ns - found.due_ns, NEVER_NS)
        return cls(found.due_ns, latency, found.route_names[found.route])

    def of(self, route: str) -> Requests:
        """Those of one route."""
        mine = self.route == route
        return Requests(self.due_ns[mine], self.latency_ns[mine], self.route[mine])


def histograms(requests: Requests, rows: Sequence[WindowRow], block: int) -> Histograms:
    """Count each request in the window in which it was due; between windows it counts nowhere."""
    windows = sorted((row.window for row in rows), key=lambda window: window.start_ns)
    numbers = sorted({window.quadruple for window in windows})
    place = {number: i for i, number in enumerate(numbers)}
    starts = np.array([w.start_ns for w in windows], dtype=np.int64)
    ends = np.array([w.end_ns for w in windows], dtype=np.int64)
    rank = np.array([place[w.quadruple] for w in windows], dtype=np.int64)
    on = np.array([w.on for w in windows], dtype=bool)
    at = np.searchsorted(starts, requests.due_ns, side="right") - 1
    inside = (at >= 0) & (requests.due_ns <= ends[at]) if len(windows) else at >= 0
    at, bins = at[inside], _bins(requests.latency_ns[inside])
    state = on[at]
    return Histograms(
        _count(rank[at][state], bins[state], len(numbers)),
        _count(rank[at][~state], bins[~state], len(numbers)),
        np.full(len(numbers), block),
    )


def _bins(latency_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(np.log(np.maximum(latency_ns, 1) / 1e3) // STEP, 0, BINS - 1).astype(np.int64)


def _count(rank: NDArray[np.int64], bins: NDArray[np.int64], n: int) -> Counts:
    return np.bincount(rank * BINS + bins, minlength=n * BINS).reshape(n, BINS).astype(np.int32)


def join(parts: Sequence[Histograms]) -> Histograms:
    """The quadruples of several trials as one sample; at least one."""
    return Histograms(
        np.concatenate([part.on for part in parts]),
        np.concatenate([part.off for part in parts]),
        np.concatenate([part.block for part in parts]),
    )


def quantile(counts: NDArray[Any], q: float, first: int = 0) -> Array:
    """The `q` quantile in us of each row of histograms (n, bins) whose first bin is `first`."""
    total = np.cumsum(counts, axis=1, dtype=float)
    target = q * total[:, -1]
    index = np.minimum((total < target[:, None]).sum(axis=1), counts.shape[1] - 1)[:, None]
    here = np.take_along_axis(counts, index, 1)[:, 0].astype(float)
    beyond = np.take_along_axis(total, index, 1)[:, 0] - target
    part = 1 - beyond / np.maximum(here, 1e-9)
    result: Array = np.exp((first + index[:, 0] + part) * STEP)
    return result


def shifts(sample: Histograms, qs: Sequence[float], seed: int) -> list[tuple[Estimate, float]]:
    """For each quantile: on - off in us with its bootstrap interval, and the level off.

    Whole quadruples are drawn again, within their blocks, so that what requests of one moment
    share stays together. Intervals are bias-corrected and accelerated, of compare.RESAMPLES draws
    and a jackknife over groups of quadruples (Efron 1987, Journal of the American Statistical
    Association 82; Efron and Tibshirani, An Introduction to the Bootstrap, chapter 14). NaN where
    fewer than TAIL requests of a state lie beyond the quantile.
    """
    used = np.flatnonzero(sample.on.any(axis=0) | sample.off.any(axis=0))
    if not len(used):
        return [(Estimate(math.nan, math.nan, math.nan, 0), math.nan) for _ in qs]
    n, columns = len(sample.block), slice(used[0], used[-1] + 1)
    weights = np.vstack([np.ones((1, n)), draws(sample.block, seed), _left_out(n)])
    on, off = (
        (weights.astype(np.float32) @ part[:, columns].astype(np.float32)).astype(float)
        for part in (sample.on, sample.off)
    )
    return [_shift(on, off, q, int(used[0]), n) for q in qs]


def _left_out(n: int) -> Array:
    """Weights (groups, n) that leave out one group of neighbouring quadruples each."""
    groups = min(n, GROUPS)
    weights: Array = np.not_equal(np.arange(n) * groups // n, np.arange(groups)[:, None]) * 1.0
    return weights


def _shift(on: Array, off: Array, q: float, first: int, n: int) -> tuple[Estimate, float]:
    """Rows of `on` and `off`: the sample itself, RESAMPLES resamples, the jackknife's."""
    if min(on[0].sum(), off[0].sum()) * (1 - q) < TAIL:
        return Estimate(math.nan, math.nan, math.nan, n), math.nan
    level = quantile(off, q, first)
    differences = quantile(on, q, first) - level
    centre = float(differences[0])
    low, high = accelerated(centre, differences[1 : 1 + RESAMPLES], differences[1 + RESAMPLES :])
    return Estimate(centre, low, high, n), float(level[0])


def accelerated(centre: float, resamples: Array, jackknife: Array) -> tuple[float, float]:
    """95 % interval by Efron's BCa from `resamples` (b,) and `jackknife` (g,) of an estimate."""
    below = np.mean(resamples < centre) + np.mean(resamples == centre) / 2
    if not 0 < below < 1:
        return math.nan, math.nan  # the estimate lies outside its own resamples
    bias = float(stats.norm.ppf(below))
    left = jackknife.mean() - jackknife
    scale = float(np.sum(left**2)) ** 1.5
    acceleration = float(np.sum(left**3)) / (6 * scale) if scale > 0 else 0.0
    z = bias + np.array([-Z_CONFIDENCE, Z_CONFIDENCE])
    low, high = np.quantile(resamples, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def curve(sample: Histograms) -> Curve:
    """Pooled quantiles for drawing, as far into the tail as TAIL requests reach."""
    on, off = sample.on.sum(axis=0), sample.off.sum(axis=0)
    fewest = int(min(on.sum(), off.sum()))
    q = GRID[fewest * (1 - GRID) >= TAIL] if fewest else GRID[:0]
    return Curve(q, _quantiles(on, q), _quantiles(off, q), int(on.sum()), int(off.sum()))


def _quantiles(counts: NDArray[Any], q: Array) -> Array:
    if not len(q):
        return np.empty(0)
    return np.array([quantile(counts[None, :], float(each))[0] for each in q])
