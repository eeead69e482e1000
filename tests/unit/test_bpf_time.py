"""What a metered trial tells of a collector that cannot be switched off, with made-up parts."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis import events
from harness.analysis.bill import Metered
from harness.load.record import Record
from harness.model import Measurement, Trial
from harness.node import bpf_time, windows
from harness.node.agent_process import AgentProcess
from harness.node.foreign_agent import ForeignAgent
from harness.node.load_driver import LoadSummary
from harness.node.testbed import TrialLog
from harness.results.run import TrialRecord
from harness.wire.spec import WindowState

BEFORE, BETWEEN, AFTER = 30, 60, 10  # requests answered outside of the slices and in them
EVENTS = 3  # of one request


class Driver:
    """Has made these requests at its end; those between lie in the trial's only slice."""

    def __init__(self) -> None:
        self.answered = 0
        self.began_ns = self.slice_ns = 0

    def start(self, rate: float) -> None:
        self.began_ns = time.monotonic_ns()

    def finish(self, path: Path) -> LoadSummary:
        record, now = Record(), time.monotonic_ns()
        for at, count in ((self.began_ns, BEFORE), (self.slice_ns, BETWEEN), (now, AFTER)):
            for _ in range(count):
                record.add(at, at, at, 200, False, "/", 1)
        record.write(path)
        self.answered = len(record)
        return LoadSummary(len(record), 0, 0.0, 0.1, False, "")


class Theirs(ForeignAgent):
    """Counts what was answered, whether anybody looks or not; its word may not come."""

    def __init__(self, driver: Driver, silent: bool) -> None:
        self.name, self.ready, self._driver = "theirs", {"programs": []}, driver
        self.goes_on = False
        self._silent = silent
        self.spec: Any = SimpleNamespace(export_seconds=1.0)

    def flush(self) -> dict[str, Any]:
        if self._silent and self._driver.answered:
            return {}
        return {"events": 1000 + EVENTS * self._driver.answered}


class Ours(AgentProcess):
    """Is switched, so that it counted in the slices alone."""

    def __init__(self, driver: Driver) -> None:
        self.name, self.ready, self._driver = "theirs", {"programs": []}, driver
        self.spec: Any = SimpleNamespace(export_seconds=1.0)

    def send_switch(self, on: bool) -> None:
        """It is told."""

    def receive_switch(self) -> dict[str, Any]:
        return {}

    def flush(self) -> dict[str, Any]:
        seen = BETWEEN if self._driver.answered else 0
        return {"events": EVENTS * seen, "lost": 0, "map_bytes": 0}


@pytest.fixture
def testbed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nothing is asked of the kernel; its driver knows a moment of a slice."""
    driver = Driver()

    def sleep_until(deadline: float) -> None:
        driver.slice_ns = time.monotonic_ns()
        windows.sleep_until(deadline)

    class Off:
        def __enter__(self) -> None:
            """Nothing is switched on."""

        def __exit__(self, *_: object) -> None:
            """Nor off."""

    monkeypatch.setattr(bpf_time, "StatsEnabled", Off)
    monkeypatch.setattr(bpf_time, "sleep_until", sleep_until)
    return SimpleNamespace(
        driver=driver, rate=10.0, attend=lambda: None, service=SimpleNamespace(check=lambda: None)
    )


def _told(testbed: Any, agent: AgentProcess, folder: Path) -> dict[str, Any]:
    """What a run directory makes of the trial: its figures a request."""
    timing = SimpleNamespace(settle=0.05, window=0.2, idle=0.0, low_rate=0.0)
    spec: Any = SimpleNamespace(
        candidates=(agent,), references=(), shared=False, timing=timing,
        windows=(WindowState(True, (True,)),),
    )  # fmt: skip
    notes = TrialLog(spec)
    bpf_time.run(testbed, [agent], folder, notes)
    trial = Trial(0, "go", 0, "theirs", "metered", 1)
    values = tuple(
        Measurement(v.metric, v.value, v.unit, "go", "theirs", 0, trial.name, None, dict(v.labels))
        for v in notes.values
    )
    (requests,) = [v.value for v in notes.values if v.metric == "metered_requests"]
    assert requests == BETWEEN
    record = TrialRecord(trial, "ok", values=values)
    return dict(events.counts([Metered(record, (), requests)], alone=True))


def test_what_nobody_switches_is_told_of_all_requests_that_it_saw(
    testbed: Any, tmp_path: Path
) -> None:
    found = _told(testbed, Theirs(testbed.driver, silent=False), tmp_path)
    assert found["events_per_request"].value.estimate == EVENTS


def test_what_is_switched_is_told_of_the_slices(testbed: Any, tmp_path: Path) -> None:
    found = _told(testbed, Ours(testbed.driver), tmp_path)
    assert found["events_per_request"].value.estimate == EVENTS


def test_without_a_word_after_the_load_nothing_is_told(testbed: Any, tmp_path: Path) -> None:
    assert _told(testbed, Theirs(testbed.driver, silent=True), tmp_path) == {}
