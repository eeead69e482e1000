"""Which collectors are on in each window of a factorial trial; for `trials` and the analysis.

Every collector is a factor, and a null factor that switches nothing is the last. Within a cycle of
windows each of them is on in half, and no two of them go together: the states are a factorial
design in random order (Box, Hunter and Hunter, Statistics for Experimenters, chapters 5 and 6).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.model import BASELINE, FACTORIAL

if TYPE_CHECKING:
    from harness.model import Arm
    from harness.plan.experiment import Experiment

States = tuple[bool, ...]
"""The state of each factor in a window, the null factor's last."""

WHOLE = 4  # factors whose every combination is in a cycle


def factors(experiment: Experiment) -> tuple[str, ...]:
    """The collectors of the factorial arms as they first come, then the null factor; or none."""
    arms = [arm for arm in experiment.arms if arm.method == FACTORIAL]
    named = dict.fromkeys(spec for arm in arms for spec in arm.collectors)
    return (*named, BASELINE) if named else ()


def columns(arm: Arm, of: Sequence[str]) -> tuple[int, ...]:
    """Where in `of`, the factors, the arm's collectors are; of one without any, the null factor."""
    return tuple(of.index(name) for name in arm.collectors or (BASELINE,))


def cycle(count: int) -> int:
    """How many windows it takes until every one of `count` factors was on in half of them."""
    return int(1 << _basic(count))


def cycles(experiment: Experiment, seconds: float | None = None) -> int:
    """Whole cycles in the switched part of one factorial trial, or in one of so many seconds."""
    length = experiment.switched_seconds if seconds is None else seconds
    windows = int(length / experiment.window_seconds + 1e-9)
    return windows // cycle(len(factors(experiment)))


def states(count: int, number: int, seed: int) -> list[States]:
    """The states of `count` factors in `number` cycles of windows, by this seed.

    In each cycle all factors are balanced and orthogonal to each other and to the product of any
    two others. Up to four factors every combination comes once. Of five, the last is the product of
    the other four. Beyond that it is a fraction of resolution IV, in which the products of two
    factors coincide with those of others: which factor has which column, and with which sign, is
    drawn for each cycle, so that over many cycles these too come apart.
    """
    draw = random.Random(seed)
    found: list[States] = []
    for _ in range(number):
        words = _words(count, draw)
        turned = [draw.random() < 0.5 for _ in words]
        runs = list(range(cycle(count)))
        draw.shuffle(runs)
        found += [
            tuple(
                ((run & word).bit_count() % 2 == 1) != turn
                for word, turn in zip(words, turned, strict=True)
            )
            for run in runs
        ]
    return found


def _basic(count: int) -> int:
    """Factors that span the runs: 2^(p - 1) words of odd length can be had from p of them."""
    return count if count <= WHOLE else max(WHOLE, (count - 1).bit_length() + 1)


def _words(count: int, draw: random.Random) -> list[int]:
    """For each factor the basic factors, as bits, whose product it is.

    Products of an odd number of basic factors: those of two of them have an even number, so that
    no factor coincides with the product of two others.
    """
    basic = _basic(count)
    if count <= WHOLE:
        return [1 << place for place in range(count)]
    if count == WHOLE + 1:  # resolution V, which odd words would not reach
        return [*(1 << place for place in range(WHOLE)), (1 << WHOLE) - 1]
    odd = [word for word in range(1 << basic) if word.bit_count() % 2]
    return draw.sample(odd, count)
