"""A certificate's statistics against runs whose truth is known: intervals, power, noise."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.analysis import noise, shown, switched, trust
from harness.analysis.noise import Noise
from harness.analysis.trust import Known
from harness.model import Arm, Comparison, WindowRow
from harness.plan import experiment as experiments
from tests.unit import calibrated
from tests.unit.calibrated import RATE, rows, sample


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    yield from calibrated.few_draws()


# how often intervals are right


def test_share_has_the_exact_interval() -> None:
    found = trust.share(18, 20)
    assert found.share == 0.9
    assert (found.low, found.high) == pytest.approx((0.683, 0.988), abs=0.001)  # published tables
    assert (trust.share(0, 0).low, trust.share(0, 0).high) == (0.0, 1.0)


def test_cut_uses_every_quadruple_once_and_leaves_out_the_rest() -> None:
    whole = sample(1, 107)
    parts = trust.cut(whole, 25)
    assert [trust.quadruples(part) for part in parts] == [25] * 4
    assert np.array_equal(np.concatenate([part.value for part in parts]), whole.value[:400])


def test_right_truths_are_covered_and_wrong_ones_are_not() -> None:
    trials = [Known(sample(seed, 250, 2.0), 2.0) for seed in range(12)]
    right = trust.covered(trials, 25)
    assert right.n == 120
    assert right.share >= 0.90  # fewer has a probability below 1 % with 95 % intervals
    wrong = trust.covered([replace(trial, truth_us=6.0) for trial in trials], 25)
    assert wrong.share < 0.2


def test_false_alarms_are_few_without_an_effect_and_many_with_one() -> None:
    nulls = [sample(seed, 250) for seed in range(12)]
    found = trust.false_alarms(nulls, 25, seed=1, least=120)
    assert (found.real.n, found.redrawn.n) == (120, 0)
    assert found.both.share <= 0.1
    assert trust.false_alarms([sample(s, 250, 5.0) for s in range(12)], 25, 1, 1).both.share > 0.5


def test_too_few_comparisons_are_topped_up_by_redrawing() -> None:
    nulls = [sample(seed, 60) for seed in range(4)]
    found = trust.false_alarms(nulls, 20, seed=1)
    assert (found.real.n, found.redrawn.n, found.both.n) == (12, 188, 200)
    assert found == trust.false_alarms(nulls, 20, seed=1)
    assert found.both.k == found.real.k + found.redrawn.k
    assert trust.false_alarms([], 20, seed=1).both.n == 0


def test_off_windows_alone_know_nothing_of_the_effect() -> None:
    rng, n = np.random.default_rng(3), 400
    windows = rows(rng, 4 * n, states=experiments.pattern(n, 3), effect_us=50.0)
    found = trust.of_off_windows(windows, seed=3, block=2)
    assert trust.quadruples(found) == n // 2
    assert set(found.block) == {2}
    assert found.states.reshape(-1, 4).sum(axis=1).tolist() == [2] * (n // 2)
    assert abs(switched.combine(found).estimate) < 1.0
    assert found.weight.sum() == pytest.approx(2 * n * RATE * 0.05)


def test_power_grows_with_time_and_effect() -> None:
    small = [sample(seed, 300, 0.5, block=seed) for seed in range(3)]
    large = [sample(seed, 300, 3.0, block=seed) for seed in range(3)]
    short, longer = (trust.power(small, 0.2, seconds, seed=1) for seconds in (10.0, 60.0))
    assert short.share < longer.share
    assert trust.power(large, 0.2, 30.0, seed=1).share > 0.9
    assert trust.power(large, 0.2, 400.0, seed=1).n == 0
    assert trust.power([sample(1, 10)], 0.2, 10.0, seed=1).n == 0


def test_the_smallest_effect_falls_with_the_root_of_time() -> None:
    assert trust.detectable(1.0, 60.0, 60.0) == pytest.approx(2.8)
    assert trust.detectable(1.0, 60.0, 240.0) == pytest.approx(1.4)


def test_a_coverage_tells_what_lack_of_it_so_many_comparisons_notice() -> None:
    """Of 50, 44 or fewer are too few at 5 %: with a coverage of 85 % in four of five cases."""
    assert shown.noticed(50) == pytest.approx(0.85, abs=0.01)
    assert shown.noticed(1000) > 0.92
    assert math.isnan(shown.noticed(0))
    few = shown.coverage(trust.share(40, 50))
    assert few["p"] < 1e-3
    assert shown.coverage(trust.share(48, 50))["p"] > 0.5


def test_a_rate_of_false_alarms_tells_what_excess_so_many_comparisons_notice() -> None:
    """Against the definition: the power of the one-sided binomial test of 5 %, by its own tails."""
    for n in (100, 206, 1000):
        refused = next(k for k in range(n) if stats.binom.sf(k - 1, n, 0.05) <= 0.05)
        noticed = shown.noticed_alarms(n)
        assert stats.binom.sf(refused - 1, n, noticed) >= 0.8
        assert stats.binom.sf(refused - 1, n, noticed - 0.002) < 0.8
    assert 0.09 < shown.noticed_alarms(206) < 0.11
    assert math.isnan(shown.noticed_alarms(0))
    assert shown.alarms(trust.share(3, 206))["p"] > 0.9
    assert shown.alarms(trust.share(25, 206))["p"] < 1e-3


def test_the_bound_on_a_bias_is_that_of_two_one_sided_tests() -> None:
    assert shown.margin(-0.2, 0.1) == pytest.approx(0.2 + 1.645 * 0.1, abs=1e-3)
    assert shown.bias([], ["cpu-5"], "workload_cpu_us") == {}


def test_a_large_effect_does_not_decide_what_small_ones_are_seen() -> None:
    """Processes differ in an effect of 100 us by some us: of an arm of 1 us that says nothing."""
    arms = tuple(Arm(name, (f"inject:{name}",)) for name in ("small", "large"))
    rows = {
        name: Comparison("w", name, "workload_cpu_us", "us", value, value - reach, value + reach, 9,
                         0.0, 15.0, "")
        for name, value, reach in (("small", 1.0, 0.1), ("large", 100.0, 4.0))
    }  # fmt: skip
    trials = [
        SimpleNamespace(usable=True, record=SimpleNamespace(trial=SimpleNamespace(arm=n, kind=k)))
        for n, k in (("small", "switched"), ("large", "switched"), ("small", "metered"))
    ]
    found: Any = SimpleNamespace(
        experiment=SimpleNamespace(workloads=("w",), arms=arms, switched_seconds=30.0),
        row=lambda _w, arm, _m: rows[arm], trials=trials,
    )  # fmt: skip
    told = shown.detectable(found, "workload_cpu_us", "CPU per request")
    assert told is not None
    assert (told["worst"], [arm["arm"] for arm in told["arms"]]) == ("small", ["small"])
    assert told["effects"][0]["us"] == pytest.approx(2.8 * 0.1 / 1.96)


# noise


def test_a_machine_that_drifts_is_given_short_windows_and_a_quiet_one_long_ones() -> None:
    rng = np.random.default_rng(5)
    drifting = [rows(rng, 6000, seconds=0.01, drift=0.3, noise_share=0.003) for _ in range(2)]
    steady = [rows(rng, 12000, seconds=0.01, noise_share=0.02) for _ in range(2)]
    short = noise.choose(noise.by_window(drifting, 0.001))
    longer = noise.choose(noise.by_window(steady, 0.004))
    assert short.window_seconds <= 0.06
    assert longer.window_seconds == 0.1
    assert all(n.guard_seconds <= n.window_seconds / 4 for n in noise.by_window(steady, 0.02))


def test_the_error_is_the_one_that_a_comparison_has() -> None:
    """White noise of 2 % a window of 50 ms: 60 s are 300 quadruples, the SD of each is 2 %."""
    rng = np.random.default_rng(6)
    trials = [rows(rng, 12000, seconds=0.01, noise_share=0.02) for _ in range(2)]
    found = {n.window_seconds: n for n in noise.by_window(trials, 0.0)}[0.05]
    sd_of_t5 = math.sqrt(5 / 3)
    lost = math.sqrt(0.05 / (0.05 - noise.SWITCH_SECONDS))
    expected = 2 * sd_of_t5 / math.sqrt(300) * lost
    assert found.sd_percent == pytest.approx(expected, rel=0.1)
    assert found.error_percent == pytest.approx(expected, rel=0.25)
    assert abs(found.autocorrelation) < 0.1
    assert found.quadruples == 1200


def test_windows_are_chosen_by_the_error_of_the_estimator_in_use() -> None:
    """A collection of garbage each 0.4 s: the longer a window, the more windows it spoils for both.

    Hodges-Lehmann loses a quadruple to it, the regression a window, so that by its own error longer
    windows are as good.
    """
    rng = np.random.default_rng(3)
    trials = [rows(rng, 12000, seconds=0.01, noise_share=0.02) for _ in range(2)]
    for trial in trials:
        for i in np.flatnonzero(rng.random(len(trial)) < 1 / 40):
            meters = {**trial[i].meters, "cpu.workload": 6 * trial[i].meters["cpu.workload"]}
            trial[i] = replace(trial[i], meters=meters)
    found = noise.by_window(trials, 0.001)
    by_quadruples = [replace(n, window_error_percent=n.error_percent) for n in found]
    chosen, before = noise.choose(found), noise.choose(by_quadruples)
    assert chosen.window_seconds != before.window_seconds
    measured = {n.window_seconds: n for n in found}
    # what 40 runs of 10 s of nothing differ by, of the regression, in each of the two windows
    spread = {
        w: float(np.std([combined(trials, w, seed) for seed in range(60)]))
        for w in (chosen.window_seconds, before.window_seconds)
    }
    assert spread[chosen.window_seconds] < 1.05 * spread[before.window_seconds]
    assert measured[chosen.window_seconds].window_error_percent < measured[0.1].error_percent


def combined(trials: Sequence[Sequence[WindowRow]], window: float, seed: int) -> float:
    """The estimate of nothing, us, of redrawn states."""
    part = trust.relabelled(noise.merged(trials[seed % 2], window), seed, 0)
    return float(switched.combine(part).estimate)


def test_windows_seen_too_rarely_are_not_chosen() -> None:
    lucky = Noise(1.0, 0.01, 8, 1000.0, 0.01, 0.01, 0.01, 0.0, 0.01)
    usual = Noise(0.05, 0.01, 500, 40.0, 0.5, 0.6, 0.5, 0.0, 0.5)
    alike = Noise(0.06, 0.01, 400, 50.0, 0.51, 0.6, 0.5, 0.0, 0.51)
    starved = Noise(0.02, 0.005, 900, 3.0, 0.1, 0.6, 0.5, 0.0, 0.1)
    assert noise.choose([lucky, starved, usual, alike]) is alike


def test_no_window_is_chosen_that_an_experiment_cannot_hold() -> None:
    def noises(error: Callable[[float], float], requests: float) -> list[Noise]:
        windows = [0.01 * steps for steps in noise.STEPS]
        return [
            Noise(round(w, 6), min(0.3, w / 4), 500, requests, 1, 1, 1, 0, error(w))
            for w in windows
        ]

    chosen = [
        noise.choose(noises(error, requests))
        for error in (lambda w: 1 / w, lambda w: w, lambda w: 1.0)
        for requests in (100.0, 1.0)
    ]
    assert {c.window_seconds for c in chosen} == {0.02, 0.1}
    choosable = [w for w in (0.01 * s for s in noise.STEPS) if 0.02 <= w <= noise.LONGEST_SECONDS]
    for window in choosable:
        for guard in (0.006, max(0.006, window / 4)):
            defaults = {"window_seconds": window, "guard_seconds": guard}
            for path in experiments.SHIPPED.glob("*.toml"):
                own = tomllib.loads(path.read_text()).get("window_seconds", window)
                assert experiments.load(path, defaults).window_seconds == own


def test_the_spectrum_shows_a_swing_where_it_is() -> None:
    rng = np.random.default_rng(7)
    found = noise.spectrum([rows(rng, 6000, seconds=0.01, drift=0.3, noise_share=0.001)])
    peak = found.frequency_hz[int(np.argmax(found.percent2_per_hz))]
    assert peak == pytest.approx(1 / 7, abs=0.1)


def test_merged_windows_are_the_sums_of_their_rows() -> None:
    short = rows(np.random.default_rng(8), 103, seconds=0.01)
    found = noise.merged(short, 0.05)
    assert len(found) == 20
    assert found[0].meters["requests"] == pytest.approx(5 * RATE * 0.01)
    assert found[1].window.start_ns == short[5].window.start_ns
