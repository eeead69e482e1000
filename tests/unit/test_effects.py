"""Effects from windows against made-up machines of known effect; fixed seeds, one outcome each."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.analysis import cell as cells
from harness.analysis import compare, cpu, effects, hierarchy, redraw, switched
from harness.analysis.drift import Drift
from harness.analysis.effects import Effect, Windows
from harness.analysis.factorial import View
from harness.analysis.ranks import hodges_lehmann
from harness.model import Arm, Comparison, Trial, Window, WindowRow
from harness.plan.experiment import pattern
from harness.results.run import TrialRecord

Array = NDArray[np.float64]
SECONDS, LEVEL = 0.05, 100.0


def design(
    random: np.random.Generator, factors: int, n: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """States of about `n` windows, and the groups within which the coins drew them."""
    if factors == 1:
        states = np.array(pattern(n // 4, int(random.integers(1 << 31))))[:, None]
        return states, np.arange(len(states)) // 4
    every = np.array(list(itertools.product([False, True], repeat=factors)))
    cycles = [every[random.permutation(len(every))] for _ in range(max(1, n // len(every)))]
    return np.concatenate(cycles), np.arange(len(cycles) * len(every)) // len(every)


def made(
    random: np.random.Generator,
    costs: list[float],
    *,
    n: int = 192,
    noise: float = 5.0,
    spikes: float = 0.0,
    swing: float = 0.0,
    block: int = 0,
) -> Windows:
    """A machine that swings, with spikes of up to six times a request; `costs` of each factor."""
    states, group = design(random, len(costs), n)
    time = SECONDS * np.arange(len(states), dtype=np.float64)
    value = LEVEL + states @ np.array(costs) + noise * random.standard_normal(len(states))
    value += swing * np.sin(2 * np.pi * (time / 3 + random.random()))
    value += (random.random(len(value)) < spikes) * 500 * random.random(len(value))
    blocks = np.full(len(value), block)
    return Windows(value, np.ones(len(value)), states, group, blocks, time)


def join(parts: list[Windows]) -> Windows:
    return Windows(*(np.concatenate(each) for each in zip(*map(columns, parts), strict=True)))


def columns(windows: Windows) -> tuple[NDArray[np.generic], ...]:
    w = windows
    return (w.value, w.weight, w.states, w.group, w.block, w.time)


def last(windows: Windows) -> Effect:
    """The effect of the last factor."""
    return effects.fit(windows, [np.eye(windows.states.shape[1])[-1]])[0]


def covered(found: list[Effect], truth: float) -> float:
    return float(np.mean([e.interval.low <= truth <= e.interval.high for e in found]))


MACHINES: list[dict[str, Any]] = [{}, {"spikes": 0.15, "swing": 15.0}]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("factors", [1, 2, 4])
def test_intervals_hold_the_truth_and_nothing_is_found_of_nothing(
    factors: int, machine: dict[str, Any]
) -> None:
    random = np.random.default_rng([factors, 2])
    found = [last(made(random, [3.0] * (factors - 1) + [2.0], **machine)) for _ in range(100)]
    assert covered(found, 2.0) >= 0.88  # of 100; 93 to 96 % of more
    errors = np.array([e.estimate - 2.0 for e in found])
    assert abs(errors.mean()) < 3 * errors.std() / math.sqrt(len(errors))
    nothing = [last(made(random, [3.0] * (factors - 1) + [0.0], **machine)) for _ in range(100)]
    assert np.mean([e.p < 0.05 for e in nothing]) <= 0.12
    assert np.mean([e.standard_error for e in found]) == pytest.approx(errors.std(), rel=0.2)


def test_a_disturbed_window_does_not_spoil_its_neighbours() -> None:
    """Of quadruples nearly half are spoilt where one window in seven is."""
    random = np.random.default_rng(4)
    widths = []
    for _ in range(60):
        windows = made(random, [2.0], spikes=0.15)
        signed = np.where(windows.states[:, 0], windows.value, -windows.value)
        theirs = hodges_lehmann(signed.reshape(-1, 4).sum(axis=1) / 2)
        mine = last(windows)
        widths.append((mine.interval.high - mine.interval.low) / (theirs.high - theirs.low))
        assert mine.down > 0.08
        assert abs(mine.mean - 2.0) > abs(mine.estimate - 2.0) or mine.mean_error > 2.0
    assert np.median(widths) < 0.6


@pytest.mark.parametrize("factors", [1, 3])
def test_the_error_is_that_of_drawing_the_coins_again(factors: int) -> None:
    """Closed form against 200 redraws of the same windows, in which nothing costs anything."""
    windows = made(np.random.default_rng(5), [0.0] * factors, swing=5.0)
    random, once = np.random.default_rng(6), last(windows)
    again = [
        last(replace(windows, states=redraw.redrawn(windows, random))).estimate for _ in range(200)
    ]
    assert once.standard_error == pytest.approx(np.std(again), rel=0.15)


def test_redrawn_states_keep_what_the_design_keeps() -> None:
    random = np.random.default_rng(7)
    one, many = made(random, [0.0]), made(random, [0.0] * 3)
    for windows in (one, many):
        states = redraw.redrawn(windows, random)
        assert (states != windows.states).any()
        for group in np.unique(windows.group):
            mine = windows.group == group
            assert states[mine].sum(axis=0).tolist() == windows.states[mine].sum(axis=0).tolist()
    mirrored = redraw.redrawn(one, random).reshape(-1, 4)
    assert (mirrored[:, 0] == mirrored[:, 3]).all()
    assert (mirrored[:, 1] != mirrored[:, 3]).all()


def test_noisy_blocks_count_for_less() -> None:
    random = np.random.default_rng(8)
    parts = [made(random, [2.0], noise=x, block=i) for i, x in enumerate((1.0, 10.0))]
    found = last(join(parts))
    assert found.shares[0] > 0.9
    assert sum(found.shares) == pytest.approx(1.0)
    assert [round(each.estimate, 6) for each in found.blocks] == [
        round(last(part).estimate, 6) for part in parts
    ]
    assert found.n == 2 * 192
    assert found.mean_error > found.standard_error  # the mean knows of no noisy block


def test_an_interaction_is_a_column_of_products() -> None:
    random = np.random.default_rng(9)
    windows = made(random, [2.0, 3.0], noise=1.0)
    both = windows.states.all(axis=1)
    states = np.column_stack([windows.states, both])
    more = replace(windows, value=windows.value + 4.0 * both, states=states)
    single, pair, together = effects.fit(more, [[1, 0, 0], [0, 0, 1], [1, 1, 1]])
    assert single.estimate == pytest.approx(2.0, abs=0.8)
    assert pair.interval.low < 4.0 < pair.interval.high
    assert together.estimate == pytest.approx(9.0, abs=0.8)
    assert together.standard_error < single.standard_error + pair.standard_error
    assert together.level == pytest.approx(LEVEL, abs=0.8)


def test_what_cannot_be_told_is_not_told() -> None:
    windows = made(np.random.default_rng(10), [2.0])
    few = last(windows.pick(windows.group < 5))
    assert math.isfinite(few.estimate)
    assert math.isnan(few.interval.low)
    assert math.isnan(few.p)
    never_on = replace(windows, states=np.zeros_like(windows.states))
    assert math.isnan(last(never_on).estimate)
    assert last(never_on).n == 0


def test_without_noise_the_effect_is_exact() -> None:
    found = last(made(np.random.default_rng(11), [2.0], noise=0.0))
    assert (found.estimate, found.mean) == pytest.approx((2.0, 2.0))
    assert found.p < 1e-6
    assert last(made(np.random.default_rng(11), [0.0], noise=0.0)).p > 0.05


def test_a_slow_curve_is_taken_off_and_a_new_one_begins_after_a_gap() -> None:
    time = np.concatenate([np.arange(100), 500 + np.arange(100)]) * SECONDS
    curve = np.where(time < 20, 3.0 * time, 100 - 7.0 * time)
    rest = Drift.of(time).without(np.ones(200), curve)
    assert rest == pytest.approx(np.zeros(200), abs=1e-6)
    assert Drift.of(time).knots == 2 * (1 + round(99 / 12))
    assert Drift.of(time[:3]).knots == 2


# arms whose collectors are switched in the same windows, each by a pattern of its own


ARMS = {"http": (1.0, 0.0, 0.0), "both": (1.0, 1.0, 0.0), "baseline": (0.0, 0.0, 1.0)}
COLLECTORS = {"http": ("http",), "both": ("http", "flows"), "baseline": ()}


def shared(seed: int, block: int, together_us: float) -> cells.Trial:
    """http costs 6 us and flows 2, and both `together_us` more when both are on."""
    random = np.random.default_rng([seed, block])
    states, group = design(random, 3, 400)
    us = 60 + states @ np.array([6.0, 2.0, 0.0]) + together_us * states[:, :2].all(axis=1)
    us += random.standard_normal(len(us))
    rows = []
    for i, (mine, cost) in enumerate(zip(states.tolist(), us, strict=True)):
        start = round(1e9 * SECONDS * i)
        meters = {"requests": 100.0, "cpu.workload": 1e-4 * cost, "cpu.client": 1e-2,
                  "cpu.softirq": 0.01 * (i % 3 == 0)}  # fmt: skip
        window = Window(i, int(group[i]), any(mine), start, start + 44_000_000, tuple(mine))
        rows.append(WindowRow(window, meters))
    trial = Trial(block, "go", block, "factorial", "switched", 1)
    return TrialRecord(trial, "ok"), tuple(rows)


def rows_of(together_us: float) -> dict[tuple[str, str], Comparison]:
    trials = tuple(shared(3, block, together_us) for block in range(2))
    found = cpu.rows(
        [
            cells.Cell("go", Arm(name, COLLECTORS[name]), trials, (), view=View(contrast))
            for name, contrast in ARMS.items()
        ],
        seed=1,
    )
    return {(arm, row.metric): row for (_, arm), rows in found.items() for row in rows}


def test_arms_of_one_trial_are_contrasts_of_its_factors() -> None:
    found = rows_of(0.0)
    for arm, truth in (("http", 6.0), ("both", 8.0), ("baseline", 0.0)):
        row = found[arm, "workload_cpu_us"]
        assert row.low < truth < row.high
        assert row.high - row.low < 1.0
        assert row.level == pytest.approx(60.0, abs=0.5)
        assert row.mean == pytest.approx(truth, abs=0.5)
        assert row.method == cpu.WINDOWS
    ticked = found["http", "softirq_cpu_us"]
    assert ticked.method == cpu.SUMS.format("100")
    assert ticked.low < 0.0 < ticked.high
    assert 0.05 < ticked.p <= 1.0
    assert found["http", "workload_cpu_percent"].estimate == pytest.approx(10.0, abs=0.5)


def ticking(random: np.random.Generator, effect_us: float, n: int = 96) -> Windows:
    """Windows of 100 requests whose 30 us each are read by a counter that moves by 10 ms."""
    states = np.array(pattern(n, int(random.integers(1 << 30))))
    true = 100e-6 * (30.0 + effect_us * states) * (1 + 0.05 * random.standard_normal(4 * n))
    read = np.floor((np.concatenate([[0.0], np.cumsum(true)]) + 0.01 * random.random()) / 0.01)
    value = 1e6 * 0.01 * np.diff(read) / 100
    numbers = np.zeros(4 * n, dtype=np.int64)
    group = np.arange(4 * n, dtype=np.int64) // 4
    weight, time = np.full(4 * n, 100.0), 0.05 * np.arange(4.0 * n)
    return Windows(value, weight, states[:, None], group, numbers, time)


@pytest.mark.parametrize("truth", [0.0, 20.0])
def test_a_counter_of_ticks_has_p_and_an_interval_that_knows_them(truth: float) -> None:
    """One tick is 100 us a request of a window of 100, three times what a request costs."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(300):
        made = ticking(random, truth)
        (effect,) = effects.fit(made, [[1.0]])
        found.append(
            hierarchy.of_mean(effect, compare.tick_error_us(made.value, made.weight, [1.0]))
        )
    covered = np.mean([w.whole.low <= truth <= w.whole.high for w in found])
    assert covered >= 0.93
    assert np.mean([w.whole.estimate for w in found]) == pytest.approx(truth, abs=1.0)
    if truth:
        assert np.mean([w.p < 0.05 for w in found]) > 0.5
    else:
        assert np.mean([w.p < 0.05 for w in found]) <= 0.08
    assert all((w.p < 0.05) == (w.whole.low * w.whole.high > 0) for w in found)


def test_a_counter_that_never_moved_is_known_to_a_tick() -> None:
    still = replace(ticking(np.random.default_rng(1), 0.0), value=np.zeros(384))
    (effect,) = effects.fit(still, [[1.0]])
    within = hierarchy.of_mean(effect, compare.tick_error_us(still.value, still.weight, [1.0]))
    tick_us = 1e6 * 0.01 / 100  # one of them in half of the windows
    assert within.whole.high == pytest.approx(1.98 * 2 * tick_us / 384, rel=0.02)
    assert within.whole.low == -within.whole.high
    assert within.p == 1.0


def test_counters_of_ticks_are_widened_by_what_processes_differ_by() -> None:
    """Blocks of 0 and 60 us: the mean over processes is not known by either."""
    random = np.random.default_rng(2)
    parts = [
        replace(ticking(random, us), block=np.full(384, block, dtype=np.int64))
        for block, us in enumerate((0.0, 60.0))
    ]
    (effect,) = effects.fit(switched.join(parts), [[1.0]])
    within = hierarchy.of_mean(effect, 0.0)
    wide = hierarchy.widened(within, hierarchy.pooled([within]))
    assert wide.high - wide.low > 2 * (within.whole.high - within.whole.low)


@pytest.mark.parametrize("truth", [0.0, 3.0])
def test_what_they_cost_together_beyond_each_alone_is_found(truth: float) -> None:
    row = rows_of(truth)["both", "interaction_us"]
    assert row.low < truth < row.high
    assert (row.p < 1e-3) == (truth > 0)
    assert ("http", "interaction_us") not in rows_of(truth)
