"""The parts of the full bill from made-up trials: sums, what is left, and means over trials."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest

from harness.analysis import bill, unseen, value
from harness.analysis.bill import Found, Metered
from harness.analysis.compare import Estimate
from harness.analysis.coverage import Count
from harness.model import Measurement, Trial, Window, WindowRow
from harness.results.run import TrialRecord

ONE = Estimate(1.0, 0.7, 1.2, 8)
ENTRY = {"cgroup_skb": {"entry_ns": 40.0, "low": 30.0, "high": 50.0}}


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
    listed = bill.programs(dataclasses.replace(twice, record=whole), "http", ENTRY)
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
    assert found.estimate == pytest.approx(2.0)
    assert (found.low, found.n) == (0.0, 2)
    assert found.high == pytest.approx(2.0 + 12.706, abs=0.01)  # t of 1 degree of freedom
    assert value.mean(value.found([record({})], value.agent_us)).n == 0
    assert (value.spread([1.0, 3.0]).low, value.spread([1.0, 3.0]).high) == (1.0, 3.0)


def test_programs_that_never_ran_have_an_upper_bound() -> None:
    """The rule of three: at 3.7 runs in all there would be none in 2.5 % of cases."""
    found = bill.bpf_us([metered({"tp_btf": 0.0}, [0.0] * 10), metered({}, [0.0] * 10)])
    assert found is not None
    assert (found.value.estimate, found.value.low) == (0.0, 0.0)
    assert found.value.high == pytest.approx(3.69 * unseen.LONGEST_US / 2000, rel=1e-3)
    assert "rule of three" in found.method
    agent = Found(Estimate(2.0, 1.5, 2.5, 4), "")
    whole = bill.whole({"bpf_us": found, "agent_us": agent})
    assert whole is not None
    assert whole.value.low == 1.5
    assert 2.5 < whole.value.high < 2.51


def test_a_run_that_was_seen_outside_of_the_slices_sizes_the_bound() -> None:
    trial = metered({"tp_btf": 2.0}, [0.0] * 10)
    told = record({"bpf_run_time_seconds": 80e-6}, "metered", {"program": "tp_btf"}).values
    counted = dataclasses.replace(trial.record, values=(*trial.record.values, *told))
    found = bill.bpf_us([dataclasses.replace(trial, record=counted)])
    assert found is not None
    assert found.value.high == pytest.approx(3.69 * 40 / 1000, rel=1e-3)


def test_what_is_exactly_zero_without_an_interval_takes_none_from_a_sum() -> None:
    nothing = Estimate(0.0, math.nan, math.nan, 1)
    assert bill.combined([(1.0, ONE), (1.0, nothing)]) == ONE
    assert math.isnan(bill.combined([(1.0, nothing)]).low)
    unknown = Estimate(1.0, math.nan, math.nan, 1)
    assert math.isnan(bill.combined([(1.0, ONE), (1.0, unknown)]).low)
