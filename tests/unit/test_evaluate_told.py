"""How `harness evaluate` ends: its exit code and what it advises, from a run that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app, evaluation
from harness.cli.options import Options
from harness.cli.screen import ERROR, INCONCLUSIVE
from harness.controller.evaluate import Outcome
from harness.errors import ComponentError, HarnessError, InputError
from harness.model import Arm
from harness.plan import experiment as experiments
from harness.results.run import Run, TrialRecord
from tests.unit import synthetic

E = synthetic.experiment(
    workloads=("go",), arms=(Arm("baseline"), Arm("http", ("http",))), switched_seconds=1.2
)
JSON = Options(as_json=True)


def _run(folder: Path, arms: set[str], status: str) -> Run:
    """The trials of these arms were measured, the others ended with `status`."""
    planned = experiments.plan(E)
    run = synthetic.write(
        folder / "r", E, only=[each.index for each in planned if each.arm in arms]
    )
    for each in planned:
        if each.arm not in arms:
            run.append(TrialRecord(each, status, "It cannot."))  # type: ignore[arg-type]
    return run


def test_a_run_that_tells_of_no_collector_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path, {"baseline"}, "skipped")
    assert evaluation._told(Outcome(run), JSON) == INCONCLUSIVE
    assert "no trial of a collector is usable" in capsys.readouterr().err


def test_a_run_of_all_arms_is(tmp_path: Path) -> None:
    assert evaluation._told(Outcome(_run(tmp_path, {"baseline", "http"}, "")), JSON) == 0


@pytest.mark.parametrize(
    ("error", "advised"), [(ComponentError("x"), True), (InputError("x"), False)]
)
def test_only_what_may_be_over_is_advised_to_be_gone_on_with(
    error: HarnessError, advised: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.create(tmp_path / "r", E, ended_early={})
    assert evaluation._told(Outcome(run, error), JSON) == ERROR
    assert ("Go on with" in capsys.readouterr().err) == advised


def test_why_the_first_trial_failed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path, {"baseline"}, "failed")
    assert evaluation._told(Outcome(run), JSON) == ERROR
    assert "The first failed: It cannot." in capsys.readouterr().err


def test_the_plan_of_a_run_that_goes_on_is_what_is_left(tmp_path: Path) -> None:
    run = _run(tmp_path, {"baseline", "http"}, "")
    done = CliRunner().invoke(app, ["evaluate", "--resume", str(run.path), "--plan"])
    assert done.exit_code == 0, done.output
    assert "none of them is left to measure" in done.output
    assert not any(each.name in done.output for each in experiments.plan(E))
