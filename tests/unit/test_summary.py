"""The rows of whole made-up runs of known cost: parts, differences, corrections, by each method."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis import bill, validity
from harness.analysis.summary import Summary, cpu_only, summarize
from harness.model import Arm, Comparison
from harness.report import build
from harness.results.run import Run
from tests.unit import synthetic
from tests.unit.costed import COSTS, LOUD, bpf_truth, changeable, experiment, row

STACKED = experiment(
    Arm("http", ("http",)), Arm("flows", ("flows",)), Arm("both", ("http", "flows")),
    Arm("new", ("http",), ("flows",)),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return synthetic.write(tmp_path_factory.mktemp("runs") / "run", STACKED, LOUD)


@pytest.fixture(scope="module")
def summary(run: Run) -> Summary:
    return summarize(run)


def test_the_parts_of_a_whole_run_come_back(summary: Summary) -> None:
    bpf, entry = row(summary, "http", "bpf_us"), row(summary, "http", "entry_us")
    assert bpf.low < bpf_truth("http") < bpf.high
    assert entry.estimate == pytest.approx(2.24 * 0.04)
    whole = row(summary, "http", "bill_us")
    agent = row(summary, "http", "agent_us")
    assert whole.estimate == pytest.approx(bpf.estimate + entry.estimate + agent.estimate)
    host, left = row(summary, "http", "host_cpu_us"), row(summary, "http", "unexplained_us")
    assert left.low < 0.0 < left.high  # nobody else pays in the made-up run
    share = row(summary, "http", "unexplained_percent")
    assert share.estimate == pytest.approx(100 * left.estimate / (host.estimate + agent.estimate))
    assert 0.45 < row(summary, "http", "sink_us").estimate < 0.6


def test_collectors_that_only_add_up_show_no_interaction(summary: Summary) -> None:
    found = row(summary, "both", "interaction_us")
    assert found.low < 0.0 < found.high
    each = [row(summary, arm, "context_cpu_us").estimate for arm in ("both", "http", "flows")]
    assert found.estimate == pytest.approx(each[0] - each[1] - each[2])
    assert summary.row("go", "http", "interaction_us") is None


def test_collectors_that_cost_more_together_show_it(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", STACKED, LOUD)
    for each in run.records():
        if each.trial.arm == "both" and each.trial.kind == "switched":
            rows = run.windows(each.trial)
            for window in rows:
                more = 4e-6 * window.meters["requests"] * window.window.on
                changeable(window)["cpu.workload"] += more
            run.append(each, rows)
    found = row(summarize(run), "both", "interaction_us")
    assert found.low > 0
    assert found.low < 4.0 < found.high


def test_an_arm_against_another_set_gives_their_difference(summary: Summary) -> None:
    cost = row(summary, "new", "workload_cpu_us")
    assert cost.low < COSTS["http"] - COSTS["flows"] < cost.high
    bpf = row(summary, "new", "bpf_difference_us")
    truth = bpf_truth("http") - bpf_truth("flows")
    assert bpf.estimate == pytest.approx(truth, abs=0.03)
    assert bpf.level == pytest.approx(bpf_truth("flows"), rel=0.05)
    own = row(summary, "new", "bpf_us")
    assert own.estimate == pytest.approx(bpf_truth("http"), rel=0.05)
    memory = row(summary, "new", "agent_memory_mb")
    assert memory.estimate < 30  # of one agent, not of both
    other = row(summary, "new", "agent_memory_difference_mb")
    assert abs(other.estimate) < 3
    assert other.level == pytest.approx(27, abs=1.5)
    assert summary.row("go", "http", "bpf_difference_us") is None
    assert summary.row("go", "new", "unexplained_us") is None
    assert "two sets" in summary.missing("go", "new", "unexplained_us")
    roles = {p.role for p in summary.programs if p.arm == "new"}
    assert roles == {"candidate", "reference"}


def versus(run: Run, us: Callable[[int, bool], float]) -> Comparison:
    """bpf_difference_us of the arm `new`, if slice i of a trial ran so long (us a request)."""
    for each in run.records():
        if each.trial.arm == "new" and each.trial.kind == "metered":
            rows = run.windows(each.trial)
            for i, slot in enumerate(rows):
                meters = changeable(slot)
                meters["bpf.run"] = 1e-6 * us(i, slot.window.on) * meters["requests"]
            run.append(each, rows)
    return row(summarize(run), "new", "bpf_difference_us")


def test_a_difference_of_rare_runs_is_not_lost_to_a_median(tmp_path: Path) -> None:
    what = experiment(Arm("new", ("http",), ("flows",)), metered_seconds=12)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    rare = versus(run, lambda i, on: (9.0 if on else 3.0) * (i // 4 % 4 == 0))
    assert rare.estimate == pytest.approx(6.0 / 4)  # a fourth of the quadruples has runs
    assert rare.low < rare.estimate < rare.high
    assert rare.method == bill.SUMS


def test_differences_that_are_all_alike_have_no_interval(tmp_path: Path) -> None:
    what = experiment(Arm("new", ("http",), ("flows",)), metered_seconds=12)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    alike = versus(run, lambda i, on: 2.0)
    assert alike.estimate == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(alike.low)
    assert math.isnan(alike.high)
    assert math.isnan(alike.p)


def test_two_sets_of_which_no_program_ran_may_differ_by_the_bound_either_way(
    tmp_path: Path,
) -> None:
    what = experiment(Arm("new", ("http",), ("flows",)), metered_seconds=12)
    none = versus(synthetic.write(tmp_path / "run", what, LOUD), lambda i, on: 0.0)
    assert none.estimate == 0.0
    assert -none.low == none.high > 0
    assert "rule of three" in none.method


def test_losses_are_pooled_over_trials_with_an_exact_interval(summary: Summary) -> None:
    """Two trials without a loss do not make it certain that there is none."""
    lost = row(summary, "http", "lost_percent")
    assert lost.low == lost.estimate == 0.0
    assert 0.0 < lost.high == pytest.approx(100 * (1 - 0.025 ** (1 / lost.n)))
    assert "Clopper-Pearson" in lost.method
    assert summary.row("go", "baseline", "lost_percent") is None


def test_programs_of_an_arm_against_another_count_their_own_requests(summary: Summary) -> None:
    runs = {p.program: p.runs_per_request for p in summary.programs if p.arm == "new"}
    assert runs["http_ingress"] == pytest.approx(1.12)
    assert runs["flow_bytes"] == pytest.approx(2.3)


def test_every_difference_has_its_noise_and_costs_are_corrected(summary: Summary) -> None:
    null = row(summary, "baseline", "workload_cpu_us")
    found = row(summary, "http", "workload_cpu_us")
    assert found.noise == pytest.approx((null.high - null.low) / 2)
    assert found.p < 0.05
    others = {arm: row(summary, arm, "workload_cpu_us") for arm in ("http", "flows", "both", "new")}
    least = min(others.values(), key=lambda r: r.p)
    assert least.p_holm == pytest.approx(4 * least.p)
    assert all(r.p_holm >= r.p for r in summary.rows if not math.isnan(r.p_holm))
    assert all(r.p <= r.p_holm for r in others.values())
    assert row(summary, "http", "workload_cpu_percent").p_holm == found.p_holm
    assert math.isnan(null.p_holm)
    assert null.p > 0
    assert math.isnan(row(summary, "http", "bpf_us").noise)


def test_the_cheap_rows_are_those_of_the_summary(run: Run, summary: Summary) -> None:
    cheap = {r.arm: (r.estimate, r.low, r.high, r.n) for r in cpu_only(run)}
    assert cheap == {
        r.arm: (r.estimate, r.low, r.high, r.n)
        for r in summary.rows
        if r.metric == "workload_cpu_percent"
    }


def test_costs_are_corrected_over_the_arms_of_all_services(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), Arm("flows", ("flows",)), workloads=("go", "java"))
    found = summarize(synthetic.write(tmp_path / "run", what, LOUD))
    costs = [r for r in found.rows if r.metric == "workload_cpu_us" and r.arm != "baseline"]
    assert len(costs) == 4
    least = min(costs, key=lambda r: r.p)
    assert least.p_holm == pytest.approx(4 * least.p)


def test_what_would_be_seen_is_held_to_the_level_that_resolved_asks_for(tmp_path: Path) -> None:
    """Over four arms a row has to be four times as rare, which takes 2.5 standard errors, not 2."""
    arms = [Arm(name, ("profile",)) for name in ("a", "b", "c", "d")]
    several = summarize(synthetic.write(tmp_path / "several", experiment(*arms), LOUD))
    alone = summarize(synthetic.write(tmp_path / "one", experiment(*arms[:1]), LOUD))
    for found, factor in ((several, 2.498 + 0.84), (alone, 1.96 + 0.84)):
        null = row(found, "baseline", "workload_cpu_us")
        assert null.mde == pytest.approx(factor * (null.high - null.low) / 2 / 1.96, rel=1e-3)


METHODS = experiment(
    Arm("null-twin", (), (), "twin"), Arm("twin", ("http",), (), "twin"),
    Arm("block", ("http",), (), "block"), blocks=6,
)  # fmt: skip


def test_twins_and_blocks_are_compared_their_own_way(tmp_path: Path) -> None:
    truth = dataclasses.replace(LOUD, drift=0.0, cpu_us={"http": 12.0})
    run = synthetic.write(tmp_path / "run", METHODS, truth)
    summary = summarize(run)
    assert all(judged.usable for judged in summary.trials)
    twin, block = (row(summary, arm, "workload_cpu_us") for arm in ("twin", "block"))
    for found in (twin, block):
        assert found.low < 12.0 < found.high
        assert found.low > 0
    latency = row(summary, "block", "latency_p50_us")
    assert latency.low < truth.latency_us["http"] < latency.high
    assert latency.n == 6
    assert (block.n, twin.n) == (6, 6 * METHODS.quadruples)
    host = row(summary, "block", "host_cpu_us")
    softirq = row(summary, "block", "softirq_cpu_us")
    assert host.method == softirq.method == block.method  # a tick in half a trial is nothing
    assert softirq.n == 6
    assert softirq.low < softirq.high
    assert "order" not in " ".join(summary.warnings)
    null = row(summary, "null-twin", "workload_cpu_us")
    assert twin.noise == pytest.approx((null.high - null.low) / 2)
    assert math.isnan(block.noise)  # no A/A arm is compared in blocks
    page = build.build(run).html.read_text()
    assert "nothing (A/A, twin)" in page
    assert "<small>block</small>" in page


def test_an_order_that_was_had_more_often_is_told(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", dataclasses.replace(METHODS, blocks=3), LOUD)
    told = " ".join(summarize(run).warnings)
    assert "go, twin: of 3 blocks 1 more had one order than the other: 1/3 of what sets" in told
    assert "go, block: of 3 blocks 1 more had one order than the other: 1/3 of the mach" in told
    assert "go, baseline: of" not in told


def test_a_service_that_was_found_running_is_told_what_blocks_are(tmp_path: Path) -> None:
    service = {"name": "web", "description": "runs already, found by --unit", "running": None}
    for name, found in (("started", None), ("found", {"unit": "web"})):
        own = {**service, "running": found}
        run = synthetic.write(tmp_path / name, experiment(), LOUD, own_workload=own)
        told = [text for text in summarize(run).warnings if "repeat on the same processes" in text]
        assert len(told) == (1 if found else 0)


def test_a_trial_in_blocks_needs_all_parts(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", METHODS, LOUD)
    each = next(r for r in run.records() if r.trial.arm == "block" and r.trial.kind == "switched")
    rows = run.windows(each.trial)
    assert validity.judge_of(METHODS, each, rows).usable
    assert "parts" in validity.judge_of(METHODS, each, rows[:1]).reason
    twin = next(r for r in run.records() if r.trial.arm == "twin" and r.trial.kind == "switched")
    windows = run.windows(twin.trial)
    assert "quadruples" in validity.judge_of(METHODS, twin, windows[24:]).reason
