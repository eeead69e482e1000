"""On - off of a percentile, its interval and its p by redrawing the coins; for `latency_rows`.

The coin that gave each group of windows its states is the only source of chance that is used. If
on is off shifted by `delta` at the quantile, as many requests of either state lie beyond it, but
for what the coins did: exchanging the states of a group changes the sign of its imbalance and
nothing else, whatever requests of one second have in common. The imbalance of all groups together,
over the root of the sum of their squares (its standard deviation over all coins), is nearly normal.
The interval holds every shift that this test does not reject at 5 %, as Woodruff's does for a
quantile (1952, Journal of the American Statistical Association 47), so that it and the p, which is
that of no shift, cannot contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis.compare import Z_CONFIDENCE, Array, Estimate
from harness.analysis.latency import TAIL, Ints, Sample
from harness.analysis.ranks import LEAST

SEPARATE = 10  # groups at least, in each state, that have requests beyond a percentile: stalls
STEPS = 40  # doublings until an interval's end is passed, at most
HALVINGS = 80  # more than tell two floating-point numbers apart
PRECISION = 1e-3  # of an interval's end, as a share of its distance from the centre


@dataclass(frozen=True)
class Shift:
    """On - off of a percentile in us, the percentile off, and the two-sided p of no shift."""

    value: Estimate
    level: float
    p: float


@dataclass(frozen=True)
class Side:
    """One state: latencies in us, ascending, the group of each, and how many each group has."""

    us: Array
    group: Ints
    of_group: Array

    @classmethod
    def of(cls, sample: Sample, on: bool) -> Side:
        """That of a sample."""
        mine = sample.on == on
        order = np.argsort(sample.latency_ns[mine], kind="stable")
        group = sample.group[mine][order]
        return cls(
            sample.latency_ns[mine][order] / 1e3, group,
            np.bincount(group, minlength=sample.groups).astype(float),
        )  # fmt: skip

    def beyond(self, us: float) -> int:
        """How many took longer."""
        return len(self.us) - int(np.searchsorted(self.us, us, side="right"))

    def by_group(self, us: float) -> Array:
        """How many took longer, by group."""
        first = len(self.us) - self.beyond(us)
        counts: Array = np.bincount(self.group[first:], minlength=len(self.of_group)).astype(float)
        return counts

    def separate(self, q: float) -> int:
        """How many groups have requests beyond the quantile; a stall of a hundred counts once."""
        return int(np.count_nonzero(self.by_group(float(np.quantile(self.us, q)))))


def shift(sample: Sample, q: float) -> Shift | None:
    """On - off of the `q` quantile, or None where too few separate requests lie beyond it.

    There is no interval, only NaN, where fewer than LEAST coins were drawn: none could reach 95 %.
    """
    on, off = Side.of(sample, True), Side.of(sample, False)
    if min(len(on.us), len(off.us)) * (1 - q) < TAIL:
        return None
    least = min(SEPARATE, sample.groups / 2)  # of a handful of groups there are not so many
    if min(on.separate(q), off.separate(q)) < least:
        return None
    level = float(np.quantile(off.us, q))
    centre = float(np.quantile(on.us, q)) - level
    z = _z(on, off, q)
    low, high = (_end(z, centre, level, sign) for sign in (-1, 1))
    if sample.groups >= LEAST and not math.isfinite(high - low):
        return None  # one or two of them outweigh all others
    return Shift(Estimate(centre, low, high, sample.groups), level, _p(on, off, q))


def _imbalance(on: Side, off: Side, q: float, delta: float) -> Array:
    """By group: requests beyond the common quantile, on - off, less what their numbers expect."""
    at = _common(on, off, q, delta)
    beyond = on.by_group(at + delta) - off.by_group(at)
    imbalance: Array = beyond - (1 - q) * (on.of_group - off.of_group)
    return imbalance


def _common(on: Side, off: Side, q: float, delta: float) -> float:
    """The quantile of off and of on less `delta`, all together, in us."""
    wanted = (1 - q) * (len(on.us) + len(off.us))
    low = min(float(off.us[0]), float(on.us[0]) - delta) - 1.0
    high = max(float(off.us[-1]), float(on.us[-1]) - delta)
    for _ in range(HALVINGS):
        if high - low <= 1e-3:  # latencies are whole ns
            break
        middle = (low + high) / 2
        if on.beyond(middle + delta) + off.beyond(middle) > wanted:
            low = middle
        else:
            high = middle
    return high


def _z(on: Side, off: Side, q: float) -> Callable[[float], float]:
    """The imbalance in standard deviations; 0 where too few coins matter to reject a shift."""

    def z(delta: float) -> float:
        imbalance = _imbalance(on, off, q, delta)
        if np.count_nonzero(imbalance) < LEAST:
            return 0.0
        return float(imbalance.sum()) / math.sqrt(float(imbalance @ imbalance))

    return z


def _end(z: Callable[[float], float], centre: float, level: float, sign: int) -> float:
    """Where the test begins to reject, from the centre down (-1) or up (1); NaN if it never does.

    `z` falls with the shift that it tests.
    """
    inner, outer = 0.0, 1e-4 * max(level, 1.0)
    for _ in range(STEPS):
        if -sign * z(centre + sign * outer) > Z_CONFIDENCE:
            break
        inner, outer = outer, 2 * outer
    else:
        return math.nan
    while outer - inner > PRECISION * outer:
        middle = (inner + outer) / 2
        if -sign * z(centre + sign * middle) > Z_CONFIDENCE:
            outer = middle
        else:
            inner = middle
    return centre + sign * outer


def _p(on: Side, off: Side, q: float) -> float:
    """Two-sided p of no shift; not less than that all coins that matter fell alike."""
    imbalance = _imbalance(on, off, q, 0.0)
    moved = int(np.count_nonzero(imbalance))
    if not moved:
        return 1.0
    z = float(imbalance.sum()) / math.sqrt(float(imbalance @ imbalance))
    return max(2 * float(stats.norm.sf(abs(z))), 2.0 ** (1 - min(moved, 1000)))
