"""Requests belong to windows by a rule that looks at due times only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import latency, percentiles
from harness.analysis.latency import Requests
from harness.model import Window, WindowRow
from tests.unit import loaded
from tests.unit.loaded import Service

EFFECT_S = 200e-6


def paid(taken: loaded.Array, on: np.ndarray) -> loaded.Array:
    return taken + EFFECT_S * on


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("window_s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("base_s", [0.001, 0.002, 0.005, 0.01, 0.02])
def test_the_whole_effect_is_seen_or_none_is_told(base_s: float, window_s: float, q: float) -> None:
    """Counted by due time alone, 20 ms requests in 20 ms windows show -25 % of what they pay."""
    service = Service(base_s=base_s, spread=0.02)
    sample = loaded.sample(service, 3, paid, seconds=8.0, blocks=1, window_s=window_s)
    part = latency.within(sample, q)
    assert part.too_long == (base_s > (window_s - 0.006) / 2)
    if not part.too_long:
        found = percentiles.shift(part.sample, q)
        assert found is not None
        assert part.kept >= latency.LEAST_KEPT - 0.01
        scale = found.value.estimate / (1e6 * EFFECT_S)
        assert scale >= 0.97 - 1e6 * base_s * 0.02 * 0.05 / (1e6 * EFFECT_S)  # but for chance


def test_without_the_rule_a_slow_request_shows_a_part_of_what_it_pays() -> None:
    sample = loaded.sample(Service(base_s=0.01, spread=0.02), 3, paid, seconds=20.0, blocks=1)
    shares = []
    for picked in (sample, latency.within(sample, 0.5).sample):
        on, off = (picked.latency_ns[picked.on == state].mean() for state in (True, False))
        shares.append((on - off) / 1e9 / EFFECT_S)
    assert shares[0] < 0.9
    assert shares[1] > 0.97


@given(st.integers(0, 2**32), st.floats(0.3, 0.9))
def test_which_requests_count_does_not_depend_on_the_states(seed: int, q: float) -> None:
    sample = loaded.sample(Service(stalls=3.0), 5, seconds=2.0, blocks=1)
    flipped = replace(sample, on=np.random.default_rng(seed).random(len(sample.on)) < 0.5)
    one, other = latency.within(sample, q), latency.within(flipped, q)
    assert (one.margin_ns, one.kept, one.too_long) == (other.margin_ns, other.kept, other.too_long)
    assert np.array_equal(one.sample.latency_ns, other.sample.latency_ns)


def test_what_is_left_of_a_twins_window_cuts_nothing_off() -> None:
    rows = loaded.windows(2.0, 0.05, 0.006, 1)
    asked = loaded.requests(
        Service(base_s=0.03), rows, 0.05, lambda taken, _: taken, np.random.default_rng(1)
    )
    assert latency.within(latency.attribute(asked, rows, 0), 0.5).too_long
    whole = latency.within(latency.attribute(asked, rows, 0, cut=False), 0.5)
    assert (whole.kept, whole.too_long) == (1.0, False)


def test_requests_between_windows_belong_to_none() -> None:
    rows = loaded.windows(1.0, 0.05, 0.006, 1)
    edges = [(row.window.start_ns, row.window.end_ns) for row in rows]
    due = np.array([edges[0][0] - 1, edges[0][0], edges[0][1], edges[0][1] + 1, edges[-1][1] + 9])
    asked = Requests(due, np.full(5, 10**6), np.full(5, "/"))
    counted = latency.attribute(asked, rows, 0)
    assert counted.left_ns.tolist() == [edges[0][1] - edges[0][0], 0]


def test_another_factors_states_give_its_own_contrast() -> None:
    rows = loaded.windows(1.0, 0.05, 0.006, 1)
    due = np.array([row.window.start_ns for row in rows])
    asked = Requests(due, np.full(len(due), 10**6), np.full(len(due), "/"))
    states = np.array([i % 4 in (0, 1) for i in range(len(rows))])
    assert latency.attribute(asked, rows, 0, states).on.tolist() == states.tolist()
    assert latency.attribute(asked, rows, 0).on.tolist() == [row.window.on for row in rows]


def test_a_group_that_lost_a_state_is_left_out() -> None:
    rows = loaded.windows(1.0, 0.05, 0.006, 1)
    due = np.array([row.window.start_ns for row in rows])
    asked = Requests(due, np.full(len(due), 10**6), np.full(len(due), "/"))
    whole = [row for row in rows if row.window.quadruple or row.window.on]
    lost = latency.attribute(asked, whole, 7)
    assert len(lost.on) == len(rows) - 4
    assert lost.block.tolist() == [7] * (len(rows) // 4 - 1)
    assert lost.group.tolist() == np.repeat(np.arange(len(rows) // 4 - 1), 4).tolist()


def test_a_request_without_an_answer_took_longer_than_every_other(tmp_path: Path) -> None:
    path = tmp_path / "requests.npz"
    due = np.zeros(100, np.int64)
    status = np.where(np.arange(100) < 60, 200, 0).astype(np.int16)
    np.savez(
        path, due_ns=due, start_ns=due, end_ns=due + 10**6, status=status,
        route=np.zeros(100, np.uint8), bytes=np.zeros(100, np.int32),
        route_names=np.array(["/"]),
    )  # fmt: skip
    asked = Requests.load(path)
    assert sorted(set(asked.latency_ns.tolist())) == [10**6, latency.NEVER_NS]
    assert (asked.latency_ns == latency.NEVER_NS).sum() == 40


def test_a_drawn_curve_ends_where_requests_or_windows_do() -> None:
    many = latency.curve(loaded.sample(Service(), 1, seconds=9.0))
    few = latency.curve(loaded.sample(Service(), 1, seconds=1.0))
    assert many.q.max() > few.q.max() > 0.9
    stalled = latency.curve(loaded.sample(Service(stalls=3.0, stall_s=0.04), 1, seconds=9.0))
    assert 0.9 < stalled.q.max() < many.q.max()
    rows = [
        WindowRow(Window(0, 0, True, 0, 10**9), {}),
        WindowRow(Window(1, 0, False, 0, 10**9), {}),
    ]
    none = latency.attribute(Requests(*(np.empty(0, np.int64),) * 2, np.empty(0, str)), rows, 0)
    assert len(latency.curve(none).q) == 0
