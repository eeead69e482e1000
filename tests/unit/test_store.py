"""The run directory: what is written comes back, and a torn write is no trial."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.model import Arm, Measurement, Window
from harness.plan.experiment import Experiment, plan
from harness.results.run import Run, TrialRecord, WindowRow

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


@pytest.mark.parametrize("suffix", ["interrupted", "interrupted2", "failed", "failed11"])
def test_only_folders_that_were_set_aside_are_left_out(run: Run, suffix: str) -> None:
    trial = plan(EXPERIMENT)[0]
    run.append(TrialRecord(trial, "ok"))
    folder = run.path / "trials" / trial.name
    folder.rename(folder.with_name("000-go-b0-beyla-1.9-switched"))
    assert [record.trial for record in run.records()] == [trial]
    folder.with_name("000-go-b0-beyla-1.9-switched").rename(f"{folder}.{suffix}")
    assert run.records() == []


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.write_about({}),
        lambda run: run.append(TrialRecord(plan(EXPERIMENT)[0], "ok")),
        lambda run: run.write_text("report.md", "text"),
    ],
)
def test_a_full_disk_names_the_run_to_resume_and_leaves_no_half_file(
    run: Run, write: Callable[[Run], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run.path / "run.json").read_text()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        write(run)
    assert f"`harness evaluate --resume {run.path}`" in caught.value.next_step
    assert not list(run.path.rglob(".*.partial"))
    assert (run.path / "run.json").read_text() == before


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.folder(plan(EXPERIMENT)[0]),
        lambda run: run.append(TrialRecord(plan(EXPERIMENT)[0], "ok")),
    ],
)
def test_a_folder_that_cannot_be_made_is_a_sentence(
    run: Run, write: Callable[[Run], object]
) -> None:
    (run.path / "trials").rmdir()
    (run.path / "trials").write_text("a file where the folder was")
    with pytest.raises(StoreError, match="Cannot write") as caught:
        write(run)
    assert f"--resume {run.path}`" in caught.value.next_step


def test_a_long_table_that_cannot_be_written_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan(EXPERIMENT)[0]
    value = Measurement("x", 1.0, "s", "go", trial.arm, 0, trial.name)
    run.append(TrialRecord(trial, "ok", values=(value,)))
    kept = run.write_measurements().read_bytes()
    (run.path / ".measurements.jsonl.gz.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left on device") as caught:
        run.write_measurements()
    assert f"--resume {run.path}`" in caught.value.next_step
    assert (run.path / "measurements.jsonl.gz").read_bytes() == kept
    assert not list(run.path.rglob(".*.partial"))


def test_not_a_run(tmp_path: Path, run: Run) -> None:
    with pytest.raises(StoreError, match="not a run"):
        Run.open(tmp_path)
    with pytest.raises(StoreError, match="exists already"):
        Run.create(run.path, EXPERIMENT)
    (run.path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(StoreError, match="schema 99"):
        Run.open(run.path)
