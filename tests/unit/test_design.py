"""The design of a factorial trial: balanced, orthogonal, in random order, the same by its seed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.model import Arm
from harness.plan import design
from harness.plan.experiment import Experiment

COUNTS = range(2, 10)  # factors, the null factor among them: one to eight collectors
counts, seeds = st.sampled_from(COUNTS), st.integers(0, 2**63)


def cycles(count: int, number: int, seed: int) -> list[NDArray[np.int64]]:
    """Each cycle as +1 and -1, a row a window."""
    drawn = np.where(design.states(count, number, seed), 1, -1)
    return np.split(drawn, number)


@given(counts, st.integers(1, 6), seeds)
def test_every_factor_is_on_in_half_of_each_cycle(count: int, number: int, seed: int) -> None:
    for each in cycles(count, number, seed):
        assert each.shape == (design.cycle(count), count)
        assert not each.sum(axis=0).any()


@given(counts, seeds)
def test_no_two_factors_go_together_and_none_with_the_product_of_two_others(
    count: int, seed: int
) -> None:
    for each in cycles(count, 3, seed):
        for a, b in itertools.combinations(range(count), 2):
            both = each[:, a] * each[:, b]
            others = [c for c in range(count) if c not in (a, b)]
            assert both.sum() == 0
            assert not (both @ each[:, others]).any()


@given(st.sampled_from(range(2, 6)), seeds)
def test_of_up_to_four_collectors_every_combination_comes_equally_often(
    count: int, seed: int
) -> None:
    for each in cycles(count, 2, seed):
        seen = Counter(tuple(row) for row in each[:, :-1].tolist())
        assert len(seen) == 2 ** (count - 1)
        assert len(set(seen.values())) == 1


@given(seeds)
def test_the_null_factor_beside_four_collectors_is_their_product(seed: int) -> None:
    for each in cycles(5, 4, seed):
        products = each[:, :4].prod(axis=1) * each[:, 4]
        assert abs(products.sum()) == 16


@given(st.sampled_from((6, 7, 8, 9)), seeds)
def test_products_that_coincide_in_one_cycle_come_apart_over_many(count: int, seed: int) -> None:
    rows = np.concatenate(cycles(count, 60, seed))
    pairs = list(itertools.combinations(range(count), 2))
    products = np.column_stack([rows[:, a] * rows[:, b] for a, b in pairs])
    correlations = (products.T @ products) / len(rows) - np.eye(len(pairs))
    assert np.abs(correlations).max() < 0.75
    assert np.linalg.matrix_rank(np.column_stack([rows, products])) == count + len(pairs)


@pytest.mark.parametrize(
    ("count", "windows"), [(2, 4), (3, 8), (4, 16), (5, 16), (8, 16), (9, 32), (16, 32)]
)
def test_a_cycle_is_as_short_as_the_design_allows(count: int, windows: int) -> None:
    assert design.cycle(count) == windows


@given(counts, seeds)
def test_the_seed_alone_decides_what_is_drawn(count: int, seed: int) -> None:
    assert design.states(count, 3, seed) == design.states(count, 3, seed)


def test_the_order_within_a_cycle_is_drawn() -> None:
    first = Counter(design.states(3, 1, seed)[0] for seed in range(800))
    assert len(first) == 8
    assert min(first.values()) > 60  # 100 expected
    one, other = cycles(5, 2, 1)
    assert (one != other).any()


def test_factors_are_the_collectors_of_factorial_arms_and_a_null_one() -> None:
    arms = (
        Arm("baseline", method="factorial"), Arm("b", ("flows",), method="factorial"),
        Arm("a", ("http",), method="factorial"), Arm("alone", ("guard",)),
        Arm("all", ("http", "profile", "flows"), method="factorial"),
    )  # fmt: skip
    e = Experiment("e", ("go",), arms)
    assert design.factors(e) == ("flows", "http", "profile", "baseline")
    assert design.columns(e.arm("all"), design.factors(e)) == (1, 2, 0)
    assert design.columns(e.arm("baseline"), design.factors(e)) == (3,)
    assert design.factors(Experiment("e", ("go",), (Arm("baseline"), Arm("a", ("http",))))) == ()


@given(st.floats(1.6, 60), st.sampled_from((0.02, 0.05, 0.1)))
def test_a_trial_ends_with_a_whole_cycle(seconds: float, window: float) -> None:
    arms = (
        Arm("baseline", method="factorial"), Arm("a", ("http",), method="factorial"),
        Arm("b", ("flows",), method="factorial"),
    )  # fmt: skip
    e = Experiment("e", ("go",), arms, switched_seconds=max(seconds, 32 * window + 1e-6),
                   window_seconds=window)  # fmt: skip
    assert design.cycles(e) >= 4
    rest = e.switched_seconds - design.cycles(e) * 8 * window
    assert -1e-6 < rest < 8 * window + 1e-6
