from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.schedule import NS_PER_SECOND, Schedule, interleave


@given(st.floats(0.5, 50_000), st.integers(0, 10**7))
def test_a_slot_is_due_at_its_number_over_the_rate(rate: float, slot: int) -> None:
    exact = 7 + slot * NS_PER_SECOND / Fraction(rate)
    assert Schedule(7, rate).due_ns(slot) == int(exact)


def test_taking_gives_what_is_due_and_nothing_twice() -> None:
    schedule = Schedule(1_000, 1e6)
    assert schedule.take(999) == []
    assert schedule.take(3_500) == [1_000, 2_000, 3_000]
    assert schedule.take(3_500) == []
    assert schedule.next_ns == 4_000


def test_slots_that_nobody_took_keep_their_due_times() -> None:
    schedule = Schedule(0, 1_000)
    schedule.take(0)
    late = schedule.take(300_000_000)
    assert late == [k * 1_000_000 for k in range(1, 301)]


def test_a_counted_schedule_ends() -> None:
    schedule = Schedule(0, 1_000, count=3)
    assert not schedule.exhausted
    assert len(schedule.take(10**12)) == 3
    assert schedule.exhausted
    assert schedule.next_ns is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), st.integers(0, 100))
def test_every_period_holds_each_index_by_its_weight(weights: list[int], offset: int) -> None:
    counts = Counter(islice(interleave(weights, offset), 3 * sum(weights)))
    assert counts == Counter({i: 3 * weight for i, weight in enumerate(weights) if weight})


def test_any_stretch_holds_nearly_the_mix() -> None:
    order = list(islice(interleave([8, 2]), 400))
    for start in range(300):
        assert abs(order[start : start + 100].count(1) - 20) <= 1


def test_the_offset_shifts_the_order() -> None:
    plain, shifted = interleave([3, 2, 1]), interleave([3, 2, 1], offset=2)
    assert list(islice(plain, 8))[2:] == list(islice(shifted, 6))


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="all weights are 0"):
        interleave([0, 0])
