"""Intervals at another level than 95 %, and runs that are looked at again."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis import budgets, coverage, gates, levels, looks, value
from harness.analysis.coverage import Count
from harness.errors import InputError
from harness.model import Comparison
from harness.report import remarks
from harness.report.gate import Gate
from tests.unit.gated import measured, row


def of_count(seen: int, made: int, signal: str = "requests") -> Comparison:
    count = Count(seen, made)
    found, method = coverage.share(count, signal), coverage.method(count, signal)
    metric = f"coverage_percent[{signal}]"
    return dataclasses.replace(
        row(found.low, found.high, metric, estimate=found.estimate, n=found.n), method=method
    )


def test_counts_are_exact_at_every_level() -> None:
    found = levels.at(of_count(97, 100), 0.90)
    exact = stats.binomtest(97, 100).proportion_ci(0.90, method="exact")
    assert (found.low, found.high) == pytest.approx((100 * exact.low, 100 * exact.high))


def test_means_over_trials_keep_their_degrees_of_freedom() -> None:
    values = [1.0, 2.0, 4.0]
    mean = value.mean(values)
    found = levels.at(row(mean.low, mean.high, estimate=mean.estimate, method=value.MEAN, n=3), 0.9)
    reach = stats.t.ppf(0.95, 2) * np.std(values, ddof=1) / math.sqrt(3)
    assert found.high == pytest.approx(mean.estimate + reach)


def test_other_intervals_are_scaled_side_by_side() -> None:
    found = levels.at(row(-1, 3, estimate=0), 0.90)
    assert (found.low, found.high) == pytest.approx((-0.8392, 3 * 0.8392), abs=1e-3)


def test_a_range_has_no_level() -> None:
    few = row(1, 3, method="mean and range over trials")
    assert levels.at(few, 0.9) == few


@pytest.mark.parametrize(("level", "outcome"), [(0.95, "inconclusive"), (0.90, "pass")])
def test_a_budget_is_judged_at_its_own_level(level: float, outcome: str) -> None:
    table = {"metric": "workload_cpu_percent", "max": 1.9, "level": level}
    (verdict,) = gates.judge(measured(row(0, 2)), budgets.from_dict({"budget": [table]}))
    assert verdict.outcome == outcome
    assert f"{100 * level:g} % interval" in verdict.sentence
    said = " ".join(remarks.of(Gate(measured(), [verdict], "budget.toml")))
    assert f"at most {50 * (1 - level):g} %" in said


@pytest.mark.parametrize("level", [0.5, 0.99, 1, "0.9", True, math.nan])
def test_a_level_that_no_interval_here_bears_is_refused(level: object) -> None:
    table = {"metric": "workload_cpu_percent", "max": 2, "level": level}
    with pytest.raises(InputError, match="level"):
        budgets.from_dict({"budget": [table]})


@pytest.mark.parametrize(("seen", "least", "outcome"), [
    (71, 95, "inconclusive"), (72, 95, "pass"), (367, 99, "inconclusive"), (368, 99, "pass"),
])  # fmt: skip
def test_so_many_probes_meet_a_budget(seen: int, least: float, outcome: str) -> None:
    rows = of_count(seen, seen, "executions")
    table = {"metric": "coverage_percent[executions]", "min": least}
    (verdict,) = gates.judge(measured(rows), budgets.from_dict({"budget": [table]}))
    assert verdict.outcome == outcome


def test_runs_are_pooled_by_their_variances() -> None:
    one, other = row(0, 2), row(1, 5)  # standard errors 1 and 2 (times 0.51): weights 4 to 1
    found = looks.pooled([one, other])
    assert found.estimate == pytest.approx((4 * 1 + 3) / 5)
    assert found.n == one.n + other.n
    # they differ by 2 with a standard error of 1.14: Q = 3.07, which widens by its root
    assert (found.high - found.low) / 2 == pytest.approx(math.sqrt(3.07 / 5 * 4), rel=0.01)


def test_runs_that_agree_are_as_narrow_as_their_sum() -> None:
    found = looks.pooled([row(0, 2), row(0, 2), row(0, 2), row(0, 2)])
    assert (found.low, found.high) == pytest.approx((0.5, 1.5), abs=1e-3)


def test_counts_of_several_runs_are_added() -> None:
    found = looks.pooled([of_count(95, 100), of_count(100, 100)])
    expected = coverage.share(Count(195, 200), "requests")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_what_has_no_interval_in_one_run_has_none_when_pooled() -> None:
    assert math.isnan(looks.pooled([row(math.nan, math.nan, estimate=1), row(0, 2)]).low)


def test_another_look_costs_some_of_the_probability_of_an_error() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 1.9}]})
    first, second = measured(row(0, 2), name="first"), measured(row(0, 2), name="second")
    (alone,) = gates.judge(second, allowed)
    (both,) = gates.judge(second, allowed, None, [first])
    assert (alone.outcome, both.outcome) == ("inconclusive", "pass")
    assert both.budget.level == 0.975
    assert "97.5 % interval" in both.sentence
    assert both.row is not None
    narrow = 2.241 / 1.96 / math.sqrt(2)
    assert both.row.high == pytest.approx(1 + narrow, abs=1e-3)
    said = remarks.of(Gate(second, [both], "budget.toml", earlier=[first]))
    assert any("look 2 at the same question" in text and "1.5 times" in text for text in said)


def test_a_run_is_not_pooled_with_itself() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 1.9}]})
    with pytest.raises(InputError, match="was given twice"):
        gates.judge(measured(row(0, 2)), allowed, None, [measured(row(0, 2))])


def test_looks_hold_what_they_promise() -> None:
    """At the limit, looked at until it passes: at most 2.5 % x (1 + 1/2 + 1/3) pass."""
    random = np.random.default_rng(5)
    noise = np.cumsum(random.normal(size=(20_000, 3)), axis=1) / np.sqrt([1, 2, 3])
    bounds = [-stats.norm.ppf((1 + looks.level(0.95, k)) / 2) for k in (1, 2, 3)]
    passed = float((noise < bounds).any(axis=1).mean())
    assert 0.025 < passed < 0.025 * looks.spent(3)
