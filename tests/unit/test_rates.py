"""Costs by the second and by the request: a line through two rates, and a third beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import rates
from harness.analysis.rates import Point
from harness.analysis.summary import Summary, summarize
from harness.errors import InputError
from harness.model import Arm
from harness.plan import experiment as experiments
from harness.plan import trials
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment
from harness.report import build, wording
from harness.report import rates as words
from tests.unit import synthetic
from tests.unit.costed import row

ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("all", ("http", "flows")))
RATE = synthetic.RATE["go"]
# of each collector, see synthetic._metered: agent and programs
SECOND_MCPU, REQUEST_US, BENT_MCPU = 2.0 + 0.1, 1.0 + 0.5, 1e3 * synthetic.BENT


def experiment(**changes: Any) -> Experiment:
    keys = {"switched_seconds": 1.2, "idle_seconds": 3.0, "low_rate_fraction": 0.25, **changes}
    return synthetic.experiment(workloads=("go",), arms=ARMS, **keys)


def made(path: Path, **changes: Any) -> Summary:
    return summarize(synthetic.write(path / "run", experiment(**changes)))


@pytest.mark.parametrize(("arm", "collectors"), [("http", 1), ("all", 2)])
def test_a_cost_comes_apart_into_what_the_second_and_what_the_request_takes(
    tmp_path: Path, arm: str, collectors: int
) -> None:
    summary = made(tmp_path)
    for metric, truth in (
        ("per_second_mcpu", SECOND_MCPU),
        ("per_request_us", REQUEST_US),
        ("tenth_rate_us", REQUEST_US + 1e4 * SECOND_MCPU / RATE),
        ("line_residual_mcpu", BENT_MCPU),
    ):
        found = row(summary, arm, metric)
        assert found.estimate == pytest.approx(collectors * truth)
        assert found.n == 2
    method = row(summary, arm, "line_residual_mcpu").method
    assert method.startswith("metered at 625 requests a second, less the line through 0 and 2,500 ")


def test_without_an_idle_part_the_line_goes_through_both_rates_and_nothing_is_beside_it(
    tmp_path: Path,
) -> None:
    summary = made(tmp_path, idle_seconds=0.0)
    low, high = 0.25 * RATE, RATE
    slope = REQUEST_US - 1e3 * BENT_MCPU / (high - low)
    found = row(summary, "http", "per_request_us")
    assert found.estimate == pytest.approx(slope)
    start = SECOND_MCPU + 1e-3 * (REQUEST_US - slope) * high
    assert row(summary, "http", "per_second_mcpu").estimate == pytest.approx(start)
    assert "through 625 and 2,500" in found.method
    assert summary.row("go", "http", "line_residual_mcpu") is None
    (sentence,) = words.sentences(summary)
    assert "third" not in sentence


def test_one_rate_makes_no_line(tmp_path: Path) -> None:
    summary = made(tmp_path, low_rate_fraction=0.0)
    assert summary.row("go", "http", "per_request_us") is None
    assert row(summary, "http", "idle_mcpu").estimate == pytest.approx(SECOND_MCPU)
    assert words.sentences(summary) == []
    assert rates.line([Point(0.0, 1.0)]) is None
    assert rates.line([Point(5.0, 1.0), Point(5.0, 2.0)]) is None


def test_a_line_tells_its_cost_at_any_rate() -> None:
    found = rates.line([Point(0.0, 4.0), Point(1_000.0, 6.0)])
    assert found is not None
    assert (found.mcpu, found.us, found.rate) == (4.0, 2.0, 1_000.0)
    assert math.isnan(found.beside)
    assert found.us_at(1_000.0) == 6.0
    assert found.us_at(100.0) == 42.0


def test_the_report_says_how_to_read_it(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", experiment())
    built = build.build(run)
    (sentence,) = words.sentences(built.summary)
    assert sentence.startswith(
        "go, by the second and by the request: all takes 4.2 thousandths of a CPU (the same in 2 "
        "trials) at any rate, and for each request 3.0 µs (the same in 2 trials), so that with ten "
        "times fewer requests each costs 20 µs (the same in 2 trials)"
    )
    assert sentence in built.markdown.read_text()
    page = built.html.read_text()
    assert "by the second and by the request" in page
    assert "a request at a tenth of the rate" in page


@pytest.mark.parametrize("off", [-7.5, 7.5])
def test_what_a_third_rate_refutes_is_not_told(tmp_path: Path, off: float) -> None:
    summary = made(tmp_path)
    bent = tuple(
        replace(each, estimate=off, low=off - 4, high=off + 4)
        if each.metric == "line_residual_mcpu"
        else each
        for each in summary.rows
    )
    summary = replace(summary, rows=bent)
    (sentence,) = words.sentences(summary)
    assert "not told. all takes 4.2 thousandths of a CPU" in sentence
    assert "ten times fewer" not in sentence
    (_, _, cells), *_ = words.sheet(summary, "go").rows
    assert [cell.text for cell in cells][1:3] == ["not told", "not told"]
    assert cells[0].text != "not told"


def test_a_share_of_the_rate_is_asked_for_in_metered_trials() -> None:
    what = experiment()
    planned = next(t for t in experiments.plan(what) if (t.arm, t.kind) == ("http", "metered"))
    assert trials.trial(what, planned, resolve_all(what)).timing.low_rate == 0.25
    without = experiment(low_rate_fraction=0.0)
    assert what.expected_seconds() > without.expected_seconds() + 2 * 2 * 12
    for wrong in (-0.1, 1.0):
        with pytest.raises(InputError, match="low_rate_fraction must lie in"):
            experiment(low_rate_fraction=wrong)


def resting(summary: Summary, low: float, estimate: float, high: float) -> list[str]:
    """What is said where requests cause so much of 5 us."""
    changed: dict[str, dict[str, Any]] = {
        "agent_us": {"estimate": 5.0, "low": 4.0, "high": 6.0},
        "agent_driven_us": {"estimate": estimate, "low": low, "high": high},
    }
    rows = tuple(replace(each, **changed.get(each.metric, {})) for each in summary.rows)
    return words.at_rest(replace(summary, rows=rows))


def test_what_agents_take_at_rest_is_told_of_their_bill(tmp_path: Path) -> None:
    summary = made(tmp_path)
    (part,) = resting(summary, 1.0, 2.0, 3.0)
    assert part.startswith("go, at rest: the agents of all take 5.0 µs ([4.0, 6.0]")
    assert "a request; 2.0 µs ([1.0, 3.0]" in part
    assert "are what requests add to what is taken while no request comes" in part
    (same,) = resting(summary, -1.0, 0.5, 2.0)
    assert "and 4.5 µs in the same time while no request comes" in same
    assert f"what requests add, +0.5 µs ([{wording.MINUS}1.0, 2.0]" in same
    assert same.endswith("is not told from nothing.")
    (more,) = resting(summary, -4.0, -3.0, -2.0)
    assert "the clock alone wakes them they take more, by 3.0 µs" in more
    assert resting(summary, math.nan, 1.0, math.nan) == []
    without = made(tmp_path / "none", idle_seconds=0.0)
    assert words.at_rest(without) == []
