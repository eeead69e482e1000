"""Waits until a fresh process costs the same a request; `block` and `twin` call it."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from harness.node.testbed import Attend

PIECE_SECONDS = 0.5
LEAST = 8  # pieces
LONGEST = 6  # pieces of a third: what lies further back was warm-up, or is another disturbance
# A false "not yet" costs one more piece, a false "steady" spoils a block: the trend test is lenient
# and the noise allowed is one standard error.
UNLIKELY = 0.3
REACH = 1.0
SCALE = 1.4826  # median absolute deviation -> standard deviation, normal
MEDIAN = 1.2533  # standard error of a median / that of a mean, normal


def await_steady(
    cpu_seconds: Callable[[], float],
    least: float,
    limit: float,
    rate: float,
    attend: Attend = lambda: None,
) -> tuple[float, bool]:
    """How long it took until pieces of CPU per request due were steady, and whether they were.

    The requests answered are known only when the load has ended; those due are as many, unless
    the service falls behind, which shows as CPU that does not settle. `rate` is a second, of the
    process whose CPU so far `cpu_seconds` tells; it lasts from `least` to `limit` seconds.
    """
    begun = edge = time.monotonic()
    used, pieces, settled = cpu_seconds(), list[float](), False
    while not settled and edge - begun < limit:
        time.sleep(min(PIECE_SECONDS, begun + limit - edge))
        attend()
        now, total = time.monotonic(), cpu_seconds()
        pieces.append(1e6 * (total - used) / ((now - edge) * rate))
        edge, used = now, total
        settled = edge - begun >= least and steady(pieces)
    return edge - begun, settled


def steady(us_per_request: Sequence[float]) -> bool:
    """Whether pieces of equal length, in order, show neither trend nor step any more.

    Of the last two thirds (8 to 12 pieces): Mann and Kendall's test finds no trend at 30 %, and the
    median of the last third lies within the noise of the third before (one standard error of the
    difference of medians, noise from their median absolute deviations). False with fewer than 8
    pieces. In simulation with pieces of 0.5 s and 5 to 10 % noise, a process that is steady from
    the start is called so after 4.5 s (median); one whose cost falls to half with a time constant
    of 3 s after 11 to 14 s, when 3 % of the excess or less are left (medians).
    Sources: Mann 1945, Nonparametric tests against trend, Econometrica 13; Kalibera and Jones 2013,
    Rigorous benchmarking in reasonable time, for judging warm-up by data.
    """
    values = list(us_per_request)
    if len(values) < LEAST or not all(map(math.isfinite, values)):
        return False
    third = min(len(values) // 3, LONGEST)
    recent = values[-max(LEAST, 2 * third) :]
    return trend(recent) >= UNLIKELY and _agree(values[-2 * third : -third], values[-third:])


def trend(values: Sequence[float]) -> float:
    """The two-sided p of Mann and Kendall's test that values (n,) in order have no trend.

    Exact where none are equal (Kendall 1970, Rank Correlation Methods, recursion of the number of
    permutations by inversions), else the normal approximation with the variance corrected for ties.
    1 where all are equal.
    """
    n, pairs = len(values), itertools.combinations(values, 2)
    score = sum((later > earlier) - (later < earlier) for earlier, later in pairs)
    ties = [count for count in Counter(values).values() if count > 1]
    if ties:
        variance = _variance(n) - sum(map(_variance, ties))
        return math.erfc(abs(score) / math.sqrt(2 * variance)) if variance > 0 else 1.0
    discordant = (n * (n - 1) // 2 - score) // 2
    fewer = min(discordant, n * (n - 1) // 2 - discordant)
    if 4 * fewer == n * (n - 1):
        return 1.0
    return min(1.0, 2 * sum(_inversions(n)[: fewer + 1]) / math.factorial(n))


def _variance(n: int) -> float:
    return n * (n - 1) * (2 * n + 5) / 18


def _inversions(n: int) -> list[int]:
    """How many permutations of n have 0, 1, 2, ... inversions."""
    counts = [1]
    for size in range(2, n + 1):
        counts = [sum(counts[max(0, k - size + 1) : k + 1]) for k in range(len(counts) + size - 1)]
    return counts


def _agree(before: Sequence[float], last: Sequence[float]) -> bool:
    first, second = median(before), median(last)
    residuals = [x - first for x in before] + [x - second for x in last]
    noise = SCALE * median(map(abs, residuals))
    error: float = MEDIAN * noise * (1 / len(before) + 1 / len(last)) ** 0.5
    return abs(second - first) <= REACH * error
