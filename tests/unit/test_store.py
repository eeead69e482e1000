"""The run directory: what is written comes back, and a torn write is no trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.experiment import Experiment, plan
from harness.model import Arm, Measurement, Window
from harness.store import Run, TrialRecord, WindowRow

EXPERIMENT = Experiment("e", ("go",), (Arm("baseline"), Arm("http", ("http",))))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "r", EXPERIMENT, warnings=[])


def test_round_trip(run: Run) -> None:
    trial = plan(EXPERIMENT)[0]
    run.folder(trial)
    value = Measurement(
        "steady_seconds", 2.0, "s", "go", trial.arm, 0, trial.name, labels={"collector": "http"}
    )
    row = WindowRow(Window(0, 0, True, 10, 20), {"cpu.workload": 0.5, "requests": 7.0})
    record = TrialRecord(trial, "ok", values=(value,), extra={"a": 1})
    run.append(record, [row])
    again = Run.open(run.path)
    assert again.experiment() == EXPERIMENT
    assert again.records() == [record]
    assert again.windows(trial) == [row]
    assert [(m.metric, m.window) for m in again.measurements()] == [
        ("steady_seconds", None),
        ("cpu.workload", 0),
        ("requests", 0),
    ]


def test_trial_without_its_last_file_did_not_happen(run: Run) -> None:
    trial = plan(EXPERIMENT)[0]
    (run.folder(trial) / "windows.jsonl").write_text("{")
    assert run.records() == []
    assert not (run.folder(trial) / "windows.jsonl").exists()
    assert (run.path / "trials" / f"{trial.name}.interrupted" / "windows.jsonl").exists()


def test_failed_trial_is_set_aside_not_hidden(run: Run) -> None:
    trial = plan(EXPERIMENT)[0]
    run.append(TrialRecord(trial, "failed", "it died"))
    run.set_aside(trial)
    assert run.records() == []
    assert (run.path / "trials" / f"{trial.name}.failed" / "trial.json").exists()


def test_not_a_run(tmp_path: Path, run: Run) -> None:
    with pytest.raises(StoreError, match="not a run"):
        Run.open(tmp_path)
    with pytest.raises(StoreError, match="exists already"):
        Run.create(run.path, EXPERIMENT)
    (run.path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(StoreError, match="schema 99"):
        Run.open(run.path)
