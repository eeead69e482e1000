"""What is told while a run lasts: only between trials, bounded, and as the report has it then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.summary import so_far, summarize
from harness.cli import choice, live, screen
from harness.controller.interim import LONGEST, SHARE, Interim, SoFar
from harness.model import BASELINE, Arm, Comparison
from harness.plan import allotment
from harness.plan import experiment as experiments
from harness.results.run import Run
from tests.unit import synthetic

ARMS = (Arm(BASELINE), Arm("http", ("http",)), Arm("old-new", ("flows",), ("http",)))
WHAT = synthetic.experiment(workloads=("go", "java"), arms=ARMS, switched_seconds=2.4)
FIRST = experiments.plan(WHAT)[0]


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    whole = [trial.index for trial in experiments.plan(WHAT) if trial.workload == "go"]
    return synthetic.write(tmp_path_factory.mktemp("run") / "r", WHAT, only=whole)


def test_what_is_told_is_what_the_report_would_say_now(run: Run) -> None:
    rows = {(row.arm, row.metric): row for row in so_far(run, "go")}
    assert {arm for arm, _ in rows} == {arm.name for arm in ARMS}
    summary = summarize(run)
    for (arm, metric), row in rows.items():
        whole = summary.row("go", arm, metric)
        assert whole is not None
        found, said = ((r.estimate, r.level, r.low, r.high) for r in (row, whole))
        assert found == pytest.approx(said, nan_ok=True)


def test_of_a_service_that_was_not_begun_nothing_is_told(run: Run) -> None:
    shown: list[SoFar] = []
    java = next(trial for trial in experiments.plan(WHAT) if trial.workload == "java")
    Interim(run, shown.append).look(java)
    assert not shown


def test_a_look_tells_how_many_blocks_it_rests_on(run: Run) -> None:
    shown: list[SoFar] = []
    Interim(run, shown.append).look(FIRST)
    assert [(each.workload, each.blocks, each.of) for each in shown] == [("go", 2, 2)]


def _slow(clock: Clock, seconds: float) -> Callable[[object, str], list[Comparison]]:
    def look(_run: object, _workload: str) -> list[Comparison]:
        clock.now += seconds
        return [Comparison("go", "http", "workload_cpu_us", "us", 1, 0, 2, 9, 1, 50, "made up")]

    return look


def test_looking_takes_no_more_than_its_share(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shown = Clock(), list[SoFar]()
    monkeypatch.setattr("harness.analysis.summary.so_far", _slow(clock, 1.0))
    interim = Interim(run, shown.append, clock)
    measured = 0.0
    for _ in range(200):
        clock.now += 2.0
        measured += 2.0
        interim.look(FIRST)
    assert 2 <= len(shown) <= 1 + SHARE * measured


def test_a_look_that_took_too_long_is_the_last(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shown = Clock(), list[SoFar]()
    monkeypatch.setattr("harness.analysis.summary.so_far", _slow(clock, LONGEST + 1))
    interim = Interim(run, shown.append, clock)
    for _ in range(5):
        clock.now += 1e6
        interim.look(FIRST)
    assert len(shown) == 1


def test_where_nobody_looks_nothing_is_computed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.analysis.summary.so_far", lambda *_: pytest.fail("computed"))
    Interim(run, None).look(FIRST)


def test_a_damaged_trial_does_not_end_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = synthetic.write(tmp_path / "r", WHAT, only=[0])
    (broken.path / "trials" / FIRST.name / "windows.jsonl").write_text("{")
    Interim(broken, lambda _: pytest.fail("shown")).look(FIRST)


def _found(run: Run) -> SoFar:
    return SoFar("go", 2, 4, so_far(run, "go"))


def test_the_table_has_a_line_a_collector_and_fits_80_columns(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.out.width, before = 80, screen.out.width
    try:
        screen.out.print(live.table(_found(run)))
    finally:
        screen.out.width = before
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "go, after 2 of 4 blocks"
    assert all(len(line) <= 80 for line in lines)
    rows = [line for line in lines if "[" in line and "%" in line][1:]
    assert [line.split()[0] for line in rows] == ["nothing", "http", "old-new"]
    assert all("± " in line for line in rows)
    assert "the verdict is made once, at the end" in lines[-1]


def test_without_a_terminal_there_is_a_line_a_minute(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    show = live.lines(clock)
    for _ in range(13):
        show(_found(run))
        clock.now += 10.0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all("go, after 2 of 4 blocks: nothing (A/A) " in line for line in said)


def test_quiet_shows_nothing_and_asks_for_nothing() -> None:
    with live.told(quiet=True) as told:
        assert told.show is None


def test_an_evaluation_says_what_it_will_have_when() -> None:
    said = choice.promise(experiments.load(Path("quick")))
    assert "It takes about 9 minutes" in said or "It takes about 10 minutes" in said
    assert "first figures are there after about" in said
    assert "a service is done" not in said  # with a pilot they take turns
    plain = choice.promise(allotment.without(experiments.load(Path("quick"))))
    assert "a service is done every" in plain
    assert "Ctrl-C ends it with a report" in said
    assert "every" not in choice.promise(experiments.load(Path("standard")))
