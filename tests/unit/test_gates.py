"""Which rows of a run a budget names, what a share is of, and whether what ships can be judged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.analysis import budgets, gates, ranks
from harness.cli import app, choice
from harness.errors import InputError
from harness.model import Arm
from harness.plan import experiment, trials
from harness.plan.definitions import resolve_all
from harness.report import gate as texts
from harness.report import stored
from tests.unit import synthetic
from tests.unit.gated import ROOT, measured, row

ROWS = (
    row(99, 100, "coverage_percent[requests]"), row(0, 1, "workload_cpu_us"),
    row(0, 1, "latency_p50_us[/slow]"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "nearest"),
    [
        ("coverage_percent[reqests]", "coverage_percent[requests]"),
        ("latency_p99_us[/slwo]", "latency_p99_us[/slow]"),
    ],
)
def test_a_signal_or_route_that_no_row_has_is_an_error(metric: str, nearest: str) -> None:
    allowed = budgets.from_dict({"budget": [{"metric": metric, "max": 1}]})
    with pytest.raises(InputError) as caught:
        gates.judge(measured(*ROWS), allowed)
    assert f"{metric!r}, but no row of the run has" in caught.value.what
    assert caught.value.next_step == f"The nearest is {nearest}."


def test_a_signal_that_was_not_measured_is_no_error() -> None:
    for metric in ("coverage_percent[reqests]", "latency_p99_us[/slow]"):
        allowed = budgets.from_dict({"budget": [{"metric": metric, "max": 1}]})
        rows = ROWS if "slow" in metric else ROWS[:1]  # too few requests; no usable trial
        (verdict,) = gates.judge(measured(*rows), allowed)
        assert verdict.outcome == "inconclusive"


def test_default_is_every_arm_with_collectors_in_every_workload() -> None:
    rows = [row(0, 1, arm=a, workload=w) for a in ("http", "all", "baseline") for w in ("go", "x")]
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 2}]})
    run = measured(*rows, arms=("http", "all"), workloads=("go", "x"))
    found = {(v.workload, v.arm) for v in gates.judge(run, allowed)}
    assert found == {(w, a) for a in ("http", "all") for w in ("go", "x")}


def test_a_budget_can_name_arms_and_workloads_and_the_baseline() -> None:
    rows = [row(0, 1, arm=a) for a in ("http", "all", "baseline")]
    table = {"metric": "workload_cpu_percent", "max": 2, "arm": ["all", "baseline"]}
    run = measured(*rows, arms=("http", "all"))
    allowed = budgets.from_dict({"budget": [{**table, "workload": "go"}]})
    assert [v.arm for v in gates.judge(run, allowed)] == ["all", "baseline"]


@pytest.mark.parametrize(("key", "known"), [("arm", "http, baseline"), ("workload", "go")])
def test_a_name_that_the_run_does_not_have_is_an_error(key: str, known: str) -> None:
    table = {"metric": "workload_cpu_percent", "max": 2, key: "typo"}
    with pytest.raises(InputError) as caught:
        gates.judge(measured(row(0, 1)), budgets.from_dict({"budget": [table]}))
    assert caught.value.what == f"Budget 1 names the {key} 'typo', which the run does not have."
    assert known in caught.value.next_step


def test_a_run_without_collectors_has_nothing_to_judge() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 2}]})
    with pytest.raises(InputError, match="has none to judge"):
        gates.judge(measured(row(0, 1, arm="baseline"), arms=()), allowed)


def test_an_arm_of_equal_twins_is_judged_only_by_name(tmp_path: Path) -> None:
    twins = Arm("equal-twins", method="twin")
    what = synthetic.experiment(workloads=("go",), switched_seconds=2.4, blocks=1)
    run = synthetic.write(tmp_path / "run", dataclasses.replace(what, arms=(*what.arms, twins)))
    assert CliRunner().invoke(app, ["report", str(run.path)]).exit_code == 0
    table = {"metric": "rate_per_s", "min": 0}
    for found in (stored.measured(run.path), stored.measured(run.path / "report.json")):
        assert "equal-twins" not in found.arms
        verdicts = gates.judge(found, budgets.from_dict({"budget": [table]}))
        assert {v.arm for v in verdicts} == {arm.name for arm in what.arms if arm.collectors}
        named = budgets.from_dict({"budget": [{**table, "arm": "equal-twins"}]})
        assert [v.arm for v in gates.judge(found, named)] == ["equal-twins"]


def test_coverage_without_a_signal_means_every_signal() -> None:
    rows = [row(99, 100, f"coverage_percent[{signal}]") for signal in ("requests", "samples")]
    allowed = budgets.from_dict({"budget": [{"metric": "coverage_percent", "min": 95}]})
    found = [v.metric for v in gates.judge(measured(*rows), allowed)]
    assert found == ["coverage_percent[requests]", "coverage_percent[samples]"]


@pytest.mark.parametrize(("low", "high", "outcome"), [(0.1, 1.9, "pass"), (2.1, 3, "fail")])
def test_a_share_is_of_the_services_cpu_per_request(low: float, high: float, outcome: str) -> None:
    level = dataclasses.replace(row(-5, 5, "workload_cpu_us"), level=200.0)
    allowed = budgets.from_dict({"budget": [{"metric": "bpf_difference_us", "max_percent": 1}]})
    found = dataclasses.replace(row(low, high, "bpf_difference_us"), unit="us/request")
    (verdict,) = gates.judge(measured(level, found), allowed)
    assert verdict.outcome == outcome
    assert texts.cells(verdict)[-1] == "≤ 1 % = 2.0 µs"
    (verdict,) = gates.judge(measured(found), allowed)
    assert verdict.outcome == "inconclusive"
    assert "was not measured" in verdict.sentence


def test_a_share_of_latency_is_of_its_own_level() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "latency_p50_us", "max_percent": 2}]})
    found = dataclasses.replace(row(1, 5, "latency_p50_us"), unit="us", level=300.0)
    (verdict,) = gates.judge(measured(found), allowed)
    assert (verdict.outcome, verdict.budget.most) == ("pass", 6.0)


SHIPPED = sorted([*experiment.SHIPPED.glob("*.toml"), ROOT / "ci/regression.toml"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_two_versions_give_a_trial_of_every_shipped_experiment_an_interval(path: Path) -> None:
    """bpf_difference_us needs six quadruples of slices, or the gate can decide nothing."""
    what = dataclasses.replace(
        experiment.load(path), arms=choice.parse_arms(["old=http", "new=http"])
    )
    known = resolve_all(what)
    for planned in experiment.plan(what):
        if planned.kind == "metered":
            states = [window.on for window in trials.trial(what, planned, known).windows]
            assert len(states) // 4 >= ranks.LEAST
            assert sum(states) * 2 == len(states)
