"""What becomes of a trial in which something fails, with a scripted driver."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import (
    CollectorError,
    ComponentError,
    LoadError,
    NeedError,
    StoreError,
    UnavailableError,
    WorkloadError,
)
from harness.model import Arm
from harness.node import attempt, trial
from harness.node.line import Gone
from harness.plan import trials
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment, plan
from harness.wire.spec import TrialResult

EXPERIMENT = Experiment("e", ("go",), (Arm("baseline"), Arm("http", ("http",))))
SPEC = trials.trial(EXPERIMENT, plan(EXPERIMENT)[0], resolve_all(EXPERIMENT))


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


def _testbed(dead: str = "") -> Any:
    def check() -> None:
        if dead:
            raise WorkloadError(dead)

    return SimpleNamespace(driver=Driver(), service=SimpleNamespace(check=check))


def _raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: Any) -> TrialResult:
        raise error

    monkeypatch.setattr(trial, "run", fails)


def test_a_trial_that_fails_under_load_does_not_fail_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed, failing = _testbed(), [True, False]

    def run(here: Any, _spec: Any, folder: Path) -> TrialResult:
        here.driver.start(100.0)
        if failing.pop(0):
            raise CollectorError("The agent of collector 'http' ended.")
        here.driver.finish(folder / "requests.npz")
        return TrialResult("ok")

    monkeypatch.setattr(trial, "run", run)
    first, second = (attempt.run(testbed, SPEC, tmp_path) for _ in "ab")
    assert (first.status, first.over, second.status) == ("failed", "", "ok")
    assert "The agent of collector 'http' ended." in (tmp_path / "error.txt").read_text()


@pytest.mark.parametrize(
    ("error", "status", "over"),
    [
        (CollectorError("It does not answer."), "failed", ""),
        (UnavailableError("It cannot run here."), "skipped", ""),
        (NeedError("Cannot start ./agent."), "failed", ""),  # one collector's, not the run's
        (ValueError("odd"), "failed", ""),
        (TypeError("float() argument must be a string, not 'NoneType'"), "failed", ""),
        (OSError(errno.EIO, "I/O error"), "failed", ""),
        (LoadError("The load driver ended."), "failed", "block"),
        (WorkloadError("It died."), "failed", "block"),
        (ComponentError("tempo ended."), "failed", "run"),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "run"),
        (StoreError("The disk is full to which the load driver writes."), "failed", "run"),
    ],
)
def test_the_class_of_an_error_says_what_is_over_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str, over: str
) -> None:
    _raising(monkeypatch, error)
    found = attempt.run(_testbed(), SPEC, tmp_path)
    assert (found.status, found.over, found.service) == (status, over, "")


def test_the_end_of_a_session_is_not_lost_in_what_fails_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> TrialResult:
        try:
            raise Gone("the controller hung up")
        finally:
            raise CollectorError("It does not end.")

    monkeypatch.setattr(trial, "run", fails)
    with pytest.raises(Gone, match="hung up"):
        attempt.run(_testbed(), SPEC, tmp_path)


def test_a_service_that_died_ends_the_block_with_its_own_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, CollectorError("It does not answer."))
    found = attempt.run(_testbed("The workload 'go' died (signal 9)."), SPEC, tmp_path)
    assert (found.over, found.service) == ("block", "The workload 'go' died (signal 9).")
    assert found.error is not None
    assert found.error["what"] == "It does not answer."


def test_a_disk_that_is_still_full_when_the_load_is_ended_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Driver, _path: Path) -> None:
        raise StoreError("The disk is full to which the load driver writes.")

    monkeypatch.setattr(Driver, "finish", full)
    _raising(monkeypatch, CollectorError("It does not answer."))
    found = attempt.run(_testbed(), SPEC, tmp_path)
    assert found.error is not None
    assert (found.error["what"], found.over) == ("It does not answer.", "")
