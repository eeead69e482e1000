"""Stretches of an array do not overlap, and what is given back is had again."""

from __future__ import annotations

import random

from harness.agent.extents import Extents


def test_stretches_are_apart_and_all_comes_back() -> None:
    dice = random.Random(15)
    extents, taken = Extents(1000), {}
    for _ in range(5000):
        count = dice.randint(1, 90)
        first = extents.take(count)
        if first is not None:
            taken[first] = count
        if first is None or dice.random() < 0.45:
            gone = dice.choice([*taken])
            extents.give(gone, taken.pop(gone))
        ends = 0
        for start in sorted(taken):
            assert start >= ends
            ends = start + taken[start]
        assert ends <= 1000
        assert extents.free == 1000 - sum(taken.values())
    for first in [*taken]:
        extents.give(first, taken.pop(first))
    assert extents.take(1000) == 0
    assert extents.take(1) is None
