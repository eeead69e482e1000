"""What is wrong with a run directory is found and told, and nothing where nothing is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis.summary import summarize
from harness.cli import app
from harness.errors import StoreError
from harness.load import record
from harness.model import Arm, WindowRow
from harness.results import requests
from harness.results.certificates import machine_hash
from harness.results.check import check
from harness.results.run import Run
from tests.unit import stacked, synthetic

ARMS = (
    Arm("baseline"), Arm("http", ("http",)), Arm("new", ("http",), ("flows",)),
    Arm("twin", ("http",), (), "twin"), Arm("block", ("http",), (), "block"),
)  # fmt: skip
WHAT = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=1.2, blocks=1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return synthetic.write(tmp_path / "run", WHAT)


def test_made_up_runs_hold_together(run: Run, tmp_path: Path) -> None:
    assert check(run) == []
    assert check(stacked.write(tmp_path / "full")) == []
    assert check(synthetic.write(tmp_path / "part", WHAT, only=range(3))) == []


Change = Callable[[list[WindowRow]], list[WindowRow]]


def moved(place: int, **changes: int) -> Change:
    """One window with its edges moved by so many ns, or with other numbers."""

    def change(rows: list[WindowRow]) -> list[WindowRow]:
        window = rows[place].window
        new = dataclasses.replace(
            window, **{name: getattr(window, name) + by for name, by in changes.items()}
        )
        return [*rows[:place], dataclasses.replace(rows[place], window=new), *rows[place + 1 :]]

    return change


def opposite(row: WindowRow) -> WindowRow:
    return dataclasses.replace(row, window=dataclasses.replace(row.window, on=not row.window.on))


@pytest.mark.parametrize("kind", ["switched", "metered"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (moved(3, end_ns=-(10**12)), "window 3 ends before it begins."),
        (moved(3, end_ns=10**12), "window 4 begins before window 3 has ended."),
        (moved(3, index=1), "window 3 has the index 4."),
        (moved(3, quadruple=1), "quadruple 0 is not whole."),
        (lambda rows: rows[:-1], "is not whole."),
        (lambda rows: [opposite(rows[0]), *rows[1:]], "quadruple 0 is not whole."),
    ],
)
def test_edges_rise_and_quadruples_are_whole(
    run: Run, kind: str, change: Change, told: str
) -> None:
    record = next(r for r in run.records() if (r.trial.arm, r.trial.kind) == ("new", kind))
    rows = change(run.windows(record.trial))
    run.append(record, rows)
    assert any(each.startswith(f"{record.trial.name}: ") and told in each for each in check(run))


def test_a_trial_in_parts_has_both(run: Run) -> None:
    record = next(r for r in run.records() if (r.trial.arm, r.trial.kind) == ("block", "switched"))
    run.append(record, run.windows(record.trial)[:1])
    told = "it has no parts with and without its collectors that follow each other."
    assert check(run) == [f"{record.trial.name}: {told}"]


def test_slices_of_one_set_need_no_quadruples(run: Run) -> None:
    record = next(r for r in run.records() if (r.trial.arm, r.trial.kind) == ("http", "metered"))
    run.append(record, run.windows(record.trial)[:-1])
    assert check(run) == []


def first(run: Run) -> Path:
    record = next(r for r in run.records() if r.trial.kind == "switched")
    return run.path / "trials" / record.trial.name


@pytest.mark.parametrize("text", [None, b"", b"PK no archive", b"{}"])
def test_requests_that_cannot_be_read_are_told(run: Run, text: bytes | None) -> None:
    path = first(run) / "requests.npz"
    path.unlink() if text is None else path.write_bytes(text)
    (told,) = check(run)
    assert told.startswith(f"{path.parent.name}: its requests cannot be read")


def test_columns_of_several_lengths_are_told(run: Run) -> None:
    path = first(run) / "requests.npz"
    with np.load(path) as columns:
        np.savez(path, **{**columns, "end_ns": columns["end_ns"][1:]})
    assert "several lengths" in check(run)[0]


def test_trials_of_another_machine_are_told(run: Run) -> None:
    facts = run.about().facts
    run.note(facts_hash=machine_hash(facts))
    assert check(run) == []
    record = run.records()[0]
    other = dataclasses.replace(record, extra={"facts_hash": machine_hash({"kernel": "6.2"})})
    run.append(other, run.windows(record.trial))
    assert check(run) == [f"Not all trials are of one machine: {record.trial.name} are of another."]
    run.note(facts={**facts, "kernel": "6.2"})
    assert "another machine than its facts" in check(run)[0]


def test_what_is_wrong_is_in_the_report(run: Run) -> None:
    (first(run) / "requests.npz").unlink()
    assert check(run)[0] in summarize(run).warnings
    done = CliRunner().invoke(app, ["report", str(run.path)])
    assert done.exit_code == 0, done.output
    assert "its requests cannot be read" in (run.path / "report.md").read_text()


@pytest.mark.parametrize("name", ["windows.jsonl", "requests.npz", "trial.json"])
def test_a_report_of_a_damaged_trial_is_refused_with_a_sentence(run: Run, name: str) -> None:
    (first(run) / name).write_text("{")
    done = CliRunner().invoke(app, ["report", str(run.path)])
    assert done.exit_code == 2
    assert name in done.output
    assert "defect" not in done.output
    with pytest.raises(StoreError):
        summarize(run)


def test_requests_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = record.Record()
    written.add(1, 2, 3, 200, False, "/", 10)
    written.add(4, 5, 6, 0, True, "/users", 0, twin=True)
    written.write(tmp_path / requests.NAME)
    found, same = requests.read(tmp_path / requests.NAME), record.read(tmp_path / requests.NAME)
    for name, column in vars(found).items():
        assert list(column) == list(getattr(same, name))


def test_requests_of_earlier_versions_are_read(tmp_path: Path) -> None:
    numbers = np.arange(3)
    np.savez(
        tmp_path / requests.NAME, due_ns=numbers, start_ns=numbers, end_ns=numbers, status=numbers,
        route=numbers, bytes=numbers, route_names=np.array(["/"]),
    )  # fmt: skip
    found = requests.read(tmp_path / requests.NAME)
    assert (found.twin.tolist(), found.failed.tolist()) == ([False] * 3, [False] * 3)
