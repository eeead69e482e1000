"""Which trials are due when a run goes on, and when a workload's blocks end early."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis import sequential
from harness.controller import evaluate
from harness.controller.due import is_done, left, pending, replacement, set_failed_aside
from harness.controller.stopping import StoppingRule
from harness.model import Arm, Measurement, Trial
from harness.plan.experiment import Experiment, plan
from harness.results.run import Run, TrialRecord
from tests.unit import synthetic

EXPERIMENT = Experiment(
    "e", ("go", "java"), (Arm("baseline"), Arm("http", ("http",))), blocks=4, metered_seconds=0
)


def _run(tmp_path: Path, e: Experiment = EXPERIMENT) -> Run:
    return Run.create(tmp_path / "r", e, ended_early={})


def _finish(run: Run, trials: Iterable[Trial]) -> None:
    for trial in trials:
        run.append(TrialRecord(trial, "skipped"))


def _spoilt(trial: Trial) -> TrialRecord:
    values = {"requests_total": 100.0, "errors_total": 50.0}
    return TrialRecord(
        trial, "ok",
        values=tuple(
            Measurement(name, value, "1", trial.workload, trial.arm, trial.block, trial.name)
            for name, value in values.items()
        ),
    )  # fmt: skip


def test_everything_is_due_at_first(tmp_path: Path) -> None:
    assert pending(_run(tmp_path)) == plan(EXPERIMENT)


def test_what_was_finished_is_not_due_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    run, trials = _run(tmp_path), plan(EXPERIMENT)
    _finish(run, trials[:3])
    run.append(TrialRecord(trials[3], "failed"))
    assert pending(run) == trials[3:]
    set_failed_aside(run)
    assert pending(run) == trials[3:]
    assert (run.path / "trials" / f"{trials[3].name}.failed").is_dir()


def test_spoilt_trial_is_replaced_as_often_as_allowed(tmp_path: Path) -> None:
    run, trials = _run(tmp_path), plan(EXPERIMENT)
    run.append(_spoilt(trials[0]))
    again = pending(run)[0]
    assert (again.index, again.attempt) == (trials[0].index, 1)
    assert again.name.endswith("-again1")
    run.append(_spoilt(again))
    assert pending(run) == trials[1:]
    assert [r.trial.attempt for r in run.records()] == [0, 1]


def test_replacement_looks_at_conditions_only() -> None:
    trial = plan(EXPERIMENT)[0]
    assert replacement(EXPERIMENT, TrialRecord(trial, "failed"), []) is None
    assert replacement(EXPERIMENT, TrialRecord(trial, "skipped"), []) is None
    assert replacement(EXPERIMENT, _spoilt(trial), []) is not None


def test_an_attempt_without_a_culprit_is_no_replacement() -> None:
    """A collector ended the first; the second broke a rule and may still be run again."""
    second = replace(plan(EXPERIMENT)[0], attempt=1)
    assert replacement(EXPERIMENT, _spoilt(second), []) is None
    third = replacement(EXPERIMENT, _spoilt(second), [], spent=1)
    assert third is not None
    assert third.attempt == 2


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _budgeted(tmp_path: Path, seconds: float) -> tuple[Run, StoppingRule, _Clock]:
    changed = Experiment("e", ("go", "java"), EXPERIMENT.arms, blocks=4, budget_seconds=seconds)
    run, clock = _run(tmp_path, changed), _Clock()
    return run, StoppingRule(run, clock), clock


def test_each_service_has_its_share_of_the_time(tmp_path: Path) -> None:
    run, end, clock = _budgeted(tmp_path, 100)
    clock.now += 49
    assert not end.reached("go", 1)
    clock.now += 2
    assert end.reached("go", 2)
    assert not end.reached("java", 0)
    clock.now += 50
    assert end.reached("java", 1)
    early = run.about().ended_early
    assert {name: each["blocks"] for name, each in early.items()} == {"go": 2, "java": 1}
    assert "time budget" in early["go"]["reason"]


def test_time_spent_before_an_interruption_counts(tmp_path: Path) -> None:
    run, end, clock = _budgeted(tmp_path, 100)
    clock.now += 80
    end.after("go", 0)
    later = StoppingRule(run, clock)
    assert later.reached("go", 1)
    assert not later.reached("java", 0)


def test_block_that_was_left_out_stays_left_out_on_resume(tmp_path: Path) -> None:
    _, end, clock = _budgeted(tmp_path, 100)
    clock.now += 60
    assert end.reached("go", 2)
    clock.now -= 60
    assert end.reached("go", 3)
    assert not end.reached("go", 1)  # a trial of it may have failed


@pytest.mark.parametrize(
    ("block", "half_width", "ends"),
    [(0, 0.1, False), (1, 0.1, True), (1, 0.5, True), (1, 0.51, False), (1, float("nan"), False),
     (3, 0.1, False)],
)  # fmt: skip
def test_blocks_end_once_every_interval_is_narrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, half_width: float, ends: bool
) -> None:
    e = Experiment("e", ("go",), EXPERIMENT.arms, blocks=4, min_blocks=2, precision_percent=0.5)
    run = _run(tmp_path, e)
    monkeypatch.setattr(sequential, "precision", lambda *_: half_width)
    _finish(run, (trial for trial in plan(e) if trial.block <= block))
    end = StoppingRule(run)
    end.after("go", 0)
    assert ("go" in run.about().ended_early) == ends
    assert end.reached("go", block + 1) == ends


def test_early_block_that_is_run_again_does_not_move_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = Experiment("e", ("go",), EXPERIMENT.arms, blocks=6, min_blocks=1, precision_percent=0.5)
    run = _run(tmp_path, e)
    _finish(run, (trial for trial in plan(e) if trial.block <= 2))
    monkeypatch.setattr(sequential, "precision", lambda *_: 0.1)
    StoppingRule(run).after("go", 0)  # which was run again: three have been run
    assert run.about().ended_early["go"]["blocks"] == 3
    before = run.about().ended_early
    _finish(run, (trial for trial in plan(e) if trial.block == 3))
    StoppingRule(run).after("go", 0)
    assert run.about().ended_early == before


PRECISE = synthetic.experiment(
    workloads=("go",), arms=(Arm("baseline"), Arm("http", ("http",))),
    switched_seconds=3.0, metered_seconds=0,
)  # fmt: skip


def test_precision_waits_for_an_arm_that_failed_but_not_for_one_that_was_skipped(
    tmp_path: Path,
) -> None:
    whole = synthetic.write(tmp_path / "whole", PRECISE)
    assert 0 < sequential.precision(whole, "go") < 100
    assert math.isnan(sequential.precision(whole, "java"))
    baseline = [trial.index for trial in plan(PRECISE) if trial.arm == "baseline"]
    part = synthetic.write(tmp_path / "part", PRECISE, only=baseline)
    assert math.isnan(sequential.precision(part, "go"))
    part.note(skipped_arms=[{"arm": "http", "reason": "no BTF"}])
    assert 0 < sequential.precision(part, "go") < 100


def test_warnings_of_the_session_before_are_kept(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for told in (["one", "two"], ["two", "three"]):
        outcome = evaluate.Outcome(run)
        for sentence in told:
            outcome.warn(sentence)
            assert sentence in run.about().warnings  # at once: what comes later may be lost
    assert run.about().warnings == ("one", "two", "three")


def test_what_a_stopping_rule_left_out_is_not_left_to_measure(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.note(ended_early={"go": {"blocks": 2, "reason": "Narrow enough."}})
    assert {t.block for t in left(run) if t.workload == "go"} == {0, 1}
    assert {t.block for t in left(run) if t.workload == "java"} == {0, 1, 2, 3}
    _finish(run, left(run))
    assert left(run) == []
    assert not is_done(run)  # it was interrupted after its last trial, and never ended
    run.note(complete=True)
    assert is_done(run)
