"""Runs of earlier versions, whose trials by `block` have two halves, are read and reported."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis import cpu
from harness.analysis.cell import Cell
from harness.analysis.summary import summarize
from harness.cli import foretold
from harness.model import Arm, Trial, Window, WindowRow
from harness.plan.experiment import plan
from harness.report import build, rows, stored
from harness.results.check import check
from harness.results.run import Run, TrialRecord
from tests.unit import synthetic

PUBLISHED = Path(__file__).parents[2] / "reports/published/python-agents"
ARMS = (Arm("baseline"), Arm("block", ("http",), (), "block"))


def _published(arm: str) -> tuple[tuple[TrialRecord, tuple[WindowRow, ...]], ...]:
    """The trials of an arm that compare, from the long table that is published."""
    meters: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    states: dict[tuple[str, int], bool] = {}
    with gzip.open(PUBLISHED / "measurements.jsonl.gz", "rt") as lines:
        for line in lines:
            if f'"arm": "{arm}"' not in line:
                continue
            told = json.loads(line)
            if told["window"] is not None and told["trial"].endswith("switched"):
                meters[told["trial"]][told["window"]][told["metric"]] = told["value"]
                states[told["trial"], told["window"]] = told["labels"]["state"] == "on"
    trials = {trial.name: trial for trial in plan(Run(PUBLISHED).experiment())}
    return tuple(
        (TrialRecord(trials[name], "ok"), tuple(_windows(name, windows, states)))
        for name, windows in meters.items()
    )


def _windows(
    trial: str, meters: dict[int, dict[str, float]], states: dict[tuple[str, int], bool]
) -> list[WindowRow]:
    """One after the other: the table does not tell when they were."""
    found, start = [], 0
    for index, each in sorted(meters.items()):
        end = start + round(1e9 * each["seconds"])
        found.append(WindowRow(Window(index, 0, states[trial, index], start, end), each))
        start = end
    return found


def test_what_halves_were_published_to_cost_is_what_is_made_of_them_today() -> None:
    trials = _published("bpftrace")
    assert [len(windows) for _, windows in trials] == [2] * 8
    arm = Run(PUBLISHED).experiment().arm("bpftrace")
    assert arm.method == "block"
    found = cpu.rows([Cell("flask", arm, trials, ())], 1)["flask", arm.name]
    made = {row.metric: row for row in found}
    told = [row for row in json.loads((PUBLISHED / "report.json").read_text())["rows"]
            if row["arm"] == "bpftrace" and row["metric"] in made]  # fmt: skip
    assert {"workload_cpu_us", "workload_cpu_percent", "context_cpu_us", "host_cpu_us"} <= {
        row["metric"] for row in told
    }
    for row in told:
        mine = made[row["metric"]]
        for key in ("estimate", "low", "high", "n", "level", "p"):
            assert getattr(mine, key) == pytest.approx(row[key]), (row["metric"], key)


def _in_halves(path: Path) -> Run:
    """A run of an earlier version, as far as trials by `block` go."""
    run = synthetic.write(path, synthetic.experiment(workloads=("go",), arms=ARMS, blocks=6))
    for record in run.records():
        if record.trial.arm == "block" and record.trial.kind == "switched":
            run.append(record, _halves(record.trial, run.windows(record.trial)))
    return run


def _halves(trial: Trial, parts: Sequence[WindowRow]) -> list[WindowRow]:
    """What each state took in five parts, as one half after the other."""
    first, last = parts[0].window, parts[-1].window
    middle, found = (first.start_ns + last.end_ns) // 2, []
    for index, on in enumerate((first.on, not first.on)):
        mine = [row.meters for row in parts if row.window.on == on]
        start, end = ((first.start_ns, middle), (middle, last.end_ns))[index]
        meters = {name: sum(each[name] for each in mine) for name in mine[0]}
        found.append(WindowRow(Window(index, 0, on, start, end), meters))
    return found


def test_a_run_in_halves_has_a_report(tmp_path: Path) -> None:
    run = _in_halves(tmp_path / "run")
    assert check(run) == []
    built = build.build(run)
    row = built.summary.row("go", "block", "workload_cpu_us")
    assert row is not None
    assert (row.n, row.method) == (6, "Hodges-Lehmann over trials, signed-rank interval")
    assert row.low < row.estimate < row.high
    assert not [judged for judged in built.summary.trials if not judged.usable]
    shown = json.loads(built.json.read_text())
    assert shown["schema_version"] == rows.SCHEMA_VERSION
    assert summarize(Run.open(run.path)).row("go", "block", "workload_cpu_us") == row


def test_a_plan_says_that_a_run_in_halves_saw_less_than_it_would_today(tmp_path: Path) -> None:
    whole = synthetic.write(tmp_path / "whole", synthetic.experiment(
        workloads=("go",), arms=ARMS, blocks=6))  # fmt: skip
    e = whole.experiment()
    build.build(whole)
    facts = stored.measured(whole.path / "report.json").facts
    (line,) = foretold.lines(e, tmp_path, facts, "local")
    assert "go by block: a cost is seen from about" in line
    assert "halves" not in line
    other = tmp_path / "other"
    other.mkdir()
    build.build(_in_halves(other / "halves"))
    (line,) = foretold.lines(e, other, facts, "local")
    assert "or less, if it is as noisy as in run halves, whose trials had two halves" in line


def test_a_plan_of_the_first_trials_by_block_goes_by_windows(tmp_path: Path) -> None:
    """Where no run has some, by those in which collectors were switched."""
    switched = (ARMS[0], Arm("http", ("http",)))
    run = synthetic.write(tmp_path / "switched", synthetic.experiment(
        workloads=("go",), arms=switched, blocks=6))  # fmt: skip
    facts = stored.measured(build.build(run).json).facts
    e = synthetic.experiment(workloads=("go",), arms=ARMS, blocks=6)
    (line,) = foretold.lines(e, tmp_path, facts, "local")
    assert "go by block: a cost is seen from about" in line
    assert "or more, if it is as noisy as in windows of run switched" in line
    (line,) = foretold.lines(replace(e, switched_seconds=100.0), tmp_path, facts, "local")
    assert "is not known" in line  # no trial there is as long


def test_windows_are_of_the_workload_and_arms_that_are_asked_for_while_there_are_some(
    tmp_path: Path,
) -> None:
    run = synthetic.write(tmp_path / "run", synthetic.experiment(
        workloads=("go", "flask"), arms=ARMS, blocks=2))  # fmt: skip
    trials = [each.trial for each in run.records() if each.trial.kind == "switched"]
    arms = {each.arm for each in trials}
    assert {each.workload for each in trials} == {"go", "flask"}
    of_go = [run.windows(each) for each in trials if each.workload == "go"]
    assert list(foretold._windows(run, arms, "go")) == of_go
    assert list(foretold._windows(run, arms)) == [run.windows(each) for each in trials]
    assert list(foretold._windows(run, {"other"})) == []
    for file in (run.path / "trials").glob("*/windows.jsonl"):
        file.unlink()
    assert list(foretold._windows(run, arms)) == []
