"""A pilot: what it decides, that effects have no say in it, and that a run goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.summary import summarize
from harness.cli import choice
from harness.collectors import resolve
from harness.controller import piloting
from harness.controller.due import pending
from harness.controller.stopping import StoppingRule
from harness.errors import InputError
from harness.model import FACTORIAL, Arm
from harness.plan import allotment, experiment, trials
from harness.plan.experiment import Experiment
from harness.report import conditions
from harness.results.run import Run
from tests.unit import synthetic

ARMS = (
    Arm("baseline", (), (), FACTORIAL),
    Arm("http", ("http",), (), FACTORIAL),
    Arm("flows", ("flows",), (), FACTORIAL),
    Arm("all", ("http", "flows"), (), FACTORIAL),
)
NOISY = {"go": 0.01, "java": 0.10}


def piloted(**changes: Any) -> Experiment:
    keys: dict[str, Any] = {
        "workloads": ("go", "java"), "arms": ARMS, "pilot_blocks": 2, "metered_blocks": 3,
        "budget_seconds": 300.0, "switched_seconds": 8.0, "metered_seconds": 0.5,
    }  # fmt: skip
    return synthetic.experiment(**{**keys, **changes})


def a_pilot(path: Path, costs: float = 0.5, e: Experiment | None = None) -> Run:
    """A run whose pilot has been measured: Java's windows are ten times as noisy."""
    e = e or piloted()
    run = synthetic.write(path, e, only=())
    for trial in experiment.plan(e):
        truth = synthetic.Truth(
            {"http": costs, "flows": costs / 2}, drift=0.0, outliers=0.0,
            noise=NOISY[trial.workload],
        )  # fmt: skip
        synthetic.add(run, e, trial, truth, np.random.default_rng([1, trial.index]))
    run.note(
        block_seconds=[
            {"workload": w, "block": b, "seconds": 20.0} for w in e.workloads for b in (0, 1)
        ]
    )
    return run


def test_before_it_has_decided_a_plan_has_the_pilot_alone() -> None:
    plan = experiment.plan(piloted())
    blocks = list(dict.fromkeys((t.workload, t.block) for t in plan))
    assert blocks == [("go", 0), ("java", 0), ("go", 1), ("java", 1)]


def test_time_goes_where_the_variance_is(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    piloting.decide(run, 100.0)
    decided, kept = run.experiment(), run.about().pilot
    java, go = decided.allotted["java"], decided.allotted["go"]
    assert java.blocks > go.blocks >= 3
    windows = {w: (a.blocks - 2) * a.seconds[FACTORIAL] for w, a in decided.allotted.items()}
    assert windows["java"] > 4 * windows["go"]
    assert kept["left_seconds"] == 200
    assert kept["workloads"]["go"]["overhead_seconds"] == pytest.approx(12)
    spreads = {w: of["spreads"][FACTORIAL] for w, of in kept["workloads"].items()}
    assert spreads["go"].keys() == {"baseline", "http", "flows"}  # `all` is their sum
    assert spreads["java"]["http"]["within"] > 20 * spreads["go"]["http"]["within"]


def test_effects_have_no_say(tmp_path: Path) -> None:
    """The same noise with other costs, or with none, or with negative ones: the same plan."""
    found = []
    for number, costs in enumerate((0.0, 0.5, 3.0, -2.0)):
        run = a_pilot(tmp_path / str(number), costs)
        piloting.decide(run, 100.0)
        found.append(run.experiment().allotted)
    for allotted in found[1:]:
        assert {w: a.blocks for w, a in allotted.items()} == {
            w: a.blocks for w, a in found[0].items()
        }
        for w, a in allotted.items():
            assert a.seconds[FACTORIAL] == pytest.approx(found[0][w].seconds[FACTORIAL], rel=0.02)


def test_run_that_is_resumed_goes_on_with_what_was_decided(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    before = pending(run)
    assert before == []
    piloting.decide(run, 100.0)
    decided, due = run.about().pilot, pending(run)
    again = Run.open(run.path)
    piloting.decide(again, 250.0)  # which has been decided
    assert again.about().pilot == decided
    assert pending(again) == due
    assert {t.block for t in due if t.workload == "java"} == set(
        range(2, run.experiment().allotted["java"].blocks)
    )
    done = {record.trial.index for record in run.records()}
    assert not done & {trial.index for trial in due}


def test_trials_after_the_pilot_have_what_they_were_given(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    piloting.decide(run, 100.0)
    e = run.experiment()
    known = {spec: resolve(spec) for spec in ("http", "flows")}
    for trial in pending(run):
        spec = trials.trial(e, trial, known)
        if trial.kind == "metered":
            assert trial.block < 3
            continue
        given = e.allotted[trial.workload].seconds[FACTORIAL]
        cycles = int(given / e.window_seconds + 1e-9) // 8
        assert len(spec.windows) == 8 * cycles
        assert (spec.timing.steady > 0) == (trial.block < 3)


def test_blocks_after_the_pilot_take_turns(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    piloting.decide(run, 100.0)
    later = [t.workload for t in pending(run) if t.kind == "switched"]
    half = len(later) // 2
    assert {"go", "java"} == set(later[:half]) | set(later[half:])
    assert later[-1] == "java"
    assert "java" in later[:2]


def test_pilot_that_used_the_time_up_gives_none(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    piloting.decide(run, 299.0)
    assert pending(run) == []
    assert not run.experiment().awaits_pilot
    assert "go none, java none" in allotment.shares(run.experiment())


def test_service_that_told_nothing_is_taken_for_the_noisiest(tmp_path: Path) -> None:
    e = piloted()
    run = synthetic.write(tmp_path / "run", e, only=[t.index for t in experiment.plan(e)][:2])
    piloting.decide(run, 100.0)
    go, java = (run.about().pilot["workloads"][w]["spreads"][FACTORIAL] for w in ("go", "java"))
    assert list(java) == [FACTORIAL]
    assert java[FACTORIAL]["within"] == max(each["within"] for each in go.values())


def test_clock_still_ends_a_run_with_a_pilot(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    now = [0.0]
    rule = StoppingRule(run, lambda: now[0])
    now[0] = 160.0
    assert not rule.reached("go", 1)  # its half of the time is over: a pilot gives it, not halves
    now[0] = 301.0
    assert rule.reached("go", 2)


def test_report_says_what_was_decided(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    piloting.decide(run, 100.0)
    told = dict(conditions.measuring(summarize(run)))
    assert "by variances alone, never by effects" in told["pilot"]
    assert "go" in told["pilot"]
    assert "more of" in told["pilot"]
    assert told["blocks"].startswith("go ")


def test_plan_says_what_is_fixed_and_what_is_not() -> None:
    said = "\n".join(choice.plan(choice.chosen("quick")))
    assert "2 or more blocks" in said
    assert "the pilot decides how many more blocks" in said
    assert "and what the pilot gives" in said


def test_fewer_services_have_as_much_less_time() -> None:
    whole, one = choice.chosen("quick"), choice.chosen("quick", workloads=["go"])
    assert one.budget_seconds == pytest.approx((whole.budget_seconds or 0) / 3, abs=0.1)
    assert choice.chosen("quick", minutes=20).budget_seconds == 1200
    full = choice.chosen("quick", stack="full")
    assert (full.pilot_blocks, full.blocks, full.budget_seconds) == (0, 4, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pilot_blocks": 1}, "at least 2"),
        ({"budget_seconds": None}, "needs budget_seconds"),
        ({"metered_blocks": -1}, "must not be negative"),
        ({"arms": (Arm("baseline"), Arm("b", ("http",), (), "block"))}, "one difference"),
    ],
)
def test_pilot_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        piloted(**changes)


def test_decision_is_no_part_of_what_was_asked(tmp_path: Path) -> None:
    run = a_pilot(tmp_path / "run")
    piloting.decide(run, 100.0)
    assert experiment.from_dict(experiment.to_dict(run.experiment())) == piloted()
    with pytest.raises(InputError, match="allotted"):
        experiment.from_dict({**experiment.to_dict(piloted()), "allotted": {}})
