"""What happens to a service only with the collectors on is a failure, whatever trials are valid."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis import budgets, gates, harms, tallies
from harness.analysis.summary import Summary, summarize
from harness.cli import app
from harness.controller.block import record_of
from harness.model import Arm, Method, Trial
from harness.plan.experiment import Experiment
from harness.report import build, headline, stored
from harness.report.gate import Gate
from harness.results import requests
from harness.results.run import Run
from harness.wire.spec import TrialResult
from tests.unit import synthetic

ARMS = (Arm("baseline"), Arm("http", ("http",)))


def experiment(method: Method = "switch", **changes: Any) -> Experiment:
    arms = (ARMS[0], dataclasses.replace(ARMS[1], method=method))
    return synthetic.experiment(
        workloads=("go",),
        arms=arms,
        switched_seconds=changes.pop("switched_seconds", 4.0),
        **changes,
    )


def break_requests(run: Run, arm: str, share_on: float, share_off: float) -> None:
    """Fail so many of an arm's requests while it is on and off; the trial's values say so."""
    random = np.random.default_rng(3)
    for record in run.records():
        if record.trial.arm != arm or record.trial.kind != "switched":
            continue
        rows = run.windows(record.trial)
        path = run.path / "trials" / record.trial.name / requests.NAME
        found = dict(np.load(path))
        on = np.zeros(len(found["due_ns"]), bool)
        for row in rows:
            inside = (found["due_ns"] >= row.window.start_ns) & (
                found["due_ns"] <= row.window.end_ns
            )
            on |= inside & row.window.on
        failed = random.random(len(on)) < np.where(on, share_on, share_off)
        found["failed"] = failed
        found["status"] = np.where(failed, 500, 200).astype(np.int16)
        np.savez(path, **found)
        told = {"errors_total": float(failed.sum()), "requests_total": float(len(failed))}
        values = tuple(
            dataclasses.replace(v, value=told.get(v.metric, v.value)) for v in record.values
        )
        run.append(dataclasses.replace(record, values=values), rows)


def broken(path: Path, on: float, off: float, method: Method = "switch") -> Summary:
    seconds = 12.0 if method == "block" else 4.0  # parts are told by the second
    run = synthetic.write(path / "run", experiment(method, switched_seconds=seconds))
    break_requests(run, "http", on, off)
    return summarize(run)


@pytest.mark.parametrize("method", ["switch", "twin", "block"])
def test_requests_that_fail_only_with_the_collector_on_are_a_harm(
    method: Method, tmp_path: Path
) -> None:
    summary = broken(tmp_path, 0.05, 0.0, method)
    assert {j.status for j in summary.trials if switched(j.record.trial)} == {"invalid"}
    (harm,) = summary.harms
    assert (harm.workload, harm.arm, harm.kind) == ("go", "http", "errors")
    assert 0.03 < harm.on < 0.07
    assert harm.off == 0
    assert harm.sentence in summary.warnings
    assert headline.verdict(summary).startswith("go, http: ")


def switched(trial: Trial) -> bool:
    return (trial.arm, trial.kind) == ("http", "switched")


@pytest.mark.parametrize("method", ["switch", "twin", "block"])
def test_requests_that_fail_on_and_off_alike_are_none(method: Method, tmp_path: Path) -> None:
    assert broken(tmp_path, 0.05, 0.05, method).harms == ()


def test_a_burst_of_failures_is_none(tmp_path: Path) -> None:
    """Two hundred failures within half a second hit both states, whatever their number."""
    run = synthetic.write(tmp_path / "run", experiment())
    for record in run.records():
        if switched(record.trial):
            path = run.path / "trials" / record.trial.name / requests.NAME
            found = dict(np.load(path))
            found["failed"] = np.arange(len(found["due_ns"])) // 200 == 4
            np.savez(path, **found)
    assert summarize(run).harms == ()


def test_a_budget_on_errors_fails_by_trials_that_are_invalid(tmp_path: Path) -> None:
    summary = broken(tmp_path, 0.05, 0.0)
    allowed = budgets.from_dict({"budget": [{"metric": "error_percent", "max": 0.5}]})
    found = gates.judge(stored.of_summary(summary), allowed)
    assert [(v.metric, v.outcome) for v in found] == [("harm", "fail"), ("error_percent", "fail")]


@pytest.mark.parametrize("rule", [None, "pass", "fail"])
@pytest.mark.parametrize("document", [False, True])
def test_no_option_passes_a_collector_that_breaks_the_service(
    rule: str | None, document: bool, tmp_path: Path
) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    break_requests(run, "http", 0.01, 0.0)
    build.build(run)
    (tmp_path / "budget.toml").write_text('[[budget]]\nmetric = "workload_cpu_percent"\nmax = 9\n')
    where = run.path / "report.json" if document else run.path
    options = ["--inconclusive", rule] if rule else []
    done = CliRunner().invoke(
        app, ["gate", str(where), "--budget", str(tmp_path / "budget.toml"), *options]
    )
    assert done.exit_code == 1, done.output
    assert "requests failed with the collectors on" in done.stdout


def test_a_rate_that_is_missed_only_with_the_collector_on_is_a_harm(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    for record in run.records():
        if switched(record.trial):
            path = run.path / "trials" / record.trial.name / requests.NAME
            found = dict(np.load(path))
            for row in run.windows(record.trial):
                if row.window.on:  # every fifth answer of these comes much later
                    inside = np.flatnonzero(
                        (found["due_ns"] >= row.window.start_ns)
                        & (found["due_ns"] <= row.window.end_ns)
                    )
                    found["end_ns"][inside[::5]] += 10**12
            np.savez(path, **found)
    (harm,) = summarize(run).harms
    assert harm.kind == "rate"
    assert harm.on < 0.9 < harm.off


def died(run: Run, arm: str, blocks: tuple[int, ...]) -> None:
    for record in run.records():
        trial = record.trial
        if trial.arm == arm and trial.kind == "switched" and trial.block in blocks:
            extra = {**record.extra, harms.DIED: "The workload 'go' ended with exit code 139."}
            changed = dataclasses.replace(
                record, status="failed", reason="no answer", values=(), extra=extra
            )
            run.append(changed)


def test_a_service_that_dies_only_in_the_trials_of_an_arm_fails_the_gate(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    died(run, "http", (0, 1))
    summary = summarize(run)
    (harm,) = summary.harms
    assert harm.kind == "death"
    assert "died in 2 of 4 trials of this arm, in none of 2" in harm.sentence
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 5}]})
    found = gates.judge(stored.of_summary(summary), allowed)
    assert [v.outcome for v in found] == ["fail", "inconclusive"]


@pytest.mark.parametrize("rule", [None, "pass"])
def test_a_single_death_may_be_chance_but_nothing_passes_beside_it(
    rule: Any, tmp_path: Path
) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    died(run, "http", (0,))
    found = stored.of_summary(summarize(run))
    allowed = budgets.from_dict({"budget": [{"metric": "agent_memory_mb", "max": 500}]})
    verdicts = gates.judge(found, allowed)
    assert verdicts[0].outcome == "inconclusive"
    assert "Once may be chance" in verdicts[0].sentence
    assert Gate(found, verdicts, "budget.toml", inconclusive=rule).exit_code == 3


def test_a_death_is_known_after_the_trial_was_measured_again(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    records = {r.trial.name: r for r in run.records()}
    died(run, "http", (0,))
    (dead,) = [r.trial for r in run.records() if r.status == "failed"]
    run.set_aside(dead)
    assert dead.name not in {r.trial.name for r in run.records()}
    assert dead.name in records
    assert [harm.kind for harm in summarize(run).harms] == ["death"]


def test_a_service_that_dies_without_collectors_too_accuses_nobody(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    died(run, "http", (0, 1))
    died(run, "baseline", (0,))
    assert summarize(run).harms == ()


def test_failures_that_come_together_count_as_fewer() -> None:
    due = np.full((40, 2), 100.0)
    spread, bunched = np.ones((40, 2)), np.zeros((40, 2))
    bunched[:1] = 40.0
    found = [
        tallies.failed(tallies.Tally(due, failed, due - failed, due, True))
        for failed in (spread, bunched)
    ]
    assert [each.estimate for each in found] == pytest.approx([1.0, 1.0])
    assert found[0].n == 4000
    assert found[1].n < 200
    assert found[1].high > 3 * found[0].high


def test_of_nothing_that_failed_the_bound_is_that_of_all_requests(tmp_path: Path) -> None:
    row = summarize(synthetic.write(tmp_path / "run", experiment())).row(
        "go", "http", "error_percent"
    )
    assert row is not None
    assert (row.estimate, row.low) == (0, 0)
    assert row.high == pytest.approx(369 / row.n, rel=0.01)


def test_the_controller_keeps_that_the_service_died() -> None:
    trial = Trial(0, "go", 0, "http", "switched", 1)
    told = {"what": "no answer", "why": "", "next_step": ""}
    dead = TrialResult("failed", error=told, over="block", service="The workload ended.")
    assert record_of(trial, dead, told).extra[harms.DIED] == "The workload ended."
    alive = TrialResult("failed", error=told)
    assert harms.DIED not in record_of(trial, alive, told).extra


def test_cycles_without_a_window_of_each_state_accuse_nobody() -> None:
    """Of six collectors a cycle may have windows with none of them on, and none with all."""
    both, only_off = np.full((12, 2), 50.0), np.tile([50.0, 0.0], (40, 1))
    due = np.vstack([both, only_off])
    answered = 0.9 * due + np.vstack([np.tile([[1.0, -1.0], [-1.0, 1.0]], (6, 1)), 0 * only_off])
    tally = tallies.Tally(due, 0 * due, answered, due, paired=True)
    assert list(harms._rate("go", ARMS[1], tally)) == []
    slower = dataclasses.replace(tally, answered=due * [0.95, 0.5])
    (harm,) = harms._rate("go", ARMS[1], slower)
    assert harm.p == pytest.approx(0.5**12)
