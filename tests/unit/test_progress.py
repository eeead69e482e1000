"""How far a run is, as its bar is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.controller.progress import Progress
from harness.plan import experiment as experiments
from harness.plan.allotment import Allotment
from harness.plan.experiment import Experiment

QUICK = experiments.load(Path("quick"))  # which begins with a pilot


def shares(e: Experiment, begin: int = 0) -> list[float]:
    """What is told as each of the trials ends, those before `begin` done already."""
    told: list[float] = []
    progress = Progress(e, lambda done, total, _: told.append(done / total))
    trials = experiments.plan(e)
    progress.expect(trials[begin:])
    progress.tell("the first")
    for trial in trials[begin:]:
        progress.finished(trial)
    return told


def test_what_a_pilot_is_to_decide_is_not_done_before_it_has() -> None:
    pilot = shares(QUICK)
    assert pilot[0] == pytest.approx(0)
    assert pilot == sorted(pilot)
    assert 0.2 < pilot[-1] < 0.9
    given = {name: Allotment(6, {"factorial": 20.0}) for name in QUICK.workloads}
    rest = shares(replace(QUICK, allotted=given), begin=len(experiments.plan(QUICK)))
    assert 0.2 < rest[0] < 0.9
    assert rest[-1] == pytest.approx(1)


def test_without_a_pilot_the_last_trial_is_the_end() -> None:
    told = shares(replace(QUICK, pilot_blocks=0, budget_seconds=None))
    assert (told[0], told[-1]) == pytest.approx((0, 1))
