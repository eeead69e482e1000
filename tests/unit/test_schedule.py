from collections import Counter
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.schedule import NS_PER_SECOND, PoissonSchedule, Schedule, interleave, scheduled


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
    assert (schedule.exhausted, schedule.next_ns) == (True, None)


def drawn(seed: str, slots: int, rate: float = 1_000.0) -> list[int]:
    schedule = scheduled("poisson", rate, None, seed)
    return [schedule.due_ns(slot) for slot in range(slots)]


def test_the_same_seed_draws_the_same_arrivals_and_another_others() -> None:
    assert drawn("7/1", 500) == drawn("7/1", 500)
    assert drawn("7/1", 500) != drawn("7/2", 500)


@given(st.lists(st.integers(0, 400_000_000), min_size=1, max_size=20))
def test_when_slots_are_taken_does_not_change_when_they_are_due(moments: list[int]) -> None:
    schedule = PoissonSchedule(0, 1_000.0, None, "7/1")
    taken = [due for now in sorted(moments) for due in schedule.take(now)]
    assert taken == [due for due in drawn("7/1", 1_000) if due <= max(moments)]


def test_drawn_arrivals_come_independently_at_the_rate() -> None:
    gaps = np.diff(drawn("3/1", 20_000))
    assert gaps.mean() == pytest.approx(1e6, rel=0.03)
    assert gaps.std() == pytest.approx(1e6, rel=0.05)  # of an exponential distribution its mean
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_a_drawn_rate_tells_what_chance_made_of_the_rate() -> None:
    schedule = PoissonSchedule(0, 100.0, 200, "5/1")
    due = schedule.take(10**12)
    assert len(due) == 200
    assert schedule.exhausted
    assert schedule.drawn_rate == pytest.approx(200e9 / (schedule.due_ns(200) - due[0]))
    assert schedule.drawn_rate != 100.0
    assert Schedule(0, 100.0).drawn_rate == 100.0


def test_arrivals_are_periodic_unless_they_are_to_be_drawn() -> None:
    assert type(scheduled("periodic", 10.0, 3, "1")) is Schedule
    assert type(scheduled("poisson", 10.0, 3, "1")) is PoissonSchedule


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
