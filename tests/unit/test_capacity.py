"""What a full service answers, on and off: rows from made-up runs, and when there are none."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analysis import budgets, gates
from harness.analysis.capacity import Saturation
from harness.analysis.summary import Summary, summarize
from harness.controller.due import replacement
from harness.errors import InputError
from harness.model import Arm, Trial, Window, WindowRow
from harness.node import requests
from harness.node import saturation as filling
from harness.node.load_driver import Capacity
from harness.node.testbed import TrialLog
from harness.plan import design, methods, saturation, trials
from harness.plan import experiment as experiments
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment
from harness.report import build, stored
from harness.report import saturation as words
from harness.results.check import check
from harness.results.run import Run
from tests.unit import synthetic
from tests.unit.costed import row
from tests.unit.synthetic import Truth

LEVEL = synthetic.LEVEL_US["go"]
COSTS = {"http": 6.0, "flows": 2.0, "profile": 0.0}
EXACT = Truth(COSTS, drift=0.0, noise=0.0, outliers=0.0)
NOISY = Truth(COSTS, noise=0.01)
SWITCHED = (
    Arm("baseline"), Arm("http", ("http",)), Arm("newer", ("http",), ("flows",)),
    Arm("apart", ("http",), method="block"),
)  # fmt: skip
SHARED = tuple(
    Arm(name, collectors, method="factorial")
    for name, collectors in {
        "baseline": (), "http": ("http",), "flows": ("flows",), "profile": ("profile",),
        "all": ("http", "flows", "profile"),
    }.items()
)  # fmt: skip


def experiment(arms: tuple[Arm, ...] = SWITCHED, **changes: Any) -> Experiment:
    keys = {"workloads": ("go",), "switched_seconds": 4.0, "saturated_seconds": 8.0, **changes}
    return synthetic.experiment(arms=arms, **keys)


def made(path: Path, what: Experiment, truth: Truth) -> Summary:
    run = synthetic.write(path / "run", what, truth)
    assert check(run) == []
    return summarize(run)


def per_s(us: float) -> float:
    """What a service answers whose requests take so much CPU, in the made-up closed loop."""
    return 0.97e6 / us


def test_without_noise_the_difference_comes_back_exactly(tmp_path: Path) -> None:
    summary = made(tmp_path, experiment(), EXACT)
    off = per_s(LEVEL)
    for arm, on, level in (
        ("baseline", off, off), ("http", per_s(LEVEL + 6), off),
        ("newer", per_s(LEVEL + 6), per_s(LEVEL + 2)),
    ):  # fmt: skip
        found, share = (row(summary, arm, f"capacity_{unit}") for unit in ("per_s", "percent"))
        assert found.estimate == pytest.approx(on - level, rel=1e-6, abs=1e-6)
        assert found.level == pytest.approx(level)
        assert share.estimate == pytest.approx(100 * (on / level - 1), rel=1e-6, abs=1e-6)
        assert (share.unit, share.level, found.unit) == ("%", 100.0, "1/s")


def test_with_noise_the_interval_holds_the_difference_and_the_coins_tell_it(
    tmp_path: Path,
) -> None:
    summary = made(tmp_path, experiment(), NOISY)
    truth = 100 * (LEVEL / (LEVEL + 6) - 1)
    found = row(summary, "http", "capacity_percent")
    assert found.low < truth < found.high < -10
    assert found.p < 0.001
    assert found.p_holm < 0.001
    assert found.noise > 0
    assert found.mean == pytest.approx(truth, abs=2)
    null = row(summary, "baseline", "capacity_percent")
    assert null.low < 0 < null.high
    assert math.isnan(null.p_holm)


def test_every_collector_of_a_shared_trial_has_its_own_capacity(tmp_path: Path) -> None:
    still = dataclasses.replace(
        NOISY, drift=0.0
    )  # a service that slows down loses less to the same
    summary = made(tmp_path, experiment(SHARED, saturated_seconds=16.0), still)
    assert [t.record.trial.arm for t in summary.trials if t.record.trial.kind == "saturated"] == [
        "factorial", "factorial",
    ]  # fmt: skip
    levels = [LEVEL]  # of every combination of collectors
    for cost in COSTS.values():
        levels = [*levels, *(each + cost for each in levels)]
    effect = {
        c: _mean(per_s(e) for e in _with(c)) - _mean(per_s(e) for e in _without(c)) for c in COSTS
    }
    off = _mean(map(per_s, levels)) - sum(effect.values()) / 2
    for arm in ("http", "flows", "profile", "baseline"):
        truth = 100 * effect.get(arm, 0.0) / off
        found = row(summary, arm, "capacity_percent")
        assert found.estimate == pytest.approx(truth, abs=0.4)
        assert found.high - found.low < 1.5
    whole = row(summary, "all", "capacity_percent")
    assert whole.high < -15
    assert whole.estimate == pytest.approx(100 * (LEVEL / (LEVEL + 8) - 1), abs=2)


def _without(collector: str) -> list[float]:
    """CPU of a request, with every combination of the others."""
    levels = [LEVEL]
    for name, cost in COSTS.items():
        levels += [each + cost for each in levels if name != collector]
    return levels


def _with(collector: str) -> list[float]:
    return [each + COSTS[collector] for each in _without(collector)]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def full(summary: Summary, arm: str) -> Saturation:
    return next(each for each in summary.saturations if each.arm == arm)


def edited(run: Run, **values: float) -> Summary:
    """The run, with other values in each of its saturated trials."""
    for record in run.records():
        if record.trial.kind == "saturated":
            kept = [v for v in record.values if v.metric not in values]
            new = [
                dataclasses.replace(kept[0], metric=name, value=number)
                for name, number in values.items()
            ]
            run.append(dataclasses.replace(record, values=(*kept, *new)), run.windows(record.trial))
    return summarize(run)


def test_where_the_load_driver_was_full_there_is_a_sentence_and_no_figure(tmp_path: Path) -> None:
    truth = dataclasses.replace(NOISY, driver_share=0.97)
    summary = made(tmp_path, experiment(), truth)
    assert summary.row("go", "http", "capacity_percent") is None
    assert all(trial.usable for trial in summary.trials)  # nothing is run again for that
    told = summary.missing("go", "http", "capacity_percent")
    assert told.startswith("The load driver was full, not the service: it used 97% of its CPU, the")
    (sentence,) = words.sentences(summary)
    assert sentence == f"go, capacity: not told. {full(summary, 'baseline').limit}"
    assert summary.row("go", "http", "workload_cpu_us") is not None


def test_a_driver_that_had_to_wait_for_its_cpu_was_full_too(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), NOISY)
    summary = edited(run, driver_starved_share=0.3)
    assert "60% of its CPU and waited for it in 30% of the time" in full(summary, "http").limit


def test_several_load_workers_are_full_when_their_cpus_are_or_one_of_them_is(
    tmp_path: Path,
) -> None:
    """Together they used more than one CPU, and less than the two that they had."""
    truth = dataclasses.replace(NOISY, driver_share=1.2)
    run = synthetic.write(tmp_path / "run", experiment(), truth)
    assert "it used 120% of its CPU" in full(summarize(run), "http").limit  # as of one process
    summary = edited(run, saturated_driver_cpus=2.0, driver_cpu_share=0.6)
    assert full(summary, "http").limit == ""
    assert full(summary, "http").driver_share == pytest.approx(0.6)
    summary = edited(run, saturated_driver_cpus=2.0, driver_cpu_share=0.95)
    assert "it used 95% of its 2 CPUs" in full(summary, "http").limit


def test_a_service_that_is_not_full_has_no_capacity(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), NOISY)
    summary = edited(run, saturated_cpus=4.0)
    limit = full(summary, "http").limit
    assert "Neither was full" in limit
    assert "the service 24% of its 4 CPUs" in limit
    assert "Set loads.go.connections higher, or give the service fewer CPUs" in limit
    assert summary.row("go", "http", "capacity_percent") is None
    # others, or the hypervisor, may have had the rest
    for taken in ("service_starved_share", "steal_share"):
        summary = edited(run, saturated_cpus=4.0, **{taken: 0.2})
        assert "Neither was full" in full(summary, "http").limit
    summary = edited(run, saturated_cpus=4.0, service_starved_share=0.65, steal_share=0.0)
    assert full(summary, "http").limit == ""
    assert "Others kept the service from its CPU in 65% of the time" in full(summary, "http").doubt


def test_what_another_collector_fills_is_not_full_by_itself(tmp_path: Path) -> None:
    """Half of the windows with `flows` and half of those without have a dear collector on."""
    run = synthetic.write(tmp_path / "run", experiment(SHARED, saturated_seconds=16.0), NOISY)
    for record in run.records():
        if record.trial.kind == "saturated":
            rows = [_calm(each) for each in run.windows(record.trial)]
            run.append(record, rows)
    summary = summarize(run)
    assert "load driver was full" in full(summary, "flows").limit
    assert summary.row("go", "flows", "capacity_percent") is None


def _calm(each: WindowRow) -> WindowRow:
    """The same; with nothing on, the load driver is full before the service."""
    if each.window.on:
        return each
    seconds = each.meters["seconds"]
    meters = {**each.meters, "cpu.client": 0.99 * seconds, "cpu.workload": 0.4 * seconds}
    return dataclasses.replace(each, meters=meters)


def test_requests_that_outlast_the_guard_time_are_told_of(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), NOISY)
    assert full(summarize(run), "http").doubt == ""
    doubt = full(edited(run, saturated_connections=1_000.0), "http").doubt
    assert "a request is under way for 3" in doubt
    assert "only 20 ms after each switch" in doubt
    assert doubt in words.note(summarize(run), "go")


def test_a_trial_that_was_given_up_has_no_windows_and_is_not_run_again(tmp_path: Path) -> None:
    what = experiment()
    run = synthetic.write(tmp_path / "run", what, NOISY)
    for record in run.records():
        if record.trial.kind == "saturated":
            extra = {"unfilled": {"driver_cpu_share": 0.98, "per_s": 7000.0}}
            given_up = dataclasses.replace(record, values=(), extra=extra)
            run.append(given_up, [])
            assert replacement(what, given_up, []) is None
    assert check(run) == []
    summary = summarize(run)
    assert all(trial.usable for trial in summary.trials)
    assert full(summary, "http").limit == (
        "The load driver was full, not the service: it used 98% of its CPU at 7,000 requests a "
        "second. Take a dearer request."
    )
    assert "not told" in build.build(run).markdown.read_text()


def test_a_saturated_trial_is_judged_by_rules_of_its_own(tmp_path: Path) -> None:
    what = experiment()
    run = synthetic.write(tmp_path / "run", what, NOISY)  # a thread waits in 90 % of the time
    assert all(trial.usable for trial in summarize(run).trials)
    summary = edited(run, steal_share=0.4)
    spoiled = [t for t in summary.trials if not t.usable]
    assert {t.record.trial.kind for t in spoiled} == {"saturated"}
    assert "The hypervisor took 40.0%" in summary.missing("go", "http", "capacity_percent")
    assert "hypervisor" not in summary.missing("go", "http", "bill_us")


def test_the_report_tells_what_it_means_and_what_is_known(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), NOISY)
    built = build.build(run)
    text, page = built.markdown.read_text(), built.html.read_text()
    for shown in (text, page):
        assert "each of 16 connections asks again as soon as it is answered" in shown
        assert "service on CPU 0, load driver on CPU 1" in shown
        assert "0.010 % of the requests failed and do not count" in shown
    (sentence,) = words.sentences(built.summary)
    assert sentence in text
    assert sentence.startswith("go, capacity: when full it answers 3")
    document = stored.measured(tmp_path / "run" / "report.json")
    assert ("go", "http", "capacity_percent") in document.rows


def test_a_budget_may_hold_a_capacity(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment(), NOISY)
    for least, verdict in ((-30.0, "pass"), (-5.0, "fail")):
        budget = budgets.from_dict(
            {"budget": [{"metric": "capacity_percent", "arm": "http", "min": least}]}
        )
        found = gates.judge(stored.of_summary(summarize(run)), budget)
        assert {each.outcome for each in found if each.metric == "capacity_percent"} == {verdict}


# the node


class Driver:
    """A load driver that finds this share of its CPU used in a closed loop."""

    def __init__(self, cpu_share: float) -> None:
        self.cpu_share, self.pressed = cpu_share, 0

    def capacity(self, _seconds: float) -> Capacity:
        self.pressed += 1
        return Capacity(rate=7_000.0, cpu_share=self.cpu_share)


@pytest.mark.parametrize(
    ("arm", "share", "goes_on", "pressed"),
    [("http", 0.5, True, 1), ("http", 0.97, False, 1), ("newer", 0.97, True, 0)],
)
def test_no_time_goes_into_a_service_that_the_load_driver_cannot_fill(
    arm: str, share: float, goes_on: bool, pressed: int
) -> None:
    driver, (_, spec) = Driver(share), _spec(experiment(), arm)
    testbed: Any = SimpleNamespace(driver=driver, service=SimpleNamespace(check=lambda: None))
    notes = TrialLog(spec)
    assert filling.is_filled(testbed, notes) is goes_on
    assert driver.pressed == pressed
    told = {} if goes_on else {"unfilled": {"driver_cpu_share": share, "per_s": 7_000.0}}
    assert notes.details == told


def test_only_what_was_answered_well_counts() -> None:
    log: Any = SimpleNamespace(
        end_ns=np.array([5, 1, 2, 3, 12]),
        status=np.array([200, 200, 503, 0, 200]),
        failed=np.array([False, False, True, True, False]),
    )
    rows = [WindowRow(Window(i, 0, bool(i), 10 * i, 10 * i + 9), {}) for i in (0, 1)]
    assert [r.meters["requests"] for r in requests.count_well(rows, log)] == [2.0, 1.0]
    assert [r.meters["requests"] for r in requests.count(rows, log)] == [3.0, 1.0]


def test_the_cpus_of_a_service_are_those_of_its_processes() -> None:
    assert filling.usable_cpus([os.getpid()]) == sorted(os.sched_getaffinity(0))
    assert filling.usable_cpus([2**22 + 1]) == []


# the plan


def test_saturated_trials_are_the_last_of_a_block_and_of_switched_arms_only() -> None:
    what = experiment()
    kinds = [t.kind for t in experiments.plan(what) if t.block == 0]
    assert kinds == sorted(kinds, key=["switched", "metered", "saturated"].index)
    mine = [t.arm for t in experiments.plan(what) if t.kind == "saturated" and t.block == 0]
    assert mine == ["baseline", "http", "newer"]
    without = dataclasses.replace(what, saturated_seconds=0.0)
    assert {t.kind for t in experiments.plan(without)} == {"switched", "metered"}
    assert what.expected_seconds() > without.expected_seconds() + 6 * 8


def _spec(what: Experiment, arm: str) -> tuple[Trial, Any]:
    planned = next(t for t in experiments.plan(what) if (t.arm, t.kind) == (arm, "saturated"))
    return planned, trials.trial(what, planned, resolve_all(what))


def test_its_windows_are_longer_and_alternate_by_the_coin() -> None:
    _, spec = _spec(experiment(), "newer")
    assert (spec.method, spec.timing.window, spec.timing.guard) == ("saturate", 0.1, 0.02)
    assert len(spec.windows) == 4 * saturation.quadruples(experiment()) == 80
    assert all(w.collectors == (w.on, not w.on) for w in spec.windows)
    what = experiment(SHARED, saturated_seconds=16.0)
    planned, spec = _spec(what, "factorial")
    assert spec.shared
    assert spec.cycle == 16
    assert [w.states for w in spec.windows] == design.states(4, 10, planned.seed)
    what = experiment(window_seconds=0.4, guard_seconds=0.03, switched_seconds=8.0)
    _, spec = _spec(what, "http")
    assert (spec.timing.window, spec.timing.guard, len(spec.windows)) == (0.4, 0.03, 20)


def test_too_few_seconds_are_refused_and_arms_apart_share_them() -> None:
    with pytest.raises(InputError, match="at least 4 quadruples"):
        experiment(saturated_seconds=1.0)
    with pytest.raises(InputError, match=r"at least 4 cycles of 16 windows of 0.1 s: 6.4 s"):
        experiment(SHARED, saturated_seconds=5.0)
    with pytest.raises(InputError, match="must not be negative"):
        experiment(saturated_seconds=-1.0)
    assert methods.apart(experiment(SHARED, saturated_seconds=16.0)).saturated_seconds == 3.2
    assert methods.apart(experiment(SHARED, saturated_seconds=0.0)).saturated_seconds == 0
