"""Events a request and costs per event, from made-up counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import events
from harness.analysis.bill import Found, Metered
from harness.analysis.compare import Estimate
from harness.analysis.summary import Summary, summarize
from harness.model import Arm, Measurement, Trial
from harness.report import build, headline, rows, sheets, tiles, wording
from harness.results.run import TrialRecord
from tests.unit import synthetic

ARMS = (Arm("baseline"), Arm("flows", ("flows",)), Arm("guard", ("guard",)))


def metered(requests: float, values: Mapping[tuple[str, str], float]) -> Metered:
    """A metered trial of so many requests; values by metric and hook."""
    trial = Trial(0, "go", 0, "http", "metered", 1)
    told = tuple(
        Measurement(name, number, "1", "go", "http", 0, trial.name, None, {"hook": hook})
        for (name, hook), number in values.items()
    )
    return Metered(TrialRecord(trial, "ok", values=told), (), requests)


def test_counts_are_pooled_over_trials() -> None:
    trials = [
        metered(1000, {("bpf_run_count", "tp_btf"): 40, ("metered_events", ""): 20}),
        metered(3000, {("bpf_run_count", "tp_btf"): 60, ("metered_events", ""): 20}),
    ]
    found = dict(events.counts(trials, alone=True))
    assert found["runs_per_request"].value.estimate == pytest.approx(100 / 4000)
    seen = found["events_per_request"].value
    assert seen.estimate == pytest.approx(0.01)
    assert seen.low < 0.0073 < 0.0135 < seen.high  # Garwood: 40 [28.6, 54.5]
    assert seen.n == 2
    assert "spans_per_request" not in found


def test_what_an_agent_runs_itself_is_no_run_of_the_load() -> None:
    trials = [metered(1000, {("bpf_run_count", "iter"): 900, ("bpf_run_count", "tp_btf"): 5})]
    assert dict(events.counts(trials, alone=True))["runs_per_request"].value.estimate == 0.005


def test_events_of_several_collectors_make_no_sum() -> None:
    trials = [metered(1000, {("bpf_run_count", "tp_btf"): 40, ("metered_events", ""): 20})]
    assert set(dict(events.counts(trials, alone=False))) == {"runs_per_request"}
    assert dict(events.counts([], alone=True)) == {}


def found(estimate: float, half: float = 0.0, n: int = 2) -> Found:
    return Found(Estimate(estimate, estimate - half, estimate + half, n), "")


def test_a_cost_per_event_is_a_cost_per_request_in_its_share() -> None:
    counted = {"events_per_request": found(0.02, 0.002)}
    parts = {"bpf_us": found(0.04, 0.01), "entry_us": found(0.01), "bill_us": found(1.0, 0.1)}
    costs = dict(events.costs(parts, counted))
    assert costs["bpf_event_us"].value.estimate == pytest.approx(2.5)
    assert costs["bpf_event_us"].method.startswith("(bpf_us + entry_us) / events_per_request;")
    assert costs["bill_event_us"].value.estimate == pytest.approx(50)
    assert costs["bill_event_us"].value.low < 50 / 1.1
    assert dict(events.costs({"bill_us": None, "bpf_us": None}, counted)) == {}


@pytest.mark.parametrize(
    ("hook", "runs", "idle"),
    [("tp_btf", 0, True), ("tp_btf", 9, True), ("tp_btf", 10, False), ("perf_event", 2, False),
     ("perf_event", 0, True), ("iter", 900, False)],
)  # fmt: skip
def test_programs_that_hardly_ran_had_no_events(hook: str, runs: float, idle: bool) -> None:
    """Of 1,000 requests; what an agent runs itself tells nothing."""
    assert events.is_idle([metered(1000, {("bpf_run_count", hook): runs})]) == idle


def test_where_nothing_was_metered_nothing_is_known() -> None:
    assert not events.is_idle([])
    assert not events.is_idle([metered(1000, {})])


def test_nothing_is_divided_by_no_events() -> None:
    counted = {"events_per_request": found(0.0)}
    assert dict(events.costs({"bill_us": found(1.0)}, counted)) == {}


def test_the_interval_of_a_ratio_is_that_of_its_parts_alone() -> None:
    one = events.ratio(Estimate(10, 8, 13, 9), Estimate(2, 2, 2, 4))
    assert (one.estimate, one.low, one.high, one.n) == pytest.approx((5, 4, 6.5, 4))
    other = events.ratio(Estimate(10, 10, 10, 9), Estimate(2, 1.6, 2.5, 4))
    assert (other.low, other.high) == pytest.approx((4, 6.25))


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        a, b = random.normal(10, 2), random.normal(1, 0.1)
        over = Estimate(a, a - 1.96 * 2, a + 1.96 * 2, 9)
        one = events.ratio(over, Estimate(b, b - 0.196, b + 0.196, 9))
        held += one.low <= 10 <= one.high
    assert 0.93 < held / 2000 < 0.97


def test_a_ratio_to_what_is_hardly_known_is_too_wide_rather_than_too_narrow() -> None:
    rough = events.ratio(Estimate(10, 9, 11, 9), Estimate(1, 0.2, 3, 4))
    assert (rough.low, rough.high) == (3, 55)
    assert math.isnan(events.ratio(Estimate(10, 9, 11, 9), Estimate(1, 0, 4, 4)).high)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A load under which guard's programs run 0.0025 times a request."""
    what = synthetic.experiment(
        workloads=("go",), arms=ARMS, switched_seconds=1.2, idle_seconds=3.0
    )
    run = synthetic.write(tmp_path_factory.mktemp("events") / "run", what)
    build.build(run)
    return summarize(run)


def test_a_row_without_events_says_so_and_is_no_cost(summary: Summary) -> None:
    assert wording.is_idle(summary, "go", "guard")
    assert not wording.is_idle(summary, "go", "flows")
    assert not wording.is_idle(summary, "go", "baseline")
    assert "guard" not in headline.verdict(summary)
    (sentence,) = headline.sentences(summary)
    assert "no events under this load: guard" in sentence
    assert summary.row("go", "guard", "bill_event_us") is None
    assert rows.document(summary)["without_events"] == [{"workload": "go", "arm": "guard"}]
    assert "made no events" in summary.missing("go", "guard", "bill_event_us")


@pytest.mark.parametrize(
    ("new", "old", "idle"),
    [("guard", "flows", False), ("flows", "guard", False), ("guard", "guard", True)],
)
def test_of_two_sets_either_that_has_events_makes_a_difference(
    new: str, old: str, idle: bool, tmp_path: Path
) -> None:
    arms = (Arm("baseline"), Arm("new", (new,), (old,)))
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=1.2)
    found = summarize(synthetic.write(tmp_path / "run", what))
    assert wording.is_idle(found, "go", "new") == idle


def test_the_card_of_what_would_have_been_seen_leaves_out_what_is_no_cost(
    summary: Summary,
) -> None:
    coarse = dataclasses.replace(
        summary,
        rows=tuple(
            dataclasses.replace(row, mde=50.0) if row.arm == "guard" else row
            for row in summary.rows
        ),
    )
    card = next(
        each for each in tiles.tiles(coarse) if each.title == "Would have been seen anywhere"
    )
    assert card.about == "of a request's CPU: flows, go service"


def test_no_table_calls_it_a_resolved_cost(summary: Summary) -> None:
    wrong = dataclasses.replace(
        summary,
        rows=tuple(
            dataclasses.replace(row, low=1.0, estimate=2.0, high=3.0, p_holm=0.001)
            if row.arm == "guard" and row.metric == "workload_cpu_us"
            else row
            for row in summary.rows
        ),
    )
    sheet = sheets.trust(wrong, "go")
    told = {arm: cells[sheet.columns.index("resolved")].text for arm, _, cells in sheet.rows}
    assert told["guard"] == "no events under this load"
    assert told["flows"] in ("resolved", "in these processes", "no")


def test_the_report_has_events_and_their_costs(summary: Summary, tmp_path: Path) -> None:
    row, cost = (summary.row("go", "flows", m) for m in ("events_per_request", "bill_event_us"))
    whole = summary.row("go", "flows", "bill_us")
    assert row is not None and cost is not None and whole is not None  # noqa: PT018
    assert row.estimate == pytest.approx(synthetic.EVENTS["flows"], rel=0.01)
    assert cost.estimate == pytest.approx(whole.estimate / row.estimate)
    assert cost.low < cost.estimate < cost.high


def test_idle_cost_splits_the_agent_s_cpu_by_time_and_by_requests(summary: Summary) -> None:
    idle, driven = (summary.row("go", "flows", m) for m in ("idle_mcpu", "agent_driven_us"))
    agent, rate = (summary.row("go", "flows", m) for m in ("agent_us", "rate_per_s"))
    assert idle is not None and driven is not None  # noqa: PT018
    assert agent is not None and rate is not None  # noqa: PT018
    assert idle.estimate == pytest.approx(2.1)  # 2 of the agent, 0.1 of the programs
    assert driven.estimate == pytest.approx(agent.estimate - 2000 / rate.estimate)
