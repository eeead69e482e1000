"""When a fresh process is warm, by a scripted clock; and the test for a trend beside SciPy's."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.node import warm_up


@pytest.mark.parametrize(
    ("falling", "least", "limit", "seconds", "steady"),
    [(0.0, 0.5, 30.0, 4.0, True), (0.0, 6.0, 30.0, 6.0, True), (1.0, 0.5, 5.2, 5.2, False)],
)
def test_a_process_is_warm_once_its_cost_is_steady(
    monkeypatch: pytest.MonkeyPatch,
    falling: float, least: float, limit: float, seconds: float, steady: bool,
) -> None:  # fmt: skip
    """By a scripted clock: 100 requests a second of 50 us each, and what falls in a second."""
    now, asked = [100.0], list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda s: now.__setitem__(0, now[0] + s))

    def used() -> float:
        t = now[0] - 100
        return 100 * 50e-6 * (t + falling * (10 * t - t * t / 2))

    found = warm_up.await_steady(used, least, limit, 100.0, lambda: asked.append(now[0]))
    assert found == pytest.approx((seconds, steady))
    assert len(asked) >= seconds / warm_up.PIECE_SECONDS - 1  # nobody is left waiting for long


@given(st.lists(st.floats(-10, 10) | st.integers(0, 3).map(float), min_size=8, max_size=12))
def test_the_test_for_a_trend_is_that_of_mann_and_kendall(values: list[float]) -> None:
    if len(set(values)) == 1:
        assert warm_up.trend(values) == 1.0
        return
    expected = stats.kendalltau(range(len(values)), values).pvalue
    assert warm_up.trend(values) == pytest.approx(expected, abs=1e-9)
