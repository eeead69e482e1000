"""What a part of an agent is to a trial, and its bill: the difference of all who pay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis.account import PART, bill_rows
from harness.analysis.cell import Cell, value_rows
from harness.analysis.compare import Estimate
from harness.collectors import resolve
from harness.errors import CollectorError, UnavailableError
from harness.model import Arm, Comparison, Measurement, Trial
from harness.node import always_on, install, loaded_programs, part_agent
from harness.node.install_halves import _Half
from harness.node.part_agent import PartAgent
from harness.node.testbed import TrialLog
from harness.plan import trials
from harness.report import headline
from harness.results.run import TrialRecord
from harness.wire.driving import Answer, Call
from harness.wire.spec import CollectorSpec
from tests.unit.optioned import LOOK, OFF, ON, written


@pytest.fixture
def mine(tmp_path: Path) -> str:
    return written(tmp_path)


class Controller:
    """Answers by what it is asked; keeps that."""

    def __init__(self) -> None:
        self.asked, self.seen, self.was = list[object](), "seen 7", False

    def __call__(self, call: Call) -> Answer:
        self.asked.append(call.does)
        told: dict[str, Any] = {"containers": ["containerd://abc"]}
        return {**told, "seen": self.seen} if call.does == LOOK else {**told, "was": self.was}, b""


@pytest.fixture
def agent(
    tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Controller], PartAgent]:
    monkeypatch.setattr(loaded_programs, "calm", lambda *_, **__: frozenset())
    monkeypatch.setattr(part_agent.PartAgent, "_find", lambda self: None)
    monkeypatch.setattr(part_agent, "COUNTED_SECONDS", 0.0)

    def make(ask: Controller) -> PartAgent:
        testbed: Any = SimpleNamespace(
            service=SimpleNamespace(cgroup=tmp_path),
            machine=SimpleNamespace(socket=lambda name: tmp_path / name),
            ask=ask,
            attend=lambda: None,
        )
        return PartAgent(_spec(mine), testbed, tmp_path)

    return make


def _spec(mine: str) -> CollectorSpec:
    return trials.collector(resolve(mine))


def test_it_is_turned_on_for_a_trial_and_off_after_it(agent) -> None:
    ask = Controller()
    one = agent(ask)
    one.start()
    one.await_ready()
    assert one.flush() == {"events": 7.0}
    assert (one.pids(), one.ready["programs"], one.counts) == ([], [], False)
    one.kill()
    one.kill()
    assert ask.asked == [ON, LOOK, LOOK, OFF]


def test_one_that_counts_nothing_is_not_there(agent) -> None:
    """As where Cilium was installed without Hubble."""
    ask = Controller()
    ask.seen = "hubble: Disabled"
    one = agent(ask)
    one.start()
    with pytest.raises(UnavailableError, match="does not tell what it saw") as caught:
        one.await_ready()
    assert "enabled in obs/agent" in caught.value.next_step


def test_a_half_without_it_in_which_it_was_is_none(mine: str) -> None:
    ask, spec = Controller(), SimpleNamespace(candidates=(_spec(mine),))
    testbed: Any = SimpleNamespace(ask=ask)
    install.require_absent(testbed, spec)  # type: ignore[arg-type]
    ask.was = True
    with pytest.raises(CollectorError, match="in a part of a trial without it"):
        install.require_absent(testbed, spec)  # type: ignore[arg-type]
    assert ask.asked == [OFF, OFF]


def test_its_cost_is_what_its_pod_uses_more_and_not_what_our_command_does(
    agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.2 s a second without it; 5 s with it took 1.6 s, and the command at the end 3 s."""
    one = agent(Controller())
    notes = TrialLog(SimpleNamespace(timing=SimpleNamespace(switched=8.0)))
    half = _Half(None, Path(), notes, None)  # type: ignore[arg-type]
    half._beside = {one.name: 0.2}
    half.note_beside([one])
    group = f"agent-{one.name}"
    monkeypatch.setattr(PartAgent, "cgroups", property(lambda _: [Path("/x")]))
    before, after, flushed = ({group: used, "sink": 0.0} for used in (1.0, 2.6, 5.6))
    always_on._note_cpu([one], notes, 5.0, before, after, flushed)
    always_on._note_seen([one], [{"events": 7.0}], [{"events": 107.0}], notes)
    notes.add_counts(one, {"events": 107.0})
    found = {value.metric: value.value for value in notes.values}
    assert found.pop("steady_agent_cpu_seconds") == pytest.approx(0.6)
    assert found.pop("steady_sink_cpu_seconds") == 0
    assert found == {"beside_cpu_seconds": 0.8, "steady_events": 100}


def test_its_bill_is_the_difference_of_all_who_pay() -> None:
    """Of 100 requests: 200 flows, 5 ms more of its agent; service and load 30 us more a request."""
    trial = Trial(0, "go", 0, "a", "switched", 1)
    told = {
        "beside_cpu_seconds": 0.5, "steady_agent_cpu_seconds": 0.005, "steady_requests": 100,
        "steady_events": 200,
    }  # fmt: skip
    values = tuple(
        Measurement(name, each, "1", "go", "a", 0, trial.name, labels={"collector": "a"})
        for name, each in told.items()
    )
    arm = Arm("a", ("a",), (), "block")
    one = Cell("go", arm, ((TrialRecord(trial, "ok", values=values), ()),), ())

    def rows(microseconds: float) -> dict[str, float]:
        centre = Estimate(microseconds, microseconds - 20, microseconds + 20, 9)
        cost = one.row("context_cpu_us", centre, 600.0, "by halves")
        before = [*value_rows(one), cost]
        return {row.metric: row.estimate for row in (*before, *bill_rows(one, before, {}))}

    found = rows(30.0)
    assert found["agent_us"] == pytest.approx(50)
    assert found["bill_us"] == pytest.approx(80)
    assert found["events_per_request"] == 2
    assert "bill_event_us" not in found  # flows are of the whole node
    assert not {"bpf_us", "agent_memory_mb", "map_memory_mb"} & set(found)
    assert "bill_us" not in rows(-90.0)  # chance


def test_the_interval_of_a_difference_may_reach_below_zero() -> None:
    """Student's t of eight trials, and 30 [10, 50] of service and load in quadrature with it."""
    differences = (-20, 25, -10, 30, 5, -8, 18, 4)
    records = []
    for block, each in enumerate(differences):
        trial = Trial(block, "go", block, "a", "switched", 1)
        told = {"beside_cpu_seconds": 0.5, "steady_agent_cpu_seconds": each * 1e-4,
                "steady_requests": 100}  # fmt: skip
        values = tuple(
            Measurement(name, value, "1", "go", "a", block, trial.name, labels={"collector": "a"})
            for name, value in told.items()
        )
        records.append((TrialRecord(trial, "ok", values=values), ()))
    one = Cell("go", Arm("a", ("a",), (), "block"), tuple(records), ())
    cost = one.row("context_cpu_us", Estimate(30.0, 10.0, 50.0, 8), 600.0, "by halves")
    before = [*value_rows(one), cost]
    found = {row.metric: row for row in (*before, *bill_rows(one, before, {}))}
    agent, whole = found["agent_us"], found["bill_us"]
    shown = (agent.estimate, agent.low, agent.high)
    assert shown == pytest.approx((5.5, -9.4, 20.4), abs=0.05)
    assert (whole.estimate, whole.low, whole.high) == pytest.approx((35.5, 10.6, 60.4), abs=0.05)


def test_a_bill_by_difference_is_not_called_metered() -> None:
    row = Comparison("go", "a", "bill_us", "us/request", 80.0, 60.0, 100.0, 6, 1.0, math.nan, PART)
    told: Any = SimpleNamespace(
        rows=[row],
        row=lambda *_: None,
        experiment=SimpleNamespace(arm=lambda _: Arm("a", ("hubble",))),
    )
    assert headline.bill(told).startswith("In all")
    told.rows = [dataclasses.replace(row, method="sum of bpf_us and agent_us")]
    assert headline.bill(told).startswith("Metered directly")
