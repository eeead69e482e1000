"""A made-up run whose arms share their trials: what each arm's rows take from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.analysis import budgets, factorial, gates, validity
from harness.analysis.summary import Summary, summarize
from harness.model import FACTORIAL, Arm, WindowRow
from harness.plan import design
from harness.plan.experiment import Experiment
from harness.report import build, sheets, stored, terminal
from harness.results.check import check
from harness.results.run import Run, TrialRecord
from tests.unit import synthetic
from tests.unit.costed import COSTS, LOUD, bpf_truth, row

SHARED = "factorial"
NAMES = ("http", "flows", "profile")


def experiment(**changes: Any) -> Experiment:
    arms = (
        Arm("baseline", method="factorial"),
        *(Arm(name, (name,), method="factorial") for name in NAMES),
        Arm("two", ("http", "flows"), method="factorial"),
        Arm("all", NAMES, method="factorial"),
    )
    keys = {"workloads": ("go",), "arms": arms, "switched_seconds": 16.0, **changes}
    return synthetic.experiment(**keys)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return synthetic.write(tmp_path_factory.mktemp("runs") / "run", experiment(), LOUD)


@pytest.fixture(scope="module")
def summary(run: Run) -> Summary:
    return summarize(run)


def test_one_trial_and_one_metered_a_block_give_every_arm_its_rows(
    run: Run, summary: Summary
) -> None:
    assert [(t.trial.arm, t.trial.kind) for t in run.records()] == 2 * [
        (SHARED, "switched"), (SHARED, "metered"),
    ]  # fmt: skip
    assert check(run) == []
    for arm in ("baseline", *NAMES, "two", "all"):
        assert row(summary, arm, "workload_cpu_us").n > 0
    assert summary.row("go", SHARED, "workload_cpu_us") is None


@pytest.mark.parametrize(
    ("arm", "truth"),
    [("baseline", 0.0), ("http", 6.0), ("flows", 2.0), ("profile", 0.0), ("two", 8.0),
     ("all", 8.0)],
)  # fmt: skip
def test_the_cost_of_each_arm_comes_back_from_windows_that_all_share(
    summary: Summary, arm: str, truth: float
) -> None:
    assert COSTS == {"http": 6.0, "flows": 2.0, "profile": 0.0}
    found = row(summary, arm, "workload_cpu_us")
    assert found.estimate == pytest.approx(truth, abs=0.35)
    assert found.low - 0.1 < truth < found.high + 0.1
    assert found.high - found.low < 1.2
    assert row(summary, arm, "client_cpu_us").estimate == pytest.approx(0.4 * truth, abs=0.6)
    assert math.isfinite(found.noise)


def test_an_arm_takes_the_values_of_its_own_collectors(summary: Summary) -> None:
    for arm, count in (("http", 1), ("two", 2), ("all", 3)):
        assert row(summary, arm, "map_memory_mb").estimate == pytest.approx(1.4 * count)
        assert row(summary, arm, "agent_us").estimate == pytest.approx(1.1 * count, rel=0.2)
    assert summary.row("go", "baseline", "agent_us") is None
    signals = {
        arm: {r.metric for r in summary.rows if r.arm == arm and r.metric.startswith("coverage")}
        for arm in ("http", "two")
    }
    assert signals["http"] == {"coverage_percent[requests]"}
    assert signals["two"] == {"coverage_percent[requests]", "coverage_percent[connections]"}


def test_the_receiver_s_cpu_is_of_all_collectors_or_of_none(summary: Summary) -> None:
    assert row(summary, "all", "sink_us").estimate == pytest.approx(0.52, abs=0.05)
    assert summary.row("go", "two", "sink_us") is None
    assert "all collectors" in summary.missing("go", "two", "sink_us")


def test_the_time_in_programs_is_that_of_the_arm_s_own(summary: Summary) -> None:
    for arm, collectors in (("http", ("http",)), ("flows", ("flows",)), ("all", NAMES)):
        truth = bpf_truth(*collectors)
        assert row(summary, arm, "bpf_us").estimate == pytest.approx(truth, rel=0.05)
        whole = row(summary, arm, "bill_us").estimate
        assert whole > truth
        mine = [p for p in summary.programs if p.arm == arm]
        assert {p.collector for p in mine} == set(collectors)
    assert summary.row("go", "baseline", "bpf_us") is None


def test_latency_is_compared_by_the_state_of_the_arm_s_own(summary: Summary) -> None:
    shifts = {arm: row(summary, arm, "latency_p50_us") for arm in ("baseline", "http", "two")}
    expected = {"baseline": 0.0, "http": 2.0, "two": 2.8}
    for arm, found in shifts.items():
        assert found.estimate == pytest.approx(expected[arm], abs=1.5)
    assert set(summary.curves) == {("go", arm.name) for arm in experiment().arms}
    assert shifts["two"].high - shifts["two"].low > shifts["http"].high - shifts["http"].low


def test_switching_is_told_of_the_arm_s_own(summary: Summary) -> None:
    assert row(summary, "http", "switch_ms").estimate == pytest.approx(0.6)
    assert summary.row("go", "baseline", "switch_ms") is None


def test_what_only_adds_up_shows_no_interaction(summary: Summary) -> None:
    for arm in ("two", "all"):
        found = row(summary, arm, "interaction_us")
        assert found.low < 0 < found.high
    assert summary.row("go", "http", "interaction_us") is None


def changed(
    path: Path, change: Callable[[WindowRow], None], what: Experiment | None = None, **keys: Any
) -> Summary:
    """The rows of a run whose windows were changed."""
    run = synthetic.write(path, what or experiment(), LOUD, **keys)
    for each in run.records():
        if each.trial.kind == "switched":
            rows = run.windows(each.trial)
            for window in rows:
                change(window)
            run.append(each, rows)
    return summarize(run)


def test_what_costs_more_together_is_the_interaction_and_is_in_the_sum(tmp_path: Path) -> None:
    def dearer(window: WindowRow) -> None:
        http, flows, *_ = window.window.states
        extra = 4e-6 * window.meters["requests"] * (http and flows)
        window.meters["cpu.workload"] += extra  # type: ignore[index]

    found = changed(tmp_path / "run", dearer)
    for arm in ("two", "all"):
        assert row(found, arm, "interaction_us").estimate == pytest.approx(4.0, abs=1.2)
        assert row(found, arm, "workload_cpu_us").estimate == pytest.approx(12.0, abs=0.5)
    alone = row(found, "http", "workload_cpu_us")  # with the others on in half of the windows
    assert alone.estimate == pytest.approx(6.0 + 4.0 / 2, abs=0.5)
    assert [label for label, *_ in sheets.interactions(found, "go").rows] == ["two", "all"]


def test_no_cost_is_given_to_what_was_not_on(tmp_path: Path) -> None:
    """A collector's whole cost goes to its own row, whatever the others do."""

    def only(window: WindowRow) -> None:
        extra = 50e-6 * window.meters["requests"] * window.window.states[2]
        window.meters["cpu.workload"] += extra  # type: ignore[index]

    found = changed(tmp_path / "run", only)
    assert row(found, "profile", "workload_cpu_us").estimate == pytest.approx(50.0, abs=1.0)
    assert row(found, "http", "workload_cpu_us").estimate == pytest.approx(6.0, abs=1.0)
    assert row(found, "baseline", "workload_cpu_us").estimate == pytest.approx(0.0, abs=1.0)


def test_four_collectors_and_the_null_factor_come_apart(tmp_path: Path) -> None:
    names = (*NAMES, "guard")
    arms = tuple(Arm(name, (name,), method="factorial") for name in names)
    what = experiment(arms=(Arm("baseline", method="factorial"), *arms))
    found = summarize(synthetic.write(tmp_path / "run", what, LOUD))
    for arm in ("baseline", *names):
        truth = COSTS.get(arm, 0.0)
        assert row(found, arm, "workload_cpu_us").estimate == pytest.approx(truth, abs=0.35)


def left_out(run: Run, collector: str, **where: Any) -> None:
    for each in run.records():
        if all(getattr(each.trial, key) == value for key, value in where.items()):
            reason = {collector: "The agent of collector 'flows' ended."}
            kept = dataclasses.replace(each, extra={**each.extra, factorial.LEFT_OUT: reason})
            run.append(kept, run.windows(each.trial))


def test_a_collector_that_was_left_out_takes_only_its_own_arms_with_it(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), LOUD)
    before = row(summarize(run), "http", "workload_cpu_us")
    left_out(run, "flows")
    found = summarize(run)
    after = row(found, "http", "workload_cpu_us")
    assert (after.estimate, after.n, after.p) == (before.estimate, before.n, before.p)
    for arm in ("flows", "two", "all"):
        assert found.row("go", arm, "workload_cpu_us") is None
        assert "It was left out: The agent" in found.missing("go", arm, "workload_cpu_us")


def test_a_block_without_it_is_missing_from_its_rows_alone(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), LOUD)
    whole = summarize(run)
    left_out(run, "flows", block=1)
    part = summarize(run)
    for arm, share in (("flows", 2), ("all", 2), ("http", 1)):
        rows = [row(each, arm, "workload_cpu_us").n for each in (whole, part)]
        assert rows[0] == share * rows[1]


def test_a_shared_trial_is_judged_by_its_windows(run: Run) -> None:
    (record, *_), what = run.records(), experiment()
    rows = run.windows(record.trial)
    assert validity.judge_of(what, record, rows).usable
    judged = validity.judge_of(what, record, rows[: len(rows) * 3 // 4])
    assert judged.violations == (f"{len(rows) * 3 // 4} of {len(rows)} windows are whole "
                                 "(limit 80%).",)  # fmt: skip


def test_a_cycle_that_is_not_whole_is_told(run: Run, tmp_path: Path) -> None:
    broken = synthetic.write(tmp_path / "run", experiment(), LOUD)
    record, *_ = broken.records()
    rows = broken.windows(record.trial)
    turned = dataclasses.replace(
        rows[3], window=dataclasses.replace(rows[3].window, states=(True,) * 4)
    )
    other = [*rows[:3], turned, *rows[4:]]
    broken.append(record, other)
    if rows[3].window.states != (True,) * 4:
        assert any("cycle 0 is not whole" in each for each in check(broken))
    broken.append(record, rows[:-1])
    assert any("is not whole" in each for each in check(broken))


def test_states_are_kept_and_told_by_collector(run: Run) -> None:
    record: TrialRecord = run.records()[0]
    rows = run.windows(record.trial)
    drawn = design.states(4, design.cycles(experiment()), record.trial.seed)
    assert [each.window.states for each in rows] == drawn
    told = [m for m in run.measurements() if m.window == 5 and m.metric == "cpu.workload"]
    labels = dict(told[0].labels)
    assert labels.pop("quadruple") == "0"
    assert labels == {n: "on" if s else "off" for n, s in zip(NAMES, drawn[5], strict=False)}
    units = {m.metric: m.unit for m in run.measurements() if m.metric.startswith("bpf.run")}
    assert units["bpf.runs[http]"] == units["bpf.runs"] == "{run}"
    assert units["bpf.run[http]"] == units["bpf.run"] == "s"


def test_its_report_can_be_made_and_says_what_was_compared(run: Run) -> None:
    built = build.build(run)
    page, short = built.html.read_text(), built.markdown.read_text()
    assert "by a pattern of on and off that switches nothing" in page
    assert "http on" in page
    assert "each collector by a pattern of its own, in cycles of windows" in page
    assert "the means of all windows with the error of redrawing" in page
    assert "(factorial)" not in short
    told = [line.split("  ")[0] for line in terminal.lines(built.summary, 120)]
    assert {"nothing (A/A)", "http"} <= set(told)
    assert FACTORIAL == SHARED


def test_requests_that_fail_are_its_own_whose_windows_they_are_due_in(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), LOUD)
    for each in run.records():
        if each.trial.kind == "switched":
            path = run.path / "trials" / each.trial.name / "requests.npz"
            with np.load(path) as data:
                columns = dict(data)
            rows = run.windows(each.trial)
            due: NDArray[np.int64] = columns["due_ns"]
            at = np.searchsorted([r.window.start_ns for r in rows], due, "right") - 1
            flows = np.array([row.window.states[1] for row in rows])[at]
            columns["status"][flows & (np.arange(len(at)) % 20 == 0)] = 0
            np.savez(path, **columns)
    found = summarize(run)
    errors = {arm: row(found, arm, "error_percent").estimate for arm in ("http", "flows", "two")}
    assert errors["flows"] == pytest.approx(5.0, abs=0.3)
    assert errors["http"] == 0  # though flows is on in half of its windows
    assert errors["two"] == pytest.approx(5.0, abs=0.5)
    allowed = budgets.from_dict({"budget": [{"metric": "error_percent", "max": 0.5}]})
    judged = gates.judge(stored.of_summary(found), allowed)
    assert {v.arm for v in judged if v.outcome == "fail"} == {"flows", "two", "all"}
    assert {harm.arm for harm in found.harms} == {"flows", "two", "all"}


def apart(path: Path, us: float) -> Summary:
    """Each collector costs so much more in the first of two processes, and less in the second."""
    run = synthetic.write(path, experiment(), LOUD)
    for each in run.records():
        if each.trial.kind == "switched":
            rows = run.windows(each.trial)
            for window in rows:
                on = sum(window.window.states[: len(NAMES)])
                extra = 1e-6 * us * on * (1 if each.trial.block else -1)
                window.meters["cpu.workload"] += extra * window.meters["requests"]  # type: ignore[index]
            run.append(each, rows)
    return summarize(run)


def test_a_sum_is_apart_between_processes_by_more_than_its_parts(tmp_path: Path) -> None:
    """Six microseconds in the sum of three collectors where one of them is apart by two."""
    found = apart(tmp_path / "run", 2.0)
    one, together = (row(found, arm, "workload_cpu_us") for arm in ("http", "all"))
    plain = [b for b in found.blocks if b.arm == "all"]
    assert max(b.estimate for b in plain) - min(b.estimate for b in plain) > 11
    assert (together.high - together.low) > 2.5 * (one.high - one.low)


def test_load_from_another_machine_leaves_no_interaction_of_nothing(tmp_path: Path) -> None:
    def far(window: WindowRow) -> None:
        window.meters["cpu.client"] = 0.0  # type: ignore[index]

    node = {"target": "ssh:far", "url": "", "facts": {}}
    found = changed(tmp_path / "run", far, load_node=node)
    assert row(found, "two", "workload_cpu_us").estimate == pytest.approx(8.0, abs=0.5)
    for metric in ("client_cpu_us", "context_cpu_us", "interaction_us"):
        assert found.row("go", "two", metric) is None
        assert found.missing("go", "two", metric).startswith("The load came from another machine")


def test_an_interaction_that_differs_between_processes_has_a_wider_interval(
    tmp_path: Path,
) -> None:
    def dearer(window: WindowRow, more: float) -> None:
        http, flows, *_ = window.window.states
        extra = 1e-6 * more * window.meters["requests"] * (http and flows)
        window.meters["cpu.workload"] += extra  # type: ignore[index]

    run = synthetic.write(tmp_path / "run", experiment(), LOUD)
    for each in run.records():
        if each.trial.kind == "switched":
            rows = run.windows(each.trial)
            for window in rows:
                dearer(window, 8.0 if each.trial.block else 0.0)
            run.append(each, rows)
    found = row(summarize(run), "two", "interaction_us")
    assert found.p < 0.001
    assert found.low < 0 < found.high
