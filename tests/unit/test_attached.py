"""What attaching of somebody else's collector did: noted under load, shown with what it is of."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis.cell import Cell, value_rows
from harness.analysis.summary import Summary, summarize
from harness.cli import choice
from harness.errors import CollectorError
from harness.load.record import Record
from harness.model import Arm, Comparison, Measurement, Trial
from harness.node import attaching
from harness.node.testbed import TrialLog
from harness.report import attached, html, markdown
from harness.results.run import Run, TrialRecord
from harness.wire.subject import Source, Subject
from tests.unit import synthetic

THEIRS = SimpleNamespace(name="theirs", subject=Subject("process", Source("path", "theirs")))
OURS = SimpleNamespace(name="http", subject=None)
SECONDS = 0.05


class Driver:
    """Writes a request each 5 ms since it began: of 1 ms, and of 300 ms while `slow`."""

    def __init__(self) -> None:
        self.began_ns = self.slow_ns = 0
        self.runs = self.finished = 0

    def start(self, rate: float) -> None:
        self.runs += 1
        self.began_ns = time.monotonic_ns()

    def finish(self, path: Path) -> None:
        self.finished += 1
        record = Record()
        for due in range(self.began_ns, time.monotonic_ns(), 5_000_000):
            slow = bool(self.slow_ns) and due >= self.slow_ns
            end = due + (300_000_000 if slow else 1_000_000)
            record.add(due, due, end, 200, slow, "/", 2)
        record.write(path)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(attaching, "BEFORE_SECONDS", SECONDS)
    return Driver()


def _under_load(driver: Driver, folder: Path, notes: TrialLog, begin: Any) -> Any:
    testbed: Any = SimpleNamespace(driver=driver, rate=200.0)
    return attaching.under_load(testbed, folder, notes, begin)


def _notes(*candidates: Any, references: tuple[Any, ...] = ()) -> TrialLog:
    spec: Any = SimpleNamespace(candidates=candidates, references=references)
    return TrialLog(spec)


def test_requests_that_waited_meanwhile_are_told_beside_those_before(
    driver: Driver, tmp_path: Path
) -> None:
    notes = _notes(OURS, THEIRS)

    def begin() -> str:
        driver.slow_ns = time.monotonic_ns()
        time.sleep(2 * SECONDS)
        return "there"

    assert _under_load(driver, tmp_path, notes, begin) == "there"
    told = {each.metric: each.value for each in notes.values}
    assert (told["attach_before_p99_ms"], told["attach_before_worst_ms"]) == (1.0, 1.0)
    assert told["attach_meanwhile_worst_ms"] == told["attach_meanwhile_p99_ms"] == 300.0
    assert told["attach_before_errors"] == 0 < told["attach_meanwhile_errors"]
    assert {each.labels["collector"] for each in notes.values} == {"theirs"}
    assert "requests failed while theirs started" in notes.details["warnings"][0]
    assert list(tmp_path.iterdir()) == []


def test_ours_are_installed_without_load_and_so_are_two_sets(
    driver: Driver, tmp_path: Path
) -> None:
    for notes in (_notes(OURS), _notes(THEIRS, references=(OURS,))):
        assert _under_load(driver, tmp_path, notes, lambda: 7) == 7
        assert notes.values == []
    assert driver.runs == 0


def test_the_load_ends_with_one_that_cannot_start(driver: Driver, tmp_path: Path) -> None:
    def begin() -> None:
        raise CollectorError("No.")

    with pytest.raises(CollectorError):
        _under_load(driver, tmp_path, _notes(THEIRS), begin)
    assert (driver.runs, driver.finished) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_what_metered_trials_alone_tell_is_in_the_rows() -> None:
    trial = Trial(0, "flask", 0, "a", "metered", 1)
    told = {"attach_meanwhile_p99_ms": 12.0, "attach_peak_rss_bytes": 5e7}
    values = tuple(
        Measurement(name, each, "1", "flask", "a", 0, trial.name, labels={"collector": "a"})
        for name, each in told.items()
    )
    arm = Arm("a", ("a",), (), "block")
    one = Cell("flask", arm, (), ((TrialRecord(trial, "ok", values=values), ()),))
    found = {row.metric: row.estimate for row in value_rows(one)}
    assert found["attach_meanwhile_p99_ms"] == 12.0
    assert found["attach_peak_memory_mb"] == 50.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    what = synthetic.experiment(workloads=("go",))
    return synthetic.write(tmp_path_factory.mktemp("runs") / "run", what)


def _summary(run: Run, reach: str) -> Summary:
    """With what a process of somebody else's tells, under the name of http."""
    found = summarize(run)
    rows = [
        Comparison("go", "http", metric, "ms", each, math.nan, math.nan, 1, math.nan, math.nan, "")
        for metric, each in (
            ("attach_peak_memory_mb", 104.0), ("attach_before_p99_ms", 2.5),
            ("attach_meanwhile_p99_ms", 31.0), ("attach_meanwhile_worst_ms", 77.0),
        )
    ]  # fmt: skip
    trials = tuple(
        replace(
            each,
            record=replace(
                each.record,
                extra={
                    **each.record.extra,
                    "attached": {"http": {"kprobe": 2, "tracepoint": 1}, "other": {"kprobe": 3}},
                },
            ),
        )
        if each.record.trial.arm == "http" else each
        for each in found.trials
    )  # fmt: skip
    about = replace(found.about, collectors={"http": {"name": "http", "subject": {"reach": reach}}})
    return replace(found, rows=(*found.rows, *rows), trials=trials, about=about)


@pytest.mark.parametrize(
    ("reach", "payer"), [("host", "everybody on the host"), ("service", "the service alone")]
)
def test_the_report_names_what_was_attached_and_to_whom(run: Run, reach: str, payer: str) -> None:
    summary = _summary(run, reach)
    ((arm, _, cells),) = attached.sheet(summary, "go").rows
    told = dict(zip(attached.COLUMNS, cells, strict=True))
    assert (arm, told["makes pay"].text) == ("http", payer)
    assert told["attached"].text == "5 kprobe, 1 tracepoint"
    assert told["memory meanwhile"].text.startswith("104")
    assert told["p99 meanwhile"].text.startswith("31")
    assert told["slowest before"].text == "not measured"
    assert payer in markdown.text(summary)
    assert payer in html.page(run, summary)


def test_a_report_without_others_has_no_such_table(run: Run) -> None:
    assert attached.sheet(summarize(run), "go").rows == ()
    assert "Attached by other people" not in markdown.text(summarize(run))


def test_a_plan_names_the_hooks_on_the_whole_host() -> None:
    e = choice.chosen("quick", workloads=["go"], arms=["falco", "http"])
    lines = [line for line in choice.plan(e) if "traces the whole host" in line]
    assert len(lines) == 1
    assert "falco (tp_btf, ring buffer) traces the whole host" in lines[0]
