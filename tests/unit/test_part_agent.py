"""What a part of an agent is to a trial, and its bill: the difference of all who pay."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analysis import cpu, ranks
from harness.analysis.account import PART, bill_rows
from harness.analysis.cell import Cell, value_rows
from harness.collectors import resolve
from harness.errors import CollectorError, UnavailableError
from harness.model import Arm, Comparison, Measurement, Trial, Window, WindowRow
from harness.node import always_on, install, install_parts, loaded_programs, part_agent
from harness.node.part_agent import PartAgent
from harness.node.testbed import TrialLog
from harness.plan import trials
from harness.plan.parts import states
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


def test_what_it_tells_in_no_number_is_said_in_words(agent) -> None:
    ask = Controller()
    one = agent(ask)
    one._subject = dataclasses.replace(one._subject, events=r"^seen (.+)$")
    ask.seen = "seen 1.2K"
    with pytest.raises(CollectorError, match=r"saw cannot be counted: '1\.2K' is no"):
        one.flush()


def test_a_part_of_a_trial_without_it_in_which_it_was_is_none(mine: str) -> None:
    ask, spec = Controller(), SimpleNamespace(candidates=(_spec(mine),))
    testbed: Any = SimpleNamespace(ask=ask)
    install.require_absent(testbed, spec)  # type: ignore[arg-type]
    ask.was = True
    with pytest.raises(CollectorError, match="in a part of a trial without it"):
        install.require_absent(testbed, spec)  # type: ignore[arg-type]
    assert ask.asked == [OFF, OFF]


SWITCHED = (1.0, 2.0, 2.0, 2.0, 1.0)  # s, of the parts


class Edges:
    """Of each second the service and its agent take 0.4 s, the agent 0.1 s more while it is on."""

    def __init__(self, ask: Controller, clock: Clock) -> None:
        self._ask, self._clock, self._agent, self._then = ask, clock, 0.0, clock.now

    def read(self) -> tuple[int, dict[str, float]]:
        is_on = [each for each in self._ask.asked if each in (ON, OFF)][-1:] == [ON]
        self._agent += (0.5 if is_on else 0.4) * (self._clock.now - self._then)
        self._then = self._clock.now
        return round(1e9 * self._then), {"cpu.agent": self._agent}


class Clock:
    """Time goes on when it is waited for."""

    now = 0.0

    def until(self, deadline: float) -> None:
        self.now = max(self.now, deadline)

    def after(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("first", [False, True])
def test_it_is_turned_part_by_part_and_its_agent_metered_in_all(
    agent, mine: str, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """That it counts is asked once; what its agent takes without it is kept, by the part."""
    ask, clock = Controller(), Clock()
    made = agent(ask)
    monkeypatch.setattr(install_parts, "staying", lambda *_: [made])
    monkeypatch.setattr(PartAgent, "cgroups", property(lambda _: [Path("/x")]))
    edges = Edges(ask, clock)
    monkeypatch.setattr(install_parts, "open_edges", lambda *_: edges)
    monkeypatch.setattr(install_parts, "cpu_seconds", lambda _: edges.read()[1]["cpu.agent"])
    monkeypatch.setattr(install_parts, "sleep_until", clock.until)
    monkeypatch.setattr(install_parts, "undisturbed", nullcontext)
    monkeypatch.setattr("time.sleep", clock.after)
    monkeypatch.setattr("harness.node.found.require_seen", lambda *_: None)
    spec: Any = SimpleNamespace(
        candidates=(_spec(mine),), shared=False, windows=(None,) * 5,
        timing=SimpleNamespace(settle=0.5, switched=8.0),
    )  # fmt: skip
    testbed: Any = SimpleNamespace(
        ask=ask, attend=lambda: None, cpu_seconds=lambda: 0.0, service=""
    )
    notes = TrialLog(spec)
    with ExitStack() as stack:
        parts = install_parts._Parts(testbed, Path(), notes, stack)
        rows = [parts.meter(index, on) for index, on in enumerate(states(first))]
        on = [dataclasses.replace(row, meters={"requests": 1.0}) for row in rows if row.window.on]
        parts.note(on)
        assert parts.left() == [made]
    assert [row.window.on for row in rows] == states(first)
    assert [row.meters["seconds"] for row in rows] == pytest.approx(SWITCHED)
    used = [row.meters["cpu.agent"] for row in rows]
    assert used == pytest.approx([s * (0.5 if row.window.on else 0.4) for s, row in
                                  zip(SWITCHED, rows, strict=True)])  # fmt: skip
    assert ask.asked.count(LOOK) == 1
    assert ask.asked[-1] == OFF  # when the trial ends, however it does
    assert _turns(ask) == [ON, OFF] * 3
    told = {value.metric: value.value for value in notes.values}
    assert told["beside_cpu_seconds"] == pytest.approx(1.6)


def _turns(ask: Controller) -> Sequence[object]:
    """How it was turned, without what was so already."""
    turned = [each for each in ask.asked if each in (ON, OFF)]
    kept = [each for each, _ in itertools.groupby(turned)]
    return kept[1:] if kept[0] == OFF else kept


def test_what_its_pod_does_in_the_steady_part_is_no_cost_of_it(
    agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what our command does there that asks what it saw."""
    one = agent(Controller())
    notes = TrialLog(SimpleNamespace())  # type: ignore[arg-type]
    group = f"agent-{one.name}"
    monkeypatch.setattr(PartAgent, "cgroups", property(lambda _: [Path("/x")]))
    before, after, flushed = ({group: used, "sink": 0.0} for used in (1.0, 2.6, 5.6))
    always_on._note_cpu([one], notes, 5.0, before, after, flushed)
    always_on._note_seen([one], [{"events": 7.0}], [{"events": 107.0}], notes)
    notes.add_counts(one, {"events": 107.0})
    found = {value.metric: value.value for value in notes.values}
    assert found == {"steady_sink_cpu_seconds": 0, "steady_events": 100}


def _trial(block: int, agent_us: float, others_us: float) -> tuple[TrialRecord, list[WindowRow]]:
    """Service, load and agent take 200 us a request, and these more in the parts with it.

    All of it becomes dearer by 5 us a second, and turning it on takes 9 s, off 4.
    """
    trial = Trial(block, "go", block, "a", "switched", 1)
    told = {"beside_cpu_seconds": 0.5, "steady_requests": 100, "steady_events": 200}
    values = tuple(
        Measurement(name, each, "1", "go", "a", block, trial.name, labels={"collector": "a"})
        for name, each in told.items()
    )
    rows, start = [], 0.0
    for index, (on, seconds) in enumerate(zip(states(block % 2 == 1), SWITCHED, strict=True)):
        start += 9.0 if on else 4.0
        requests, us = 100 * seconds, 200 + 5 * (start + seconds / 2)
        shares = {"cpu.workload": us + others_us * on, "cpu.client": us,
                  "cpu.agent": us + agent_us * on}  # fmt: skip
        meters = {name: 1e-6 * requests * each for name, each in shares.items()}
        window = Window(index, 0, on, round(1e9 * start), round(1e9 * (start + seconds)))
        rows.append(WindowRow(window, {**meters, "requests": requests}))
        start += seconds
    return TrialRecord(trial, "ok", values=values), rows


def _rows(*differences: tuple[float, float]) -> dict[str, Comparison]:
    """The rows of a cell of trials in which agent and others took so much more."""
    trials = tuple((record, tuple(rows)) for record, rows in itertools.starmap(
        _trial, [(block, *each) for block, each in enumerate(differences)]))  # fmt: skip
    one = Cell("go", Arm("a", ("a",), (), "block"), trials, ())
    cost = list(cpu.rows([one], 1)["go", "a"])
    before = [*value_rows(one), *cost]
    return {row.metric: row for row in (*before, *bill_rows(one, before, {}))}


def test_its_bill_is_the_difference_of_all_who_pay() -> None:
    """200 flows of 100 requests; 50 us more of its agent, 30 of service and load."""
    found = _rows((50.0, 30.0))
    assert found["agent_us"].estimate == pytest.approx(50)
    assert found["bill_us"].estimate == pytest.approx(80)
    assert found["events_per_request"].estimate == 2
    assert "bill_event_us" not in found  # flows are of the whole node
    assert not {"bpf_us", "agent_memory_mb", "map_memory_mb"} & set(found)
    assert "bill_us" not in _rows((50.0, -140.0))  # chance


def test_the_interval_of_a_difference_may_reach_below_zero() -> None:
    """Student's t of eight trials; of the bill, that of the signed ranks of what all take."""
    differences = (-20.0, 25.0, -10.0, 30.0, 5.0, -8.0, 18.0, 4.0)
    found = _rows(*((each, 30.0 + each / 2) for each in differences))
    agent, whole = found["agent_us"], found["bill_us"]
    shown = (agent.estimate, agent.low, agent.high)
    assert shown == pytest.approx((5.5, -9.4, 20.4), abs=0.05)
    known = ranks.hodges_lehmann(30.0 + 1.5 * np.array(differences))
    assert (whole.estimate, whole.low, whole.high) == pytest.approx(
        (known.estimate, known.low, known.high)
    )


def test_what_moves_from_the_service_to_its_agent_is_in_the_bill_once() -> None:
    """Each varies by trial, and what both take does not: parts in quadrature would not see it."""
    found = _rows(*((each, 80.0 - each) for each in (10.0, 70.0, 30.0, 50.0, 20.0, 60.0)))
    bill = found["bill_us"]
    assert found["agent_us"].high - found["agent_us"].low > 20
    assert (bill.estimate, bill.low, bill.high) == pytest.approx((80.0, 80.0, 80.0))


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
