"""What forbids to judge: a negative control that failed, and what was never measured."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from harness.analysis import budgets, events, gates
from harness.analysis.bill import Found
from harness.analysis.compare import Estimate
from harness.analysis.verdicts import Verdict
from harness.model import Comparison
from harness.report import gate as texts
from harness.report.gate import Gate
from tests.unit.gated import gate, measured, one, row

CONTROLS = {"baseline": "baseline", "http": "baseline"}


def judged(
    control: Comparison, *rows: Comparison, metric: str = "workload_cpu_percent", **limits: float
) -> list[Verdict]:
    run = measured(*rows, control, controls=CONTROLS)
    return gates.judge(run, budgets.from_dict({"budget": [{"metric": metric, **limits}]}))


def null(low: float, high: float, metric: str = "workload_cpu_percent") -> Comparison:
    return row(low, high, metric, arm="baseline")


@pytest.mark.parametrize("cost", [(0.1, 0.2), (5, 6), (0.5, 3)])
@pytest.mark.parametrize("metric", ["workload_cpu_percent", "latency_p99_us"])
def test_a_difference_where_nothing_was_installed_leaves_every_verdict_open(
    cost: tuple[float, float], metric: str
) -> None:
    (verdict,) = judged(null(0.5, 1.0, metric), row(*cost, metric), metric=metric, max=2)
    assert verdict.outcome == "inconclusive"
    assert "With nothing installed (baseline)" in verdict.sentence
    assert gate(verdict, inconclusive="pass").exit_code == 3


@pytest.mark.parametrize("control", [(-0.5, 0.5), (0.01, 1.0)])
def test_a_control_that_excludes_zero_now_and_then_is_allowed_for(
    control: tuple[float, float],
) -> None:
    (verdict,) = judged(null(*control), row(0.1, 0.2), max=2)
    assert verdict.outcome == "pass"


def test_its_probability_decides_where_it_is_known() -> None:
    for p, outcome in ((0.02, "pass"), (0.005, "inconclusive")):
        control = dataclasses.replace(null(0.5, 1.0), p=p)
        assert [v.outcome for v in judged(control, row(0.1, 0.2), max=2)] == [outcome]


def test_a_control_beyond_the_limit_leaves_it_open() -> None:
    control = dataclasses.replace(null(0.1, 0.9), p=0.04)
    (verdict,) = judged(control, row(-0.2, 0.02), max=0.05)
    assert verdict.outcome == "inconclusive"
    assert "cannot see so little" in verdict.sentence


@pytest.mark.parametrize("metric", ["bpf_us", "agent_memory_mb", "coverage_percent[requests]"])
def test_what_windows_have_no_part_in_is_judged_all_the_same(metric: str) -> None:
    (verdict,) = judged(null(0.5, 1.0, metric), row(0.1, 0.2, metric), metric=metric, max=2)
    assert verdict.outcome == "pass"


def test_the_control_itself_can_be_judged() -> None:
    run = measured(null(0.5, 1.0), row(0, 1), controls=CONTROLS)
    table = {"metric": "workload_cpu_percent", "max": 2, "arm": "baseline"}
    (verdict,) = gates.judge(run, budgets.from_dict({"budget": [table]}))
    assert verdict.outcome == "pass"


@pytest.mark.parametrize(("rule", "code"), [(None, 3), ("pass", 3), ("fail", 1)])
def test_what_was_not_measured_is_never_a_pass(rule: Any, code: int) -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "bpf_us", "max": 1}]})
    (missing,) = gates.judge(measured(), allowed)
    assert gate(missing, inconclusive=rule).exit_code == code
    assert gate(one(0, 1, max=2), missing, inconclusive=rule).exit_code == code
    if rule == "pass":
        assert "which --inconclusive pass does not pass" in texts.headline(
            gate(missing, inconclusive=rule)
        )


def test_a_pass_of_a_part_of_the_cost_says_so() -> None:
    whole, part = one(0, 1, max=2), one(0, 1, "bpf_us", max=2)
    assert "metered" not in whole.sentence
    assert "of the part that was metered: entry to the programs" in part.sentence
    assert texts.headline(gate(whole, part)).endswith(
        "within budget, 1 of them of the part of the cost that was metered."
    )
    assert "caches, scheduling" in texts.markdown(gate(part))
    assert "metered" not in one(3, 4, "bpf_us", max=2).sentence


def test_a_bill_with_calibrated_entry_does_not_say_that_entry_is_missing() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "bill_us", "max": 2}]})
    for method, missing in (("sum of bpf_us and agent_us", True),
                            ("sum of bpf_us, entry_us and agent_us", False)):  # fmt: skip
        (verdict,) = gates.judge(measured(row(0, 1, "bill_us", method=method)), allowed)
        assert ("entry to the programs" in verdict.sentence) == missing


@pytest.mark.parametrize("entry", [None, Found(Estimate(0.5, 0.4, 0.6, 2), "")])
def test_a_pass_of_what_an_event_costs_says_what_is_not_in_it(entry: Found | None) -> None:
    known = {name: Found(Estimate(2.0, 1.9, 2.1, 2), "") for name in ("bpf_us", "bill_us")}
    counted = {"events_per_request": Found(Estimate(1.0, 0.99, 1.01, 2), "")}
    told = dict(events.costs({**known, "entry_us": entry}, counted))
    assert set(told) == {"bpf_event_us", "bill_event_us"}
    for metric, found in told.items():
        allowed = budgets.from_dict({"budget": [{"metric": metric, "max": 9}]})
        made = measured(row(1, 3, metric, method=found.method))
        (verdict,) = gates.judge(made, allowed)
        assert "of the part that was metered" in verdict.sentence
        assert ("entry to the programs" in verdict.sentence) == (entry is None)


def test_a_harm_is_a_check_of_its_own() -> None:
    run = measured(row(0, 1), harms={("go", "http"): (("go, http: it broke.", True),)})
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 2}]})
    found = gates.judge(run, allowed)
    assert [v.outcome for v in found] == ["fail", "pass"]
    whole = Gate(run, found, "budget.toml", inconclusive="pass")
    assert whole.exit_code == 1
    assert texts.headline(whole) == "FAIL: 1 of 2 checks is beyond budget."
    assert texts.document(whole)["verdicts"][0]["metric"] == "harm"
    assert "go, http: it broke." in texts.markdown(whole)


def test_rows_without_an_interval_may_be_passed_by_the_user() -> None:
    found = one(math.nan, math.nan, max=2)
    assert gate(found, inconclusive="pass").exit_code == 0
