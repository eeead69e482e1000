"""The full bill against made-up runs of known cost: parts, sums, what is left, and who compares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import experiment as experiments
from harness.analysis import bill, validity, value
from harness.analysis.bill import Found, Metered
from harness.analysis.compare import Estimate
from harness.analysis.coverage import Count
from harness.analysis.summary import Summary, cpu_only, summarize
from harness.model import Arm, Comparison, Measurement, Trial, Window
from harness.report import build
from harness.store import Run, TrialRecord, WindowRow
from tests.unit import synthetic
from tests.unit.synthetic import Truth

COSTS = {"http": 6.0, "flows": 2.0, "profile": 0.0}
LOUD = Truth(COSTS, noise=0.01, outliers=0.0)
ONE = Estimate(1.0, 0.7, 1.2, 8)
ENTRY = {"cgroup_skb": {"entry_ns": 40.0, "low": 30.0, "high": 50.0}}


def experiment(*arms: Arm, **changes: Any) -> experiments.Experiment:
    keys: dict[str, Any] = {"workloads": ("go",), "switched_seconds": 3.0, **changes}
    return synthetic.experiment(arms=(Arm("baseline"), *arms), **keys)


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


def row(summary: Summary, arm: str, metric: str) -> Comparison:
    found = summary.row("go", arm, metric)
    assert found is not None, summary.missing("go", arm, metric)
    return found


def bpf_truth(*collectors: str) -> float:
    return sum(n * ns for c in collectors for _, n, ns in synthetic.PROGRAMS[c]) / 1e3


def record(
    values: Mapping[str, float], kind: str = "switched", labels: Mapping[str, str] | None = None
) -> TrialRecord:
    trial = Trial(0, "go", 0, "http", kind, 1)  # type: ignore[arg-type]
    return TrialRecord(
        trial, "ok", values=tuple(
            Measurement(name, number, "1", "go", "http", 0, trial.name, None, labels or {})
            for name, number in values.items()
        ),
    )  # fmt: skip


def metered(runs: Mapping[str, float], us: list[float] | None = None) -> Metered:
    """A metered trial of 1000 requests: runs by hook, and slices of 100 requests."""
    counts = [
        v for hook, n in runs.items()
        for v in record({"bpf_run_count": n}, "metered", {"program": hook, "hook": hook}).values
    ]  # fmt: skip
    whole = record({"metered_requests": 1000.0}, "metered")
    slices = tuple(
        WindowRow(
            Window(i, i // 4, True, i * 10**8, (i + 1) * 10**8),
            {"requests": 100.0, "bpf.run": each * 1e-4},
        )
        for i, each in enumerate(us or [])
    )
    return Metered(dataclasses.replace(whole, values=(*whole.values, *counts)), slices, 1000.0)


def test_intervals_of_a_sum_add_in_quadrature() -> None:
    total = bill.combined([(1.0, ONE), (1.0, Estimate(5.0, 4.6, 5.5, 4))])
    assert (total.estimate, total.low, total.high) == pytest.approx(
        (6.0, 5.5, 6 + math.hypot(0.2, 0.5))
    )
    assert total.n == 4
    less = bill.combined([(1.0, Estimate(5.0, 4.6, 5.5, 4)), (-1.0, ONE)])
    assert (less.low, less.high) == pytest.approx(
        (4 - math.hypot(0.4, 0.2), 4 + math.hypot(0.5, 0.3))
    )


def test_the_bill_is_bpf_plus_entry_plus_agent_as_far_as_known() -> None:
    agent = Found(Estimate(1.5, 1.0, 2.0, 2), value.MEAN)
    whole = bill.whole({"bpf_us": Found(ONE, ""), "entry_us": None, "agent_us": agent})
    assert whole is not None
    assert whole.value.estimate == 2.5
    assert whole.method.startswith("sum of bpf_us and agent_us;")
    entry = Found(Estimate(0.25, 0.2, 0.3, 2), "")
    more = bill.whole({"bpf_us": Found(ONE, ""), "entry_us": entry, "agent_us": agent})
    assert more is not None
    assert more.value.estimate == 2.75
    assert more.method.startswith("sum of bpf_us, entry_us and agent_us;")
    assert more.value.scaled(bill.machine_percent_factor(2500, 2)).estimate == pytest.approx(
        0.34375
    )
    assert bill.whole({"bpf_us": None, "agent_us": agent}) is None


def test_a_part_of_a_sole_trial_leaves_the_bill_without_an_interval() -> None:
    sole = Found(Estimate(1.5, math.nan, math.nan, 1), value.MEAN)
    whole = bill.whole({"bpf_us": Found(ONE, ""), "agent_us": sole})
    assert whole is not None
    assert whole.value.estimate == 2.5
    assert math.isnan(whole.value.low)
    assert math.isnan(whole.value.high)


def test_entry_is_runs_times_the_calibrated_cost() -> None:
    found = bill.entry_us([metered({"cgroup_skb": 2000.0, "iter": 0.0})], ENTRY)
    assert found is not None
    assert (found.value.estimate, found.value.low, found.value.high) == pytest.approx(
        (0.08, 0.06, 0.1)
    )


@pytest.mark.parametrize("entry", [{}, {"tp_btf": ENTRY["cgroup_skb"]}, {"cgroup_skb": {}}])
def test_a_hook_that_ran_and_is_not_calibrated_leaves_entry_out(entry: dict[str, Any]) -> None:
    assert bill.entry_us([metered({"cgroup_skb": 2000.0})], entry) is None


def test_slices_give_bpf_time_with_an_interval() -> None:
    found = bill.bpf_us([metered({}, [0.9, 1.1, 1.0, 1.05, 0.95, 1.0, 1.02, 0.98])])
    assert found is not None
    assert found.value.low < 1.0 < found.value.high
    assert found.value.high - found.value.low < 0.2


def test_rare_runs_are_not_lost_to_a_median() -> None:
    found = bill.bpf_us([metered({}, [0.0] * 15 + [8.0])])
    assert found is not None
    assert found.value.estimate == pytest.approx(0.5)
    assert found.method == bill.SUMS


def test_programs_in_the_agent_s_own_context_are_not_paid_twice() -> None:
    """The agent walks an iterator itself: its CPU time contains the programs."""
    twice = metered({"cgroup_skb": 2000.0, "iter": 5000.0})
    found = bill.entry_us([twice], {**ENTRY, "iter": {"entry_ns": 90.0}})
    assert found is not None
    assert found.value.estimate == pytest.approx(0.08)
    times = [
        v for hook, seconds in (("cgroup_skb", 1e-3), ("iter", 5e-3))
        for v in record({"bpf_run_time_seconds": seconds}, "metered", {"hook": hook}).values
    ]  # fmt: skip
    whole = dataclasses.replace(twice.record, values=(*twice.record.values, *times))
    old = bill.bpf_us([dataclasses.replace(twice, record=whole)])
    assert old is not None
    assert old.value.estimate == pytest.approx(1.0)
    listed = bill.programs(dataclasses.replace(twice, record=whole), ENTRY)
    assert "iter" in {program.hook for program in listed}


def found(estimate: float, half: float = 0.1) -> Found:
    return Found(Estimate(estimate, estimate - half, estimate + half, 50), "")


def test_the_residual_is_what_contexts_pay_beside_programs_and_entry() -> None:
    parts: dict[str, Found | None] = {"bpf_us": found(1.0, 0.3), "entry_us": found(0.5, 0.0)}
    left = bill.residual(parts, found(2.0, 0.4))
    assert left is not None
    assert (left.value.estimate, left.value.low) == pytest.approx((0.5, 0.0))
    assert "entry_us" in left.method
    without = bill.residual({**parts, "entry_us": None}, found(2.0))
    assert without is not None
    assert "entry_us" not in without.method
    assert bill.residual({"bpf_us": None}, found(2.0)) is None


def test_what_is_unexplained_is_a_share_of_what_the_host_pays() -> None:
    share = bill.unexplained_percent(found(0.5, 0.25), found(3.0), found(2.0))
    assert share is not None
    assert (share.value.estimate, share.value.low) == pytest.approx((10.0, 5.0))
    assert bill.unexplained_percent(found(0.5), found(-1.0, 3.0), found(2.0)) is None
    assert bill.unexplained_percent(found(0.5), None, found(2.0)) is None


def test_lost_events_are_a_share_of_all_and_loading_takes_as_long_as_the_slowest() -> None:
    trials = [record({"events_lost": lost, "events": 10.0}) for lost in (30.0, 0.0)]
    assert value.lost(trials) == Count(30.0, 50.0)
    assert value.lost([record({"events_lost": 0.0, "events": 0.0})]) is None
    assert value.lost([record({"events": 10.0})]) is None
    slow = [record({"load_seconds": s}, labels={"collector": str(s)}).values for s in (0.5, 2.0)]
    both = dataclasses.replace(record({}), values=(*slow[0], *slow[1]))
    assert value.RANGES["load_s"](both) == 2.0


def test_means_over_trials_have_students_interval_that_is_never_negative() -> None:
    used = [record({"steady_agent_cpu_seconds": s, "steady_requests": 1000}) for s in (1e-3, 3e-3)]
    found = value.mean(value.found(used, value.agent_us))
    assert (found.estimate, found.low, found.n) == (pytest.approx(2.0), 0.0, 2)
    assert found.high == pytest.approx(2.0 + 12.706, abs=0.01)  # t of 1 degree of freedom
    assert value.mean(value.found([record({})], value.agent_us)).n == 0
    assert (value.spread([1.0, 3.0]).low, value.spread([1.0, 3.0]).high) == (1.0, 3.0)


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
                window.meters["cpu.workload"] += 4e-6 * window.meters["requests"] * window.window.on
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
                slot.meters["bpf.run"] = 1e-6 * us(i, slot.window.on) * slot.meters["requests"]
            run.append(each, rows)
    return row(summarize(run), "new", "bpf_difference_us")


def test_a_difference_of_rare_runs_is_not_lost_to_a_median(tmp_path: Path) -> None:
    what = experiment(Arm("new", ("http",), ("flows",)), metered_seconds=12)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    rare = versus(run, lambda i, on: (9.0 if on else 3.0) * (i // 4 % 4 == 0))
    assert rare.estimate == pytest.approx(6.0 / 4)  # a fourth of the quadruples has runs
    assert rare.low < rare.estimate < rare.high
    assert rare.method == bill.SUMS


@pytest.mark.parametrize("us", [0.0, 2.0])
def test_differences_that_are_all_alike_have_no_interval(tmp_path: Path, us: float) -> None:
    what = experiment(Arm("new", ("http",), ("flows",)), metered_seconds=12)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    alike = versus(run, lambda i, on: us)
    assert alike.estimate == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(alike.low)
    assert math.isnan(alike.high)
    assert math.isnan(alike.p)


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


def test_a_trial_in_blocks_needs_both_halves(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", METHODS, LOUD)
    each = next(r for r in run.records() if r.trial.arm == "block" and r.trial.kind == "switched")
    rows = run.windows(each.trial)
    assert validity.judge_of(METHODS, each, rows).usable
    assert "halves" in validity.judge_of(METHODS, each, rows[:1]).reason
    twin = next(r for r in run.records() if r.trial.arm == "twin" and r.trial.kind == "switched")
    windows = run.windows(twin.trial)
    assert "quadruples" in validity.judge_of(METHODS, twin, windows[24:]).reason


def spoil(run: Run, **extra: Any) -> TrialRecord:
    """Make the first trial of `http` one that broke a rule."""
    first = next(r for r in run.records() if r.trial.arm == "http" and r.trial.kind == "switched")
    spoiled = dataclasses.replace(first, extra={"saturated": "it fell behind", **extra})
    run.append(spoiled, run.windows(first.trial))
    return first


def test_a_spoiled_trial_is_shown_and_its_repetition_used(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    first = spoil(run)
    assert row(summarize(run), "http", "workload_cpu_us").n == what.quadruples
    again = dataclasses.replace(first.trial, attempt=1)
    synthetic.add(run, what, again, LOUD, synthetic.np.random.default_rng(9))
    summary = summarize(run)
    assert row(summary, "http", "workload_cpu_us").n == 2 * what.quadruples
    page = build.build(run).html.read_text()
    assert "It fell behind." in page
    assert f"replaced by {again.name}" in page


def test_a_repetition_is_no_second_chance_for_a_result(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    before = row(summarize(run), "http", "workload_cpu_us")
    first = next(r for r in run.records() if r.trial.arm == "http" and r.trial.kind == "switched")
    again = dataclasses.replace(first.trial, attempt=1)
    synthetic.add(run, what, again, LOUD, synthetic.np.random.default_rng(9))
    assert row(summarize(run), "http", "workload_cpu_us") == before


def test_conditions_are_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    warm = [{"workload": "go", "block": 0, "seconds": 30.0, "steady": False}]
    early = {"go": {"blocks": 1, "reason": "Every interval was narrow enough."}}
    run = synthetic.write(tmp_path / "run", what, LOUD, warmups=warm, ended_early=early)
    page = build.build(run).html.read_text()
    assert "50 ms, from the machine&#39;s certificate" in page
    assert "6 ms, the default: no certificate" in page
    assert "polled instead of halting" in page
    assert "had not become steady after 30 s" in page
    assert "after 1 of 2 blocks. Every interval was narrow enough." in page


def test_a_run_from_before_all_this_still_has_a_report(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    new = ("idle_poll", "instrument", "warmups", "ended_early")
    about = {key: each for key, each in run.about().items() if key not in new}
    for key in ("idle_poll", "min_blocks", "replacements", "warmup_limit_seconds"):
        del about["experiment"][key]
    run.write_about(about)
    for each in run.records():
        values = tuple(
            dataclasses.replace(v, labels={k: x for k, x in v.labels.items() if k != "hook"})
            for v in each.values if v.metric != "steady_sink_cpu_seconds"
        )  # fmt: skip
        rows = run.windows(each.trial) if each.trial.kind == "switched" else ()
        run.append(dataclasses.replace(each, values=values), rows)
    summary = summarize(run)
    assert row(summary, "http", "bpf_us").estimate == pytest.approx(bpf_truth("http"))
    assert summary.row("go", "http", "entry_us") is None
    assert "No certificate of this machine" in summary.missing("go", "http", "entry_us")
    page = build.build(run).html.read_text()
    assert "not recorded: they halted, as far as is known" in page
    assert "entry to a program is not in it" in page
