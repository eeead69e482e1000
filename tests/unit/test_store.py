"""The run directory: what is written comes back, and a torn write is no trial."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.linux import processes
from harness.model import Arm, Measurement, Window, WindowRow
from harness.plan.experiment import Experiment, plan
from harness.results.about import About
from harness.results.folder import new_folder
from harness.results.run import Run, TrialRecord
from tests.waiting import PATIENCE_SECONDS

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
        lambda run: run.note(complete=True),
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
    assert caught.value.next_step == f"Make room, then `harness evaluate --resume {run.path}`."
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
    assert caught.value.next_step == f"Mend that, then `harness evaluate --resume {run.path}`."


def test_a_long_table_that_cannot_be_written_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan(EXPERIMENT)[0]
    value = Measurement("x", 1.0, "s", "go", trial.arm, 0, trial.name)
    run.append(TrialRecord(trial, "ok", values=(value,)))
    kept = run.write_measurements().read_bytes()
    draft = f".measurements.jsonl.gz.{os.getpid()}.partial"
    (run.path / draft).symlink_to("/dev/full")
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


def test_a_run_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"Cannot create .*/r: No space left on device\."):
        Run.create(tmp_path / "r", EXPERIMENT)
    assert list(tmp_path.iterdir()) == []


def test_until_it_is_whole_a_run_has_another_name(tmp_path: Path) -> None:
    """So that what a kill leaves is never taken for a run."""
    with new_folder(tmp_path / "r") as draft:
        assert not (tmp_path / "r").exists()
        assert draft.name.startswith(".")
        (draft / "run.json").write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


DIES = """
import os, sys
from pathlib import Path
from harness.results.run import Run
from tests.unit.test_store import EXPERIMENT
os.fsync = lambda _: os.kill(os.getpid(), 9)
Run.create(Path(sys.argv[1]), EXPERIMENT)
"""


def test_a_kill_while_a_run_is_made_leaves_none_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "runs/r"
    done = processes.run([sys.executable, "-c", DIES, str(path)], check=False)
    assert done.returncode == -9, done.stderr
    assert not path.exists()
    assert Run.create(path, EXPERIMENT).records() == []


def take_file(path: Path) -> Path:
    path.write_text("kept")
    return path


def take_folder(path: Path) -> Path:
    path.mkdir()
    return take_file(path / "file")


@pytest.mark.parametrize("take", [take_file, take_folder])
@pytest.mark.parametrize("before", [True, False])
def test_a_name_that_is_taken_is_refused_and_what_has_it_is_kept(
    tmp_path: Path, take: Callable[[Path], Path], before: bool
) -> None:
    def make() -> None:
        with new_folder(tmp_path / "r") as draft:
            (draft / "run.json").write_text("{}")
            kept.append(take(tmp_path / "r"))

    kept = [take(tmp_path / "r")] if before else []
    with pytest.raises(StoreError, match="exists already"):
        make()
    assert kept[0].read_text() == "kept"
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


def test_what_is_known_of_a_run_has_only_its_own_fields(run: Run, tmp_path: Path) -> None:
    before = (run.path / "run.json").read_text()
    with pytest.raises(TypeError, match="no key 'warnigs'"):
        run.note(warnigs=["one"])
    with pytest.raises(TypeError, match="warnings cannot be 'one'"):
        run.note(warnings="one")
    with pytest.raises(TypeError, match="no key 'expriment'"):
        Run.create(tmp_path / "other", EXPERIMENT, expriment={})
    assert (run.path / "run.json").read_text() == before
    assert not (tmp_path / "other").exists()


def test_a_run_of_an_earlier_version_is_read(run: Run) -> None:
    found = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(
        json.dumps({"schema": 1, "experiment": found["experiment"], "version": "0.0.9"})
    )
    assert run.about() == About(found["experiment"], version="0.0.9")
    assert (run.about().target, run.about().idle_poll, run.about().warnings) == ("local", None, ())


def test_what_a_later_version_noted_is_not_lost(run: Run) -> None:
    found = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**found, "later": [1]}))
    run.note(complete=True)
    assert json.loads((run.path / "run.json").read_text())["later"] == [1]
    assert run.about().complete


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 1}', '{"schema": 1, "experiment": {}, "warnings": "one"}']
)
def test_a_damaged_run_is_a_sentence(run: Run, text: str) -> None:
    (run.path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json is damaged"):
        run.about()


def test_no_note_is_lost_between_threads(run: Run) -> None:
    fields = [{"complete": True}, {"stopped_by": "it"}, {"spent_seconds": 3.0}, {"target": "t"}]
    threads = [
        threading.Thread(target=lambda each=each: [run.note(**each) for _ in range(20)])
        for each in fields
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    about = run.about()
    told = (about.complete, about.stopped_by, about.spent_seconds, about.target)
    assert told == (True, "it", 3.0, "t")


def test_a_sentence_of_the_run_is_kept_once(run: Run) -> None:
    for each in ("one", "two", "one"):
        run.warn(each)
    assert run.about().warnings == ("one", "two")


MEASURES = """
import sys, time
from pathlib import Path
from harness.results.run import Run
with Run.open(Path(sys.argv[1])).lock():
    print('{"ready": true}', flush=True)
    time.sleep(600)
"""


def contents(run: Run) -> dict[str, bytes]:
    found = run.path.rglob("*")
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.note(complete=True),
        lambda run: run.warn("one"),
        lambda run: run.folder(plan(EXPERIMENT)[1]),
        lambda run: run.append(TrialRecord(plan(EXPERIMENT)[1], "ok")),
        lambda run: run.set_aside(plan(EXPERIMENT)[0]),
    ],
)
def test_nothing_is_written_into_a_run_that_another_process_measures(
    run: Run, write: Callable[[Run], object], tmp_path: Path
) -> None:
    run.append(TrialRecord(plan(EXPERIMENT)[0], "failed"))
    before = contents(run)
    argv = [sys.executable, "-c", MEASURES, str(run.path)]
    process = processes.spawn(argv, log=tmp_path / "log")
    try:
        assert processes.announced(process, PATIENCE_SECONDS) is not None
        with pytest.raises(StoreError) as caught:
            write(run)
        with pytest.raises(StoreError), run.lock():
            pytest.fail("two processes measure into one run")
    finally:
        processes.stop(process)
    assert re.search(rf"is being written by (process {process.pid}|another)", caught.value.what)
    assert contents(run) == before
    write(run)  # the lock went with its holder
    assert contents(run) != before


def test_a_lock_is_taken_once_and_given_back(run: Run) -> None:
    with run.lock():
        with run.lock():
            run.note(complete=True)
        run.note(stopped_by="it")
        with pytest.raises(StoreError, match="is being written"):
            Run.open(run.path).note(complete=False)
    Run.open(run.path).note(complete=False)
    assert not run.about().complete


def test_damaged_windows_are_a_sentence(run: Run) -> None:
    trial = plan(EXPERIMENT)[0]
    run.append(TrialRecord(trial, "ok"))
    (run.path / "trials" / trial.name / "windows.jsonl").write_text('{"index": 0')
    with pytest.raises(StoreError, match=r"windows\.jsonl is damaged") as caught:
        run.windows(trial)
    assert str(run.path / "trials" / trial.name) in caught.value.next_step
