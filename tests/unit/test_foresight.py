"""What a plan would see follows from what runs on the same machine, under the same load, saw."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.foresight import Past, foreseen
from harness.cli import foretold
from harness.model import FACTORIAL, Arm, Comparison, Load
from harness.plan.allotment import Allotment
from harness.plan.experiment import Experiment
from harness.report import stored
from harness.results.run import Run

BASELINE, HTTP, BOTH = Arm("baseline"), Arm("http", ("http",)), Arm("both", ("http", "flows"))
ONE = Experiment("e", ("go",), (BASELINE, HTTP, BOTH), blocks=4, switched_seconds=10.0)
PUBLISHED = Path(__file__).parents[2] / "reports/published/quick"


def row(arm: str, mde: float) -> Comparison:
    metric, method = "workload_cpu_percent", "robust regression on windows"
    return Comparison("go", arm, metric, "%", 0.1, 0.0, 0.2, 9, mde, 100.0, method)


def past(e: Experiment = ONE, name: str = "then", **mde: float) -> Past:
    rows = {("go", arm, "workload_cpu_percent"): row(arm, each) for arm, each in mde.items()}
    return Past(name, e, rows)


def percent(e: Experiment, *runs: Past) -> float:
    (found,) = foreseen(e, runs)
    return found.percent


def test_the_same_plan_sees_what_it_saw_of_one_collector() -> None:
    (found,) = foreseen(ONE, [past(http=2.0, both=4.0)])
    assert (found.workload, found.method, found.percent) == ("go", "switch", 2.0)
    assert found.run == "then"


def test_four_times_the_blocks_see_half_and_longer_blocks_alone_promise_nothing() -> None:
    assert percent(replace(ONE, blocks=16), past(http=2.0)) == 1.0
    assert percent(replace(ONE, switched_seconds=40.0), past(http=2.0)) == 2.0
    assert percent(replace(ONE, blocks=1), past(http=2.0)) == 4.0


def test_the_worst_arm_and_the_shortest_time_decide() -> None:
    flows = Arm("flows", ("flows",))
    two = replace(ONE, arms=(BASELINE, HTTP, flows))
    assert percent(two, past(two, http=1.0, flows=2.0)) == 2.0
    given = Allotment(4, {"http": 5.0, "flows": 20.0})
    allotted = replace(two, allotted={"go": given})
    assert percent(replace(two, blocks=8), past(allotted, http=2.0, flows=2.0)) == 2.0


def test_more_comparisons_are_held_to_a_stricter_level() -> None:
    one = replace(ONE, arms=(BASELINE, HTTP))
    many = tuple(Arm(f"a{number}", (f"inject:ns={number}",)) for number in range(12))
    found = percent(replace(one, arms=(BASELINE, *many)), past(one, http=2.80))
    assert found == pytest.approx(3.71, abs=0.01)


def test_blocks_for_which_there_is_no_time_promise_nothing() -> None:
    whole = replace(ONE, blocks=40)
    half = replace(whole, budget_seconds=whole.expected_seconds() / 4)
    assert percent(half, past(replace(ONE, blocks=10), http=2.0)) >= 1.9
    assert percent(whole, past(replace(ONE, blocks=10), http=2.0)) == 1.0


def test_what_stops_at_a_precision_sees_no_more_than_that() -> None:
    stops = replace(ONE, blocks=400, precision_percent=1.0)
    assert percent(stops, past(http=2.0)) == pytest.approx(1.0 * 2.8 / 1.96)


def test_before_a_pilot_it_goes_by_the_time_as_a_whole() -> None:
    quick = replace(ONE, pilot_blocks=2, budget_seconds=100.0)
    assert percent(replace(quick, budget_seconds=400.0), past(quick, http=2.0)) == 1.0


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, workloads=("java",)),
        replace(ONE, loads={"go": Load(rate=7.0)}),
        replace(ONE, stack="full"),
        replace(ONE, service_cpus=2),
        replace(ONE, arms=(BASELINE, replace(HTTP, method="block"))),
        replace(ONE, arms=(BASELINE, BOTH)),
    ],
)
def test_what_was_measured_otherwise_tells_nothing(other: Experiment) -> None:
    assert math.isnan(percent(ONE, past(other, http=2.0)))
    assert percent(ONE, past(other, http=2.0), past(name="second", http=3.0)) == 3.0


def test_a_run_without_a_figure_tells_nothing() -> None:
    assert math.isnan(percent(ONE, past()))
    assert math.isnan(percent(ONE, past(http=math.nan)))


def test_every_workload_and_method_has_an_answer() -> None:
    arms = (BASELINE, replace(HTTP, method=FACTORIAL), replace(BOTH, method="block"))
    found = list(foreseen(replace(ONE, workloads=("go", "java"), arms=arms), [past(http=1.0)]))
    assert [(each.workload, each.method) for each in found] == [
        ("go", FACTORIAL), ("go", "block"), ("java", FACTORIAL), ("java", "block"),
    ]  # fmt: skip
    assert all(math.isnan(each.percent) and not each.run for each in found)


def _blocks(blocks: int) -> Experiment:
    arms = BASELINE, replace(HTTP, method="block")
    return Experiment("e", ("go",), arms, blocks=blocks, switched_seconds=10.0)


def test_fewer_trials_by_block_than_an_interval_needs_promise_nothing() -> None:
    (found,) = foreseen(_blocks(5), [past(_blocks(6), http=2.0)])
    assert (found.lacking, math.isnan(found.percent)) == ("blocks", True)
    assert "fewer than six trials have no interval: give more blocks" in foretold._sentence(found)
    assert percent(_blocks(6), past(_blocks(6), http=2.0)) == 2.0
    half = replace(_blocks(8), budget_seconds=_blocks(8).expected_seconds() / 4)
    (found,) = foreseen(half, [past(_blocks(6), http=2.0)])
    assert found.lacking == "time"
    (found,) = foreseen(replace(ONE, blocks=5), [past(http=2.0)])
    assert not found.lacking  # it goes by windows


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    shutil.copytree(PUBLISHED, tmp_path / "one")
    return tmp_path


def said(reports: Path, target: str = "local", **facts: object) -> list[str]:
    run = Run.open(reports / "one")
    there = stored.measured(PUBLISHED / "report.json").facts
    return list(foretold.lines(run.experiment(), reports, {**there, **facts}, target))


def test_a_run_of_this_machine_is_asked(reports: Path) -> None:
    rows = json.loads((PUBLISHED / "report.json").read_text())["rows"]
    singles = [
        each["mde"] for each in rows
        if each["workload"] == "go" and each["metric"] == "workload_cpu_percent"
        and each["arm"] in ("http", "flows", "profile", "guard")
    ]  # fmt: skip
    go, *others = said(reports)
    about = f"{max(singles):.2g}"
    assert go.startswith(f"go by factorial: a cost is seen from about {about} % of its CPU")
    assert len(others) == 2


def test_nothing_is_foretold_of_arms_that_are_skipped(reports: Path) -> None:
    run = Run.open(reports / "one")
    facts = stored.measured(PUBLISHED / "report.json").facts
    arms = {arm.name for arm in run.experiment().arms if arm.collectors}
    assert not list(foretold.lines(run.experiment(), reports, facts, "local", skipped=arms))


def test_that_of_another_machine_or_one_that_is_cut_short_is_not(reports: Path) -> None:
    assert all("is not known" in each for each in said(reports, kernel="another"))
    assert all("is not known" in each for each in said(reports, target="kind"))
    file = reports / "one" / "report.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "complete": False}))
    assert all("is not known" in each for each in said(reports))
    file.write_text("{")
    assert all("is not known" in each for each in said(reports))
