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
    said = capsys.readouterr().err
    assert ("Go on with" in said) == advised
    assert ("Nothing was measured. A command, URL or option" in said) == advised


def test_a_run_that_was_begun_takes_no_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path, {"baseline"}, "failed")
    assert evaluation._told(Outcome(run, ComponentError("x")), JSON) == ERROR
    said = capsys.readouterr().err
    assert "Go on with: harness evaluate --resume" in said
    assert "Nothing was measured" not in said


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
    assert "Next: `harness report` shows what was found." in done.output
    assert "It takes about" not in done.output


def test_a_run_that_is_complete_is_shown_and_stays_as_it_ended(tmp_path: Path) -> None:
    run = _run(tmp_path, {"baseline", "http"}, "")
    run.note(complete=True, ended="2026-01-01T10:00:00+00:00", stopped_by="")
    done = CliRunner().invoke(app, ["evaluate", "--resume", str(run.path)])
    assert done.exit_code == 0, done.output
    assert "Nothing is left to measure in" in done.stderr
    assert "requests a second" in done.stdout
    about = run.about()
    assert (about.ended, about.complete) == ("2026-01-01T10:00:00+00:00", True)


def test_a_plan_refuses_the_name_of_a_run_that_is_there(tmp_path: Path) -> None:
    run = _run(tmp_path, {"baseline", "http"}, "")
    own = ["--command", "python3 -m http.server 8099", "--url", "http://127.0.0.1:8099/"]
    words = [*own, "--reports", str(tmp_path), "--run", run.path.name]
    done = CliRunner().invoke(app, ["evaluate", *words, "--plan"])
    assert done.exit_code == 2
    assert "exists already" in done.stderr
    # before the target is entered: a cluster would have been asked, and images loaded
    elsewhere = [*words[4:], "--workload", "go", "--target", "kind,name=none"]
    done = CliRunner().invoke(app, ["evaluate", *elsewhere])
    assert done.exit_code == 2
    assert "exists already" in done.stderr
    asked = ["calibrate", "--reports", str(tmp_path), "--run", run.path.name, "--plan"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2
    assert "exists already" in done.stderr
