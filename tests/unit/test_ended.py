"""Which runs there are, and how each ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.plan import experiment as experiments
from harness.results import ended
from harness.results.run import Run
from tests.unit import synthetic

WHAT = synthetic.experiment(workloads=("go",), blocks=1, switched_seconds=1.2)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    def write(name: str, **about: Any) -> Run:
        return synthetic.write(tmp_path / name, WHAT, only=(), **about)

    write("whole", complete=True, started="2026-01-01T10:00:00")
    write("stopped", complete=False, stopped_by="It was interrupted.", ended="x",
          started="2026-01-01T11:00:00")  # fmt: skip
    write("killed", complete=False, ended=None, started="2026-01-01T12:00:00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    (tmp_path / "no-run").mkdir()
    return tmp_path


def test_each_run_is_told_of_with_how_it_ended(reports: Path) -> None:
    found = {each.name: each for each in ended.runs(reports)}
    assert {name: each.resumable for name, each in found.items()} == {
        "broken": False, "whole": False, "stopped": True, "killed": True,
    }  # fmt: skip
    assert found["whole"].how == "complete"
    assert found["stopped"].how == "stopped: It was interrupted."
    assert found["killed"].how == "was killed"
    assert found["broken"].how.startswith("damaged: ")
    assert found["whole"].trials == f"0 of {len(experiments.plan(WHAT))}"


def test_blocks_that_were_left_out_are_not_missing(reports: Path) -> None:
    what = synthetic.experiment(workloads=("go",), blocks=4, switched_seconds=1.2)
    early = {"go": {"blocks": 1, "reason": "The time budget of 3 minutes was used up."}}
    first = [t.index for t in experiments.plan(what) if t.block == 0]
    synthetic.write(reports / "early", what, only=first, complete=True, ended_early=early)
    found = {each.name: each for each in ended.runs(reports)}["early"]
    assert (found.trials, found.how) == (f"{len(first)} of {len(first)}", "complete")


def test_one_that_is_being_measured_is_told_as_that(reports: Path) -> None:
    with Run.open(reports / "killed").lock():
        found = {each.name: each for each in ended.runs(reports)}
    assert found["killed"].how.startswith("is being measured by process ")
    assert not found["killed"].resumable


def test_a_report_of_a_run_that_is_being_measured_says_so(reports: Path) -> None:
    what = synthetic.experiment(workloads=("go",), blocks=1, switched_seconds=1.2)
    run = synthetic.write(reports / "now", what, only=(0,))
    with run.lock():
        done = CliRunner().invoke(app, ["report", str(run.path)])
    assert "is being measured by process" in done.stderr


def test_the_command_says_what_can_be_done_next(reports: Path) -> None:
    done = CliRunner().invoke(app, ["runs", "--reports", str(reports)])
    assert done.exit_code == 0, done.output
    assert "harness evaluate --resume" in done.stdout
    told = CliRunner().invoke(app, ["runs", "--reports", str(reports), "--json"]).stdout
    assert [each["name"] for each in json.loads(told)] == ["broken", "whole", "stopped", "killed"]


def test_where_there_is_none_that_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["runs", "--reports", str(tmp_path / "nowhere")])
    assert (done.exit_code, "There is no run" in done.stdout) == (0, True)
