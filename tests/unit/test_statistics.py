"""The statistics against simulated truth in the shape measured here; fixed seeds, one outcome each.

A window of 50 ms varies by 13 % with heavy tails, one quadruple in 33 has a spike of up to five
times that, quadruples resemble their neighbours (lag 1), and blocks differ in noise and in effect.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.analysis import compare, family, hierarchy, multiple, ranks, sequential
from harness.analysis.compare import Estimate, Quadruples
from harness.model import Arm, Comparison
from harness.node import warm_up
from harness.plan.experiment import Experiment

Array = NDArray[np.float64]


def noise(
    rng: np.random.Generator, reps: int, blocks: int, n: int, rho: float, uneven: float = 0.4
) -> Array:
    """Differences in percent without an effect, (reps, blocks, n)."""
    x = rng.standard_normal((reps, blocks, n))
    for i in range(1, n):
        x[..., i] = rho * x[..., i - 1] + math.sqrt(1 - rho * rho) * x[..., i]
    x *= 12 * math.sqrt(0.5) * np.sqrt(4 / rng.chisquare(4, x.shape))
    x += (rng.random(x.shape) < 0.03) * rng.choice([-65, 65], x.shape) * rng.random(x.shape)
    scaled: Array = x * np.exp(uneven * rng.standard_normal((reps, blocks, 1)))
    return scaled


def experiments(
    reps: int, blocks: int, n: int, rho: float, tau: float, seed: int = 1
) -> list[Quadruples]:
    """Runs whose blocks' effects have mean zero and standard deviation `tau` percent."""
    rng = np.random.default_rng([seed, blocks, n])
    own = tau * rng.standard_normal((reps, blocks, 1))
    return [sample(run) for run in noise(rng, reps, blocks, n, rho) + own]


def sample(differences: Array) -> Quadruples:
    """Quadruples with these differences, (blocks, n)."""
    blocks, n = differences.shape
    level = np.full(blocks * n, 100.0)
    return Quadruples(
        level + differences.ravel(), level, level, level, np.repeat(np.arange(blocks), n)
    )


def share_covered(found: list[Estimate], truth: float = 0.0) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in found]))


@pytest.mark.parametrize(
    ("blocks", "n", "rho", "tau"),
    [(2, 50, 0.0, 0.0), (4, 50, 0.1, 1.0), (6, 30, 0.1, 1.0)],
)
def test_the_interval_covers_the_truth(blocks: int, n: int, rho: float, tau: float) -> None:
    found = [hierarchy.combine(each) for each in experiments(1000, blocks, n, rho, tau)]
    assert share_covered(found) >= 0.93


def test_quadruples_of_one_process_alone_would_not_cover_it() -> None:
    runs = experiments(400, 6, 50, 0.1, 2.0)
    naive = [ranks.hodges_lehmann(run.differences) for run in runs]
    assert share_covered(naive) < 0.90
    assert share_covered([hierarchy.combine(run) for run in runs]) >= 0.92


def together(arms: int, tau: float, reps: int = 150) -> list[tuple[Estimate, Estimate]]:
    """Arms of services measured in two blocks: with one heterogeneity, and each with its own."""
    found = []
    runs = iter(experiments(reps * arms, 2, 40, 0.0, tau))
    for _ in range(reps):
        mine = [hierarchy.within(next(runs)) for _ in range(arms)]
        between = hierarchy.pooled(mine)
        found += [
            (hierarchy.widened(arm, between), hierarchy.widened(arm, hierarchy.pooled([arm])))
            for arm in mine
        ]
    return found


def test_two_blocks_that_differ_are_told_by_all_arms_together() -> None:
    """Their own effects vary by more than one block's standard error, about 1.6 %."""
    found = together(5, 2.0)
    assert 0.80 <= share_covered([alone for _, alone in found]) <= 0.93
    assert share_covered([all_arms for all_arms, _ in found]) >= 0.91


def test_arms_together_widen_less_where_nothing_differs() -> None:
    found = together(5, 0.0)
    widths = np.mean([[(e.high - e.low) for e in each] for each in found], axis=0)
    assert widths[0] < 0.85 * widths[1]
    assert share_covered([all_arms for all_arms, _ in found]) >= 0.94


def apart(effects: Array, tau: float, share: float, reps: int = 200) -> Array:
    """Arms of five blocks apart by `tau` and a share of their effect: covered, of one pool and by
    size, and the widths of both, (4, arms).
    """
    rng, found = np.random.default_rng(11), np.zeros((4, len(effects)))
    spread = np.hypot(tau, share * effects)
    for _ in range(reps):
        values = effects + rng.standard_normal((5, len(effects))) * np.hypot(spread, 1.0)
        arms = [one_arm(each) for each in values.T]
        one = [hierarchy.pooled(arms)] * len(arms)
        for row, pools in enumerate((one, hierarchy.by_size(arms, [100.0] * len(arms)))):
            for i, (arm, between) in enumerate(zip(arms, pools, strict=True)):
                e = hierarchy.widened(arm, between)
                found[row, i] += e.low <= effects[i] <= e.high
                found[2 + row, i] += e.high - e.low
    return found / reps


def one_arm(values: Array) -> hierarchy.Within:
    """Blocks of unit error."""
    each = [Estimate(v, v - 1.96, v + 1.96, 50) for v in values.tolist()]
    mean, reach, n = float(values.mean()), 1.96 / math.sqrt(len(values)), len(values)
    whole = Estimate(mean, mean - reach, mean + reach, 50 * n)
    return hierarchy.Within(whole, tuple(each), (1 / n,) * n, math.nan)


def test_what_large_effects_differ_by_does_not_widen_the_small_ones() -> None:
    """Arms as a calibration has them, in per cent of a request: processes differ by 2 % of each."""
    effects = np.array([0.3, 1.0, 3.0, 50.0, 130.0, 670.0])
    of_one, by_size, wide, narrow = apart(effects, 0.0, 0.02)
    assert narrow[:3].max() < 0.25 * wide[:3].min()
    assert of_one[-1] < 0.80  # one pool hides how far the largest is apart
    assert by_size.min() >= 0.90


def test_large_effects_that_differ_no_more_than_small_ones_are_as_wide() -> None:
    _, by_size, wide, narrow = apart(np.array([0.0, 1.0, 3.0, 50.0, 80.0]), 1.0, 0.0)
    assert by_size.min() >= 0.90
    assert narrow.max() < 1.3 * wide.min()


def test_agreeing_blocks_cost_little_width() -> None:
    runs = experiments(200, 8, 30, 0.0, 0.0)
    wider = [
        hierarchy.combine(run).standard_error / ranks.hodges_lehmann(run.differences).standard_error
        for run in runs
    ]
    assert float(np.median(wider)) < 1.05
    assert min(wider) >= 1 - 1e-9


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_the_coins_keep_the_error_of_p_whatever_neighbours_share(rho: float) -> None:
    """The machine's noise is correlated, but the signs that the coins give to it are not."""
    rng = np.random.default_rng(2)
    runs = noise(rng, 600, 2, 50, rho) * rng.choice([-1.0, 1.0], (600, 2, 50))
    ps = np.array([hierarchy.probability(sample(run)) for run in runs])
    assert 0.03 <= np.mean(ps < 0.05) <= 0.05 + 1.64 * math.sqrt(0.05 * 0.95 / len(ps))


def test_what_processes_differ_by_does_not_hide_that_there_is_a_cost() -> None:
    """Five standard errors in each of two processes: certain here, and the mean over processes not.

    An interval without zero and a p above 5 % cannot be: the interval is never the narrower.
    """
    both = np.random.default_rng(1).standard_normal((2, 40))
    two = sample(np.array([[1.0], [5.0]]) + both)
    assert hierarchy.probability(two) < 1e-6
    assert hierarchy.combine(two).low < 0
    for run in experiments(200, 2, 30, 0.0, 2.0):
        e = hierarchy.combine(run)
        assert e.low <= 0 <= e.high or hierarchy.probability(run) < 0.05


def test_the_smallest_effect_seen_is_seen_in_four_of_five_runs() -> None:
    rng = np.random.default_rng(3)
    runs = noise(rng, 400, 1, 100, 0.0, uneven=0.0)
    effect = float(np.median([hierarchy.combine(sample(run)).mde for run in runs]))
    seen = np.mean([hierarchy.combine(sample(run + effect)).low > 0 for run in runs])
    assert 0.72 <= seen <= 0.9


def test_autocorrelation_is_found_in_spite_of_spikes() -> None:
    for rho in (0.0, 0.2, 0.4):
        found = [hierarchy.autocorrelation(each) for each in experiments(100, 4, 100, rho, 0.0)]
        assert 0.75 * rho - 0.02 <= float(np.mean(found)) <= rho + 0.02  # spikes hide some


def test_blocks_of_one_pair_are_a_plain_sample() -> None:
    one = sample(np.random.default_rng(1).normal(1, 0.1, (8, 1)))
    assert hierarchy.combine(one) == ranks.hodges_lehmann(one.differences)
    assert hierarchy.level(one) == ranks.hodges_lehmann(one.differences)
    assert math.isnan(hierarchy.autocorrelation(one))
    assert math.isnan(hierarchy.combine(sample(np.ones((5, 1)))).low)


def test_slices_that_resemble_each_other_widen_the_interval_of_a_level() -> None:
    found = experiments(200, 1, 100, 0.6, 0.0)
    assert share_covered([hierarchy.combine(each) for each in found]) < 0.88
    assert share_covered([hierarchy.level(each) for each in found]) >= 0.91


def test_blocks_that_disagree_widen_the_interval() -> None:
    near = np.random.default_rng(1).normal(0, 1, (4, 40))
    far = near + np.array([[-3.0], [-1.0], [1.0], [3.0]])
    assert hierarchy.combine(sample(far)).standard_error > 4 * (
        hierarchy.combine(sample(near)).standard_error
    )


def test_a_mean_over_trials_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    found = [hierarchy.mean_interval(rng.normal(5, 1, 3).tolist()) for _ in range(1000)]
    assert 0.935 <= share_covered(found, 5.0) <= 0.965
    alone = hierarchy.mean_interval([2.0])
    assert (alone.estimate, alone.n) == (2.0, 1)
    assert math.isnan(alone.low)
    assert hierarchy.mean_interval([]).n == 0


def test_many_averages_are_found_without_listing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).standard_t(3, 701)
    searched = ranks.hodges_lehmann(values)
    monkeypatch.setattr(ranks, "LISTED_UP_TO", 1000)
    listed = ranks.hodges_lehmann(values)
    assert (searched.estimate, searched.low, searched.high) == pytest.approx(
        (listed.estimate, listed.low, listed.high), abs=1e-12
    )


def test_signed_rank_probabilities_are_the_published_ones() -> None:
    """All of one sign: 2 / 2^n; the exact value for T = 8 and n = 10 is 0.0488."""
    assert ranks.signed_rank_p(np.arange(1.0, 7.0)) == pytest.approx(2 / 2**6)
    ten = np.array([1, 2, 3, 4, 5, 6, 7, -8, 9, 10.0])
    assert ranks.signed_rank_p(ten) == pytest.approx(0.048828125)
    assert math.isnan(ranks.signed_rank_p(np.ones(5)))
    assert ranks.signed_rank_p(np.zeros(9)) == 1.0


def test_holm_on_the_worked_example() -> None:
    found = multiple.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "none": math.nan})
    assert [found[k] for k in "abcd"] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert math.isnan(found["none"])
    assert multiple.holm({}) == {}


def latency(workload: str, metric: str, p: float) -> Comparison:
    return Comparison(workload, "http", metric, "us", 1.0, 0.1, 1.9, 9, 2.8, 100.0, "", p)


def test_latency_is_corrected_by_what_a_reader_chooses_among() -> None:
    """A service's main route is one question, its other routes another, another service a third."""
    what = Experiment("e", ("go", "java"), (Arm("baseline"), Arm("http", ("http",))))
    main = [latency("go", f"latency_{name}_us", p) for name, p in (("p50", 0.01), ("p99", 0.9))]
    routes = [latency("go", f"latency_p50_us[/{i}]", 0.5) for i in range(50)]
    rows = family.corrected(what, [*main, *routes, latency("java", "latency_p50_us", 0.03)])
    held = {(row.workload, row.metric): row for row in rows}
    assert held["go", "latency_p50_us"].p_holm == pytest.approx(0.02)
    assert held["java", "latency_p50_us"].p_holm == pytest.approx(0.03)
    assert held["go", "latency_p50_us[/3]"].p_holm == 1.0
    seen = compare.z_detect(2) / compare.Z_DETECT
    assert held["go", "latency_p50_us"].mde == pytest.approx(2.8 * seen)
    over_all = family.together(rows)
    assert over_all["go", "http", "latency_p50_us"] == pytest.approx(53 * 0.01)


def test_holm_keeps_the_error_of_all_arms_together() -> None:
    """Four arms, of which one has a large effect: a false alarm is one in the other three."""
    rng = np.random.default_rng(5)
    alarms = plain = 0
    for run in noise(rng, 400, 5, 61, 0.0, uneven=0.0):
        ps = {i: ranks.signed_rank_p(arm + (8.0 if i == 0 else 0.0)) for i, arm in enumerate(run)}
        alarms += any(multiple.holm(ps)[i] < 0.05 for i in (1, 2, 3, 4))
        plain += any(ps[i] < 0.05 for i in (1, 2, 3, 4))
    assert alarms / 400 <= 0.05 + 1.64 * math.sqrt(0.05 * 0.95 / 400)
    assert plain / 400 > 0.12


def stopped(
    least: int, target: float, tau: float, reps: int = 150, most: int = 12
) -> list[tuple[Estimate, int]]:
    """Runs of blocks of 30 quadruples that end once the interval is narrow enough."""
    rng = np.random.default_rng([2, least])
    own = tau * rng.standard_normal((reps, most, 1))
    found = []
    for run in noise(rng, reps, most, 30, 0.1, uneven=0.3) + own:
        for blocks in range(least, most + 1):
            value = hierarchy.combine(sample(run[:blocks]))
            if (value.high - value.low) / 2 <= target:
                break
        found.append((value, blocks))
    return found


@pytest.mark.parametrize("tau", [0.0, 0.8])
def test_ending_when_the_interval_is_narrow_keeps_its_coverage(tau: float) -> None:
    found = stopped(2, 2.2, tau)
    assert len({blocks for _, blocks in found}) > 4
    assert share_covered([value for value, _ in found]) >= 0.91  # of 150; 93 % or more


def row(arm: str, low: float, high: float, workload: str = "go", metric: str = "") -> Comparison:
    return Comparison(
        workload, arm, metric or sequential.METRIC, "%", 0.0, low, high, 100, 1.0, 100.0, "",
    )  # fmt: skip


def test_precision_is_that_of_the_widest_arm() -> None:
    rows = [row("a", -1, 1), row("b", 0, 5), row("c", -9, 9, "java"), row("a", -9, 9, "go", "x")]
    assert sequential.widest(rows, "go") == 2.5
    assert math.isnan(sequential.widest([*rows, row("d", math.nan, math.nan)], "go"))
    assert math.isnan(sequential.widest(rows, "flask"))
    assert sequential.widest(rows, "go", ["a", "b"]) == 2.5
    assert math.isnan(sequential.widest(rows, "go", ["a", "b", "c"]))


def first_steady(excess: float, seconds: float, noise_share: float, seed: int) -> int:
    """Pieces of 0.5 s until a process whose cost decays is called steady; 61 if never."""
    rng = np.random.default_rng(seed)
    times = np.arange(60) * 0.5 + 0.25
    cost = 1 + excess * np.exp(-times / seconds)
    cost *= 1 + noise_share * rng.standard_t(4, 60) / math.sqrt(2)
    return next((k for k in range(1, 61) if warm_up.steady(cost[:k].tolist())), 61)


def test_a_steady_process_is_soon_called_so() -> None:
    pieces = [first_steady(0.0, 1.0, 0.1, seed) for seed in range(100)]
    assert min(pieces) == warm_up.LEAST
    assert np.median(pieces) <= 12
    assert np.quantile(pieces, 0.9) <= 20


def test_a_process_that_warms_up_is_not_called_steady_before() -> None:
    pieces = np.array([first_steady(1.0, 3.0, 0.05, seed) for seed in range(100)])
    left = np.exp(-0.5 * pieces / 3.0)
    assert np.quantile(left, 0.9) < 0.06
    assert np.median(pieces) < 40


def test_a_constant_is_steady_and_a_gap_in_the_figures_is_not() -> None:
    assert warm_up.steady([5.0] * 8)
    assert not warm_up.steady([5.0] * 7)
    assert not warm_up.steady([5.0] * 8 + [math.nan])
    assert not warm_up.steady([9.0, 9.0, 9.0, 9.0, 5.0, 5.0, 5.0, 5.0])
