"""How far one node's clock is ahead of another's, from questions to both; for `remote_load`.

Every node tells its CLOCK_MONOTONIC when it answers a ping. Whatever the ways there and back took,
it said so between the moments at which this process asked and had the answer: half a round trip is
the most by which the middle of the two is wrong (F. Cristian 1989, Probabilistic clock
synchronization, Distributed Computing 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import HarnessError, LoadError
from harness.wire.driving import Course

EXCHANGES = 100
MOST_RATE = 1e-3  # ns a ns: the kernel corrects each of two clocks by 500 ppm at most (adjtimex(2))


@dataclass(frozen=True)
class Exchange:
    """A question to a node's clock: when it was asked and answered by ours, what was told (ns)."""

    asked_ns: int
    told_ns: int
    answered_ns: int


@dataclass(frozen=True)
class Offset:
    """How far the load's clock is ahead of the measured node's, at `at_ns` by its own (ns)."""

    at_ns: int
    ahead_ns: int
    uncertainty_ns: int


def offset(measured: Exchange, load: Exchange) -> Offset:
    """The difference of two clocks that were asked one right after the other.

    What ours does meanwhile is left out: at 100 ppm it is a ten thousandth of the time between.
    """
    between = (load.asked_ns + load.answered_ns - measured.asked_ns - measured.answered_ns) // 2
    trips = load.answered_ns - load.asked_ns + measured.answered_ns - measured.asked_ns
    return Offset(load.told_ns, load.told_ns - measured.told_ns - between, trips // 2 + 1)


def compare(measured: Callable[[], Exchange], load: Callable[[], Exchange]) -> Offset:
    """The best of many: that of the shortest round trips, which waited for nobody."""
    found = (offset(measured(), load()) for _ in range(EXCHANGES))
    return min(found, key=lambda each: each.uncertainty_ns)


def course(before: Offset, after: Offset) -> Course:
    """Between two comparisons the clocks part evenly; LoadError if one of them has jumped."""
    lasts_ns = after.at_ns - before.at_ns
    parted = after.ahead_ns - before.ahead_ns
    unknown = before.uncertainty_ns + after.uncertainty_ns
    if lasts_ns <= 0 or abs(parted) > unknown + MOST_RATE * lasts_ns:
        raise LoadError(
            f"The clocks of the two nodes parted by {parted / 1e6:.1f} ms within "
            f"{lasts_ns / 1e9:.1f} s.",
            f"They cannot drift so far, so that one of them stood still or jumped: more than "
            f"{1e6 * MOST_RATE:.0f} ppm is no drift.",
            "See whether one of the machines was suspended or moved to another host meanwhile.",
        )
    uncertainty = max(before.uncertainty_ns, after.uncertainty_ns)
    return Course(before.at_ns, before.ahead_ns, parted, lasts_ns, uncertainty)


def standing(last: Offset) -> Course:
    """What is taken after the last comparison, where only counts matter."""
    return Course(last.at_ns, last.ahead_ns, 0, 1, last.uncertainty_ns)


def require(found: Offset, guard_seconds: float, kind: type[HarnessError]) -> None:
    """An error of this kind if an offset is known too badly for windows with such a guard."""
    allowed = allowed_ns(guard_seconds)
    if found.uncertainty_ns > allowed:
        enough = math.ceil(found.uncertainty_ns / 1e5) / 1e3
        raise kind(
            f"The clocks of the two nodes are known to {found.uncertainty_ns / 1e6:.2f} ms of each "
            f"other only, and {allowed / 1e6:g} ms are allowed.",
            "That is a tenth of guard_seconds, so that requests are counted in the window that "
            "they belong to; it is half of the shortest round trips to both nodes.",
            "Start the evaluation on a machine that is nearer to both, or set guard_seconds to "
            f"{enough:.3f} or more in an experiment file (window_seconds to more than twice that).",
        )


def allowed_ns(guard_seconds: float) -> float:
    """The greatest uncertainty that is taken."""
    return 1e8 * guard_seconds
