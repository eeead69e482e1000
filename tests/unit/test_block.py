"""One trial of a block that fails, and the warm-up of its processes, with a scripted driver."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import CollectorError, LoadError
from harness.model import Arm, Trial
from harness.node import block, trial, warm_up
from harness.node.block import Block, Clock
from harness.plan.experiment import Experiment, plan
from harness.results.run import Run, TrialRecord

EXPERIMENT = Experiment("e", ("go",), (Arm("baseline"), Arm("http", ("http",))), blocks=2)


class Driver:
    """Runs one phase at a time, as the load driver does."""

    running = False

    def start(self, rate: float) -> None:
        if self.running:
            raise LoadError("The load driver failed to start.", "A phase is running already.")
        self.running = True

    def finish(self, path: Path) -> None:
        if not self.running:
            raise LoadError("The load driver failed to finish.", "No phase is running.")
        self.running = False


@pytest.fixture
def one(tmp_path: Path) -> Any:
    """Runs a trial of a block; the store that it goes to."""
    store = Run.create(tmp_path / "r", EXPERIMENT, skipped_arms=[], warmups=[])
    clock = Clock(EXPERIMENT, lambda *_: None)
    nobody: Any = None
    this = Block(store, EXPERIMENT, nobody, nobody, nobody, nobody, clock)
    stage: Any = SimpleNamespace(driver=Driver(), workload=SimpleNamespace(check=lambda: None))
    return store, lambda each: this._one(stage, each)[0]


def test_a_trial_that_fails_under_load_does_not_fail_the_next(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = one
    first, second, third = plan(EXPERIMENT)[:3]

    def dies(stage: Any, each: Trial, folder: Path) -> tuple[TrialRecord, list[Any]]:
        if each == third:
            raise CollectorError("It did not start.")
        stage.driver.start(100.0)
        if each == first:
            raise CollectorError("The agent of collector 'http' ended.")
        stage.driver.finish(folder / "requests.npz")
        return TrialRecord(each, "ok"), []

    monkeypatch.setattr(trial, "run", dies)
    assert [run(each).status for each in (first, second, third)] == ["failed", "ok", "failed"]
    reasons = [record.reason for record in store.records()]
    assert reasons == ["The agent of collector 'http' ended.", "", "It did not start."]


def test_the_warm_up_of_a_twin_is_noted_beside_the_block_s(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = one
    took = {"arm": "twin", "seconds": 30.0, "steady": False}
    record = TrialRecord(plan(EXPERIMENT)[0], "ok", extra={"warmup": took})
    monkeypatch.setattr(block.trials, "run", lambda *_: (record, []))
    run(record.trial)
    assert store.about()["warmups"] == [{"workload": "go", "block": 0, **took}]


@pytest.mark.parametrize(
    ("falling", "least", "limit", "seconds", "steady"),
    [(0.0, 0.5, 30.0, 4.0, True), (0.0, 6.0, 30.0, 6.0, True), (1.0, 0.5, 5.2, 5.2, False)],
)
def test_a_process_is_warm_once_its_cost_is_steady(
    monkeypatch: pytest.MonkeyPatch,
    falling: float, least: float, limit: float, seconds: float, steady: bool,
) -> None:  # fmt: skip
    """By a scripted clock: 100 requests a second of 50 us each, and what falls in a second."""
    now = [100.0]
    monkeypatch.setattr(warm_up.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(warm_up.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))

    def used() -> float:
        t = now[0] - 100
        return 100 * 50e-6 * (t + falling * (10 * t - t * t / 2))

    assert warm_up.await_steady(used, least, limit, 100.0) == (pytest.approx(seconds), steady)
