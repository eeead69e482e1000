"""Differences of on and off windows by quadruples, and what an estimate is; `cell` calls it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.model import WindowRow

Array = NDArray[np.float64]

CONFIDENCE = 0.95
Z_CONFIDENCE = 1.96
POWER = 0.8
Z_POWER = 0.84  # standard errors beyond the level at which an effect is found with that power
Z_DETECT = Z_CONFIDENCE + Z_POWER  # two-sided 5 % level
RESAMPLES = 1000
USER_HZ_SECONDS = 0.01  # step of the times in /proc/stat
LEAST_COINS = 6  # fewer cannot reach 5 %, however they fell


class Interval(Protocol):
    """What rows have in common: model.Comparison, cpu.BlockRow."""

    @property
    def estimate(self) -> float:
        """The centre."""

    @property
    def low(self) -> float:
        """The lower end of its interval."""

    @property
    def high(self) -> float:
        """The upper end of its interval."""

    @property
    def n(self) -> int:
        """How many it rests on."""


@dataclass(frozen=True)
class Estimate:
    """A centre with its 95 % interval and the smallest effect seen with 80 % power."""

    estimate: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, row: Interval) -> Estimate:
        """That of a row of the report."""
        return cls(row.estimate, row.low, row.high, row.n)

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
    """CPU per request of each whole quadruple, in us, with the collectors on and off; (n,) each.

    `on_requests` and `off_requests` are how many requests stand behind them, `block` is whose
    trial they are from.
    """

    on: Array
    off: Array
    on_requests: Array
    off_requests: Array
    block: NDArray[np.int64]

    def pick(self, which: NDArray[np.bool_]) -> Quadruples:
        """Some of them."""
        return Quadruples(
            self.on[which], self.off[which], self.on_requests[which], self.off_requests[which],
            self.block[which],
        )  # fmt: skip

    @property
    def differences(self) -> Array:
        """on - off of each quadruple."""
        return self.on - self.off


def quadruples(
    rows: Iterable[WindowRow],
    meters: Sequence[str],
    less: Sequence[str] = (),
    least_seconds: float = 0.0,
    block: int = 0,
) -> Quadruples:
    """Sum `meters` (seconds) over each quadruple's on and off windows and divide by requests.

    `less` are taken off, as far as they were read. A quadruple that is not whole is left out.
    """
    groups: dict[int, list[WindowRow]] = defaultdict(list)
    for row in rows:
        groups[row.window.quadruple].append(row)
    whole = [g for _, g in sorted(groups.items()) if is_whole(g, meters, least_seconds)]
    seconds = {on: _array(_seconds(g, meters, less, on) for g in whole) for on in (True, False)}
    requests = {on: _array(_requests(g, on) for g in whole) for on in (True, False)}
    return Quadruples(
        1e6 * seconds[True] / requests[True],
        1e6 * seconds[False] / requests[False],
        requests[True],
        requests[False],
        np.full(len(whole), block, dtype=np.int64),
    )


def is_whole(group: Sequence[WindowRow], meters: Sequence[str], least_seconds: float = 0.0) -> bool:
    """Two windows on, two off, none cut short, every meter read, requests in both states."""
    if sum(row.window.on for row in group) != 2 or len(group) != 4:
        return False
    if any(meter not in row.meters for row in group for meter in (*meters, "requests")):
        return False
    if any(row.window.end_ns - row.window.start_ns < 1e9 * least_seconds for row in group):
        return False
    return all(_requests(group, on) > 0 for on in (True, False))


def _array(values: Iterable[float]) -> Array:
    return np.array(list(values), dtype=float)


def _requests(group: Sequence[WindowRow], on: bool) -> float:
    return sum(row.meters["requests"] for row in group if row.window.on == on)


def _seconds(
    group: Sequence[WindowRow], meters: Sequence[str], less: Sequence[str], on: bool
) -> float:
    rows = [row for row in group if row.window.on == on]
    paid = sum(row.meters[meter] for row in rows for meter in meters)
    return paid - sum(row.meters.get(meter, 0.0) for row in rows for meter in less)


def join(parts: Sequence[Quadruples]) -> Quadruples:
    """The quadruples of several trials as one sample."""
    if not parts:
        none = np.empty(0)
        return Quadruples(none, none, none, none, np.empty(0, dtype=np.int64))
    return Quadruples(
        np.concatenate([p.on for p in parts]),
        np.concatenate([p.off for p in parts]),
        np.concatenate([p.on_requests for p in parts]),
        np.concatenate([p.off_requests for p in parts]),
        np.concatenate([p.block for p in parts]),
    )


def is_ticked(rows: Iterable[WindowRow], meter: str) -> bool:
    """Whether a meter only ever moved by whole ticks: its single windows tell nothing then."""
    values = _array(row.meters[meter] for row in rows if meter in row.meters)
    ticks = values / USER_HZ_SECONDS
    return bool(np.all(np.abs(ticks - np.round(ticks)) < 1e-3))


def tick_error_us(us: Array, requests: Array, contrast: Sequence[float]) -> float:
    """What whole ticks alone cost a contrast of windows, as a standard error in us a request.

    `us` a request (n,) is what a counter of ticks told of each window, in which `requests` (n,)
    were answered. A window reads a tick more or not, at random: with the variance f (1 - f) in
    ticks, of which f is what was left over; on average a sixth, and less where windows mostly read
    none. There one tick more than was seen is reckoned with. Each factor's effect is the difference
    of two halves of the windows.
    """
    n, tick_us = len(us), 1e6 * USER_HZ_SECONDS / float(requests.mean())
    each = min((float(np.abs(us).sum()) / tick_us + 1) / n, 1 / 6)
    return tick_us * math.sqrt(4 * each / n * math.fsum(c * c for c in contrast))


def coins_p(sample: Quadruples) -> float:
    """Two-sided p of no difference of sums, by redrawing each quadruple's coin; NaN if n < 6.

    Not less than that all coins that matter fell alike; 1 if none does.
    """
    if len(sample.on) < LEAST_COINS:
        return math.nan
    between = sample.on_requests * sample.off_requests / (sample.on_requests + sample.off_requests)
    each = sample.differences * between
    moved = int(np.count_nonzero(each))
    if not moved:
        return 1.0
    z = float(each.sum()) / math.sqrt(float(each @ each))
    return max(2 * float(stats.norm.sf(abs(z))), 2.0 ** (1 - min(moved, 1000)))


def draws(block: NDArray[np.int64], seed: int) -> Array:
    """How often each quadruple is drawn in each resample, (RESAMPLES, n); strata are blocks."""
    random = np.random.default_rng(seed)
    weights = np.zeros((RESAMPLES, len(block)))
    for name in np.unique(block):
        mine = np.flatnonzero(block == name)
        shares = np.full(len(mine), 1 / len(mine))
        weights[:, mine] = random.multinomial(len(mine), shares, RESAMPLES)
    return weights


def ratio_of_sums(sample: Quadruples, seed: int) -> tuple[Estimate, float]:
    """All CPU on / all requests on less the same off, in us, with its bootstrap interval; off.

    For counters of ticks: a median of windows that mostly read zero is zero whatever the truth.
    Where the resamples do not differ there is no interval: it is NaN.
    """
    weights = np.vstack([np.ones(len(sample.on)), draws(sample.block, seed)])
    on = weights @ (sample.on * sample.on_requests) / (weights @ sample.on_requests)
    off = weights @ (sample.off * sample.off_requests) / (weights @ sample.off_requests)
    low, high = np.quantile((on - off)[1:], [0.025, 0.975])
    centre, n = float(on[0] - off[0]), len(sample.on)
    if not low < high:
        low = high = math.nan
    return Estimate(centre, float(low), float(high), n), float(off[0])


def z_detect(tests: int) -> float:
    """Standard errors that are seen with 80 % power, two-sided 5 % over so many tests (Bonferroni).

    The first step of Holm's correction asks for as much, its later ones for less.
    """
    return float(stats.norm.isf((1 - CONFIDENCE) / 2 / max(1, tests))) + Z_POWER


def disagreement(blocks: Sequence[Estimate]) -> float:
    """Probability (Cochran's Q) that blocks with one common effect differ as much as these do."""
    known = [b for b in blocks if math.isfinite(b.standard_error) and b.standard_error > 0]
    if len(known) < 2:
        return 1.0
    weights = np.array([b.standard_error**-2 for b in known])
    values = np.array([b.estimate for b in known])
    centre = float(np.average(values, weights=weights))
    return float(stats.chi2.sf(float(np.sum(weights * (values - centre) ** 2)), len(known) - 1))
