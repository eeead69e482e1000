"""The estimators against simulated truth: fixed seeds, so each test has one outcome."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.analysis import compare, coverage, hierarchy, ranks, validity
from harness.analysis.compare import Estimate, quadruples
from harness.analysis.ranks import hodges_lehmann
from harness.model import Measurement, Trial, WindowRow
from harness.results.run import TrialRecord
from tests.unit import synthetic
from tests.unit.costed import changeable
from tests.unit.synthetic import Truth

ONE = synthetic.experiment(workloads=("go",), switched_seconds=10.0)
SAMPLES = arrays(float, st.integers(6, 40), elements=st.floats(-1e3, 1e3, width=32))


def trial(arm: str, seed: int, index: int = 0) -> Trial:
    return Trial(index, "go", 0, arm, "switched", seed)


def simulate(arm: str, truth: Truth, seed: int) -> compare.Quadruples:
    """Two blocks of the quick experiment under drift and heavy tails."""
    return compare.join(
        [
            quadruples(
                synthetic.windows(ONE, trial(arm, seed), truth, np.random.default_rng([seed, b])),
                ("cpu.workload",),
            )
            for b in range(2)
        ]
    )


def covers(value: Estimate, truth: float) -> bool:
    return value.low <= truth <= value.high


@pytest.mark.parametrize(("arm", "effect"), [("baseline", 0.0), ("http", 0.55), ("all", 0.96)])
def test_the_interval_covers_the_truth_in_19_of_20_runs(arm: str, effect: float) -> None:
    runs = [hodges_lehmann(simulate(arm, Truth(), seed).differences) for seed in range(200)]
    covered = sum(covers(run, effect) for run in runs)
    assert covered >= 184  # fewer has a probability below 3 % if the interval is a 95 % one


def test_nothing_installed_is_called_an_effect_in_at_most_one_of_ten_runs() -> None:
    runs = [hodges_lehmann(simulate("baseline", Truth(), seed).differences) for seed in range(300)]
    alarms = sum(not covers(run, 0.0) for run in runs)
    assert alarms <= 24  # 5 % are 15


def test_a_known_effect_comes_back_under_drift() -> None:
    truth = Truth({"http": 1.5}, drift=0.15)
    value = hodges_lehmann(simulate("http", truth, 3).differences)
    assert value.low > 0
    assert value.estimate == pytest.approx(1.5, abs=3 * value.standard_error)


def test_slow_drift_alone_costs_little_precision() -> None:
    def width(drift: float) -> float:
        quiet = Truth({}, drift=drift, noise=0.03, outliers=0.0)
        values = [hodges_lehmann(simulate("baseline", quiet, s).differences) for s in range(20)]
        return float(np.mean([v.high - v.low for v in values]))

    assert width(0.15) < 1.2 * width(0.0)


def test_outliers_hardly_move_the_estimate() -> None:
    sample = np.random.default_rng(1).normal(1.0, 0.1, 60)
    spoiled = np.concatenate([sample[:-3], [500.0, -300.0, 900.0]])
    assert hodges_lehmann(spoiled).estimate == pytest.approx(1.0, abs=0.05)


def test_the_smallest_effect_is_seen_in_four_of_five_runs() -> None:
    noise = [np.random.default_rng(s).normal(0, 1, 50) for s in range(300)]
    mde = float(np.mean([hodges_lehmann(n).mde for n in noise]))
    seen = sum(hodges_lehmann(n + mde).low > 0 for n in noise)
    assert 0.72 <= seen / 300 <= 0.88


@given(SAMPLES, st.floats(-100, 100))
def test_shifting_the_sample_shifts_the_estimate(sample: np.ndarray, shift: float) -> None:
    before, after = hodges_lehmann(sample), hodges_lehmann(sample + shift)
    assert after.estimate == pytest.approx(before.estimate + shift, abs=1e-6)
    assert after.low == pytest.approx(before.low + shift, abs=1e-6)


@given(SAMPLES)
def test_mirroring_the_sample_mirrors_the_interval(sample: np.ndarray) -> None:
    before, after = hodges_lehmann(sample), hodges_lehmann(-sample)
    assert (after.estimate, after.low, after.high) == pytest.approx(
        (-before.estimate, -before.high, -before.low), abs=1e-9
    )


@given(SAMPLES)
def test_the_estimate_lies_in_its_interval_and_in_the_sample(sample: np.ndarray) -> None:
    value = hodges_lehmann(sample)
    assert sample.min() <= value.low <= value.estimate <= value.high <= sample.max()


@given(st.integers(ranks.EXACT_UP_TO - 5, ranks.EXACT_UP_TO))
def test_exact_and_normal_ranks_agree_where_they_meet(n: int) -> None:
    exact = ranks._signed_rank_cut(n)
    mean, spread = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    assert abs(exact - (mean - 1.96 * spread)) <= 2


def test_the_signed_rank_table_is_the_published_one() -> None:
    """Critical values for 2.5 %: 0 at n = 6, 8 at n = 10, 52 at n = 20 (one less than the rank)."""
    assert [ranks._signed_rank_cut(n) - 1 for n in (6, 10, 20)] == [0, 8, 52]


def test_too_few_quadruples_give_no_interval() -> None:
    value = hodges_lehmann(np.array([1.0, 2.0, 3.0]))
    assert value.estimate == 2.0
    assert math.isnan(value.low)
    assert math.isnan(hodges_lehmann(np.empty(0)).estimate)


def test_a_quadruple_that_lacks_something_is_left_out() -> None:
    rows = synthetic.windows(ONE, trial("http", 1), Truth(), np.random.default_rng(1))
    whole = len(quadruples(rows, ("cpu.workload",)).on)
    del rows[0], rows[6].meters["cpu.workload"]
    for row in rows[11:15]:
        changeable(row)["requests"] = 0.0
    assert len(quadruples(rows, ("cpu.workload",)).on) == whole - 3
    assert len(quadruples(rows, ("cpu.unknown",)).on) == 0


def softirq(truth: Truth, seed: int) -> Estimate:
    each = trial("http", seed)
    parts = [
        quadruples(
            synthetic.windows(ONE, each, truth, np.random.default_rng([seed, b])),
            ("cpu.softirq",), block=b,
        )
        for b in range(4)
    ]  # fmt: skip
    return compare.ratio_of_sums(compare.join(parts), seed)[0]


def test_a_counter_of_ticks_covers_the_truth_where_a_median_does_not() -> None:
    found = [softirq(Truth(softirq_us=2.0), seed) for seed in range(100)]
    assert sum(covers(value, 2.0) for value in found) >= 88
    assert float(np.mean([value.estimate for value in found])) == pytest.approx(2.0, abs=0.4)


def test_ticks_are_told_from_nanoseconds() -> None:
    rows = synthetic.windows(ONE, trial("http", 1), Truth(), np.random.default_rng(1))
    assert compare.is_ticked(rows, "cpu.softirq")
    assert not compare.is_ticked(rows, "cpu.workload")


def test_ticks_of_two_processes_have_p_of_the_coins() -> None:
    """Of nothing one in twenty is below 5 %; of a difference, most; never moved, none."""
    random = np.random.default_rng(1)

    def sample(us: float) -> compare.Quadruples:
        ticks = [random.poisson(rate, 60) for rate in ((40.0 + us) / 50, 40.0 / 50)]
        requests = np.full(60, 200.0)
        on, off = (1e6 * 0.01 * each / requests for each in ticks)
        return compare.Quadruples(on, off, requests, requests, np.arange(60) // 30)

    nothing = [compare.coins_p(sample(0.0)) for _ in range(600)]
    assert 0.03 <= np.mean(np.array(nothing) < 0.05) <= 0.065
    assert np.mean([compare.coins_p(sample(40.0)) < 0.05 for _ in range(100)]) > 0.9
    still = sample(0.0)
    assert compare.coins_p(dataclasses.replace(still, on=still.off)) == 1.0
    within, _ = hierarchy.of_sums(sample(0.0), 1)
    assert within.p > 0
    assert len(within.blocks) == 2


def test_ticks_that_never_moved_have_no_interval() -> None:
    rows = synthetic.windows(ONE, trial("http", 1), Truth(), np.random.default_rng(1))
    for row in rows:
        changeable(row)["cpu.softirq"] = 0.0
    value, _ = compare.ratio_of_sums(quadruples(rows, ("cpu.softirq",)), 1)
    assert value.estimate == 0.0
    assert math.isnan(value.low)


def test_what_the_agent_used_is_taken_off_the_host() -> None:
    rows = synthetic.windows(ONE, trial("http", 1), Truth(), np.random.default_rng(1))
    apart = ("cpu.agent", "cpu.sink")
    before = quadruples(rows, ("cpu.host",), apart)
    for row in rows:
        burst = 0.05 * row.window.on
        changeable(row)["cpu.agent"] += burst
        changeable(row)["cpu.host"] += burst
    assert quadruples(rows, ("cpu.host",), apart).differences == pytest.approx(before.differences)


def test_coverage_is_pooled_with_exact_intervals_and_never_clipped() -> None:
    ten = coverage.share(coverage.Count(10, 10), "connections")
    assert (ten.estimate, ten.high) == (100.0, 100.0)
    assert ten.low == pytest.approx(69.15, abs=0.01)  # Clopper and Pearson's table
    few = coverage.share(coverage.Count(10, 8.0), "samples")
    assert few.estimate == 125.0
    assert (few.low * 0.08, few.high * 0.08) == pytest.approx((4.795, 18.39), abs=0.01)  # Garwood's
    assert coverage.share(coverage.Count(12, 10), "requests").estimate == 120.0


def test_coverage_sums_over_trials_before_it_divides() -> None:
    def one(seen: float, made: float) -> TrialRecord:
        values = {"signal_seen": seen, "signal_made": made}
        return record(values)

    assert coverage.pooled([one(9, 10), one(90, 90), one(0, 0)]) == {
        "requests": coverage.Count(99, 100)
    }


def test_disagreeing_blocks_are_noticed() -> None:
    near = [Estimate(1.0, 0.8, 1.2, 50), Estimate(1.1, 0.9, 1.3, 50)]
    far = [Estimate(1.0, 0.9, 1.1, 50), Estimate(2.0, 1.9, 2.1, 50)]
    assert compare.disagreement(near) > 0.3
    assert compare.disagreement(far) < 1e-6
    assert compare.disagreement(near[:1]) == 1.0


def record(values: dict[str, float], **extra: object) -> TrialRecord:
    each = trial("http", 1)
    return TrialRecord(
        each, "ok", extra=dict(extra),
        values=tuple(
            Measurement(name, value, "1", "go", "http", 0, each.name)
            for name, value in values.items()
        ),
    )  # fmt: skip


GOOD = {
    "requests_total": 1000.0, "errors_total": 1.0, "rate_asked": 100.0, "rate_achieved": 98.0,
    "driver_cpu_share": 0.42, "steal_share": validity.MAX_STEAL_SHARE,
    "throttled_share": validity.MAX_THROTTLED_SHARE,
    "cpu_pressure_share": validity.MAX_CPU_WAIT_SHARE,
    "memory_pressure_share": validity.MAX_STALL_SHARE,
    "io_pressure_share": validity.MAX_STALL_SHARE,
}  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("errors_total", 2.0, "failed"),
        ("rate_achieved", 97.9, "requests a second"),
        ("steal_share", validity.MAX_STEAL_SHARE + 0.001, "hypervisor"),
        ("throttled_share", validity.MAX_THROTTLED_SHARE + 0.001, "CPU limit"),
        ("cpu_pressure_share", validity.MAX_CPU_WAIT_SHARE + 0.001, "waited for a CPU"),
        ("memory_pressure_share", validity.MAX_STALL_SHARE + 0.001, "waited for memory"),
        ("io_pressure_share", validity.MAX_STALL_SHARE + 0.001, "waited for a disk"),
    ],
)
def test_each_rule_holds_at_its_limit_and_breaks_beyond(
    metric: str, value: float, words: str
) -> None:
    rows = synthetic.windows(ONE, trial("http", 1), Truth(), np.random.default_rng(1))
    assert validity.judge(record(GOOD), rows, ONE.quadruples).usable
    judged = validity.judge(record({**GOOD, metric: value}), rows, ONE.quadruples)
    assert judged.status == "invalid"
    assert words in judged.reason


def test_windows_cut_short_do_not_count() -> None:
    rows = synthetic.windows(ONE, trial("http", 1), Truth(), np.random.default_rng(1))
    least = (ONE.window_seconds - ONE.guard_seconds) / 2
    assert validity.judge(record(GOOD), rows, ONE.quadruples, least).usable
    short = dataclasses.replace(rows[1].window, end_ns=rows[1].window.start_ns + 10**6)
    rows[1] = dataclasses.replace(rows[1], window=short)
    assert len(quadruples(rows, ("cpu.workload",), (), least).on) == ONE.quadruples - 1


def test_lost_windows_and_a_saturated_driver_invalidate() -> None:
    rows: list[WindowRow] = synthetic.windows(
        ONE, trial("http", 1), Truth(), np.random.default_rng(1)
    )
    assert "quadruples" in validity.judge(record(GOOD), rows[44:], ONE.quadruples).reason
    told = validity.judge(record(GOOD, saturated="it fell behind"), rows, ONE.quadruples)
    assert told.reason == "It fell behind."
