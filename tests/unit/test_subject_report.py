"""What a report says of other people's collectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.account import bill_rows
from harness.analysis.cell import Cell, coverage_rows, value_rows
from harness.analysis.compare import Estimate
from harness.analysis.summary import summarize
from harness.model import Arm, Measurement, Trial
from harness.report import headline
from harness.results.run import TrialRecord
from tests.unit import synthetic


def test_who_saw_less_than_95_percent_is_named_in_the_first_sentences(tmp_path: Path) -> None:
    found = summarize(synthetic.write(tmp_path / "run"))
    rows = [row for row in found.rows if not row.metric.startswith("coverage_percent")]
    seen = next(row for row in found.rows if row.metric == "coverage_percent[requests]")

    def told(percent: float, high: float, metric: str = seen.metric, n: int = 3000) -> str:
        row = replace(seen, metric=metric, estimate=percent, low=percent - 1, high=high, n=n)
        return headline.verdict(replace(found, rows=(*rows, row)))

    words = f"saw only 71 % of 3,000 requests of the {seen.workload} service"
    assert words in told(71.0, 72.0)
    assert "saw only" not in told(94.0, 95.2)  # it may have been 95
    assert "saw only" not in told(100.0, 100.0)
    samples = "coverage_percent[samples]"  # an expectation: fewer of them are in order, to a third
    assert "saw only" not in told(30.0, 40.0, samples)
    assert "saw only 5.0 % of about 3,000 samples of the" in told(5.0, 6.0, samples)
    assert f"saw only 3 of about 60 samples of the {seen.workload}" in told(5.0, 9.0, samples, 60)
    assert "saw none" in told(0.0, 0.1)
    assert "TLS" in told(0.0, 0.1)
    started = replace(seen, metric="startup_s", estimate=2.0)
    found = replace(found, rows=(*found.rows, started))
    rows.append(started)
    assert "does it know this kind of server?" in told(0.0, 0.1)
    assert "saw only" not in told(0.0, 0.1)


def test_of_what_runs_in_the_service_its_cpu_is_the_whole_bill() -> None:
    """90 of 100 requests were told of, and the service takes 300 us more for each."""
    trial = Trial(0, "flask", 0, "a", "switched", 1)
    told = {
        "startup_seconds": 2.0, "startup_plain_seconds": 0.5, "service_rss_bytes": 9e7,
        "plain_rss_bytes": 5e7, "signal_seen": 90, "signal_made": 100, "agent_pss_bytes": 3e7,
    }  # fmt: skip
    labels = {"collector": "a", "signal": "requests"}
    values = tuple(
        Measurement(name, each, "1", "flask", "a", 0, trial.name, labels=labels)
        for name, each in told.items()
    )
    arm = Arm("a", ("a",), (), "twin")
    one = Cell("flask", arm, ((TrialRecord(trial, "ok", values=values), ()),), ())

    def rows(microseconds: float) -> dict[str, float]:
        centre = Estimate(microseconds, microseconds - 20, microseconds + 20, 9)
        cost = one.row("workload_cpu_us", centre, 600.0, "by windows")
        every = (*value_rows(one), *coverage_rows(one), *bill_rows(one, [cost], {}))
        return {row.metric: row.estimate for row in every}

    found = rows(300.0)
    assert (found["startup_s"], found["startup_plain_s"]) == (2.0, 0.5)
    assert (found["service_rss_mb"], found["plain_rss_mb"]) == (90.0, 50.0)
    assert found["bill_us"] == 300.0
    assert found["bill_event_us"] == pytest.approx(300 / 0.9)
    assert found["coverage_percent[requests]"] == pytest.approx(90)
    assert "agent_us" not in found
    assert "bill_us" not in rows(-5.0)  # chance


def test_there_is_no_cost_of_an_event_where_none_was_counted(tmp_path: Path) -> None:
    """New Relic's agent in its developer mode posts nothing, and costs all the same."""
    found = summarize(synthetic.write(tmp_path / "run"))
    bill = next(row for row in found.rows if row.metric == "bill_us")
    counted = ("bill_event_us", "events_per_request", "runs_per_request")
    others = [row for row in found.rows if row.metric not in counted]
    rows = (*others, replace(bill, metric="startup_s"))
    where = bill.workload, bill.arm, "bill_event_us"
    told = replace(found, rows=rows).missing(*where)
    assert told == "What it saw was not counted: there is no cost of an event."
    samples = replace(bill, metric="coverage_percent[samples]", estimate=87.0)
    sampled = replace(found, rows=(*rows, samples)).missing(*where)
    assert sampled == "What it took are samples, by the clock: there is no cost of an event."
    none = replace(bill, metric="events_per_request", estimate=0.0)
    saw = replace(found, rows=(*rows, none)).missing(*where)
    assert (
        saw == "It told of no event: there is no cost of one."
    )  # as Elastic's of the JDK's server
    unknown = replace(found, rows=tuple(row for row in rows if row.metric != "bill_us"))
    assert "is not above nothing" in unknown.missing(*where)


def test_of_several_collectors_and_of_a_part_of_one_no_event_has_a_cost(tmp_path: Path) -> None:
    """None of these ran a program, as py-spy beside an agent in the service."""
    found = summarize(synthetic.write(tmp_path / "run"))
    bill = next(row for row in found.rows if row.metric == "bill_us")
    rows = (bill, replace(bill, metric="startup_s"))
    (own,) = (arm for arm in found.experiment.arms if arm.name == bill.arm)

    def told(collectors: tuple[str, ...], option: bool) -> str:
        arms = tuple(
            replace(arm, collectors=collectors) if arm is own else arm
            for arm in found.experiment.arms
        )
        kept = {name: {"name": name, "subject": {"option": {"on": []} if option else None}}
                for name in collectors}  # fmt: skip
        about = replace(found.about, collectors=kept)
        whole = replace(
            found, rows=rows, about=about, experiment=replace(found.experiment, arms=arms)
        )
        return whole.missing(bill.workload, bill.arm, "bill_event_us")

    assert told(("a", "b"), False) == "Events of several collectors are of different kinds."
    assert told(("a",), False).startswith("What it saw was not counted")
    assert told(("a",), True).startswith("It is a part of an agent: it told of the whole node")
