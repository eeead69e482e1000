"""How many users and slots each class of a locustfile gets, beside what Locust does."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from harness.load.schedule import interleave
from harness.load.seats import crew, shares

Kinds = list[tuple[float, int]]


@pytest.mark.parametrize(
    ("kinds", "users"),
    [
        ([(1, 0)], {0: 16}),
        ([(3, 0), (1, 0)], {0: 12, 1: 4}),
        ([(1, 0), (0, 0)], {0: 16}),
        ([(0, 2), (1, 0)], {0: 2, 1: 14}),  # a fixed count makes the weight no matter
        ([(5, 1), (1, 0), (1, 3)], {0: 1, 1: 12, 2: 3}),
        ([(1, 40), (1, 0)], {0: 16}),  # Locust spawns the fixed ones first
        ([(1, 30), (1, 10)], {0: 12, 1: 4}),
        ([(0.5, 0), (1.5, 0)], {0: 4, 1: 12}),
    ],
)
def test_users_are_as_locust_spawns_them(kinds: Kinds, users: dict[int, int]) -> None:
    assert Counter(crew(shares(kinds, 16), 16)) == users


def test_slots_are_shared_as_users_are() -> None:
    weights = shares([(5, 1), (1, 0), (0, 0), (1, 3)], 16)
    assert Counter(islice(interleave(weights), 1600)) == {0: 100, 1: 1200, 3: 300}


def test_a_rare_class_has_a_user_all_the_same() -> None:
    assert Counter(crew(shares([(1000, 0), (1, 0)], 8), 8)) == {0: 7, 1: 1}
    assert sorted(crew(shares([(1, 0)] * 5, 2), 2)) == [0, 1, 2, 3, 4]
