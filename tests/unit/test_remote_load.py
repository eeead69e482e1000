"""Load from a second node: what is asked for, carried, told by another clock, and lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.controller import clocks
from harness.controller.node import Node, session
from harness.controller.remote_load import LoadTarget, RemoteLoad
from harness.errors import InputError, LoadError, NeedError, NodeError
from harness.load import record
from harness.model import Arm
from harness.node.line import Line
from harness.node.remote_driver import RemoteDriver
from harness.plan.experiment import Experiment
from harness.results.run import Run
from harness.wire import codec
from harness.wire.driving import Begin, Call, End, Finish, Start
from tests.unit.far_load import (
    GUARD,
    HELLO,
    HOUR,
    SPEC,
    URL,
    Driven,
    Side,
    an_hour_ahead,
    asking,
    making,
    remote,
)


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    an_hour_ahead(monkeypatch)


@pytest.fixture
def sides() -> Iterator[Callable[..., Side]]:
    with making() as make:
        yield make


@pytest.fixture
def ask(sides: Any) -> Callable[..., Any]:
    return asking(sides)


def test_a_phase_is_driven_there_and_told_by_the_clock_here(
    sides: Any, ask: Any, tmp_path: Path
) -> None:
    driven = Driven(tmp_path)
    path, began = tmp_path / "requests.npz", time.monotonic_ns()

    def phase(line: Line) -> dict[str, Any]:
        driver = RemoteDriver(line.ask, SPEC, URL)
        at_ns = driver.start(100.0)
        summary = driver.finish(path)
        return {"at_ns": at_ns, "clock": dict(summary.clock), "requests": summary.requests}

    found = ask(remote([sides(driven, ahead=True)]), phase)
    ended = time.monotonic_ns()
    begin, start, finish, end = driven.calls
    assert begin == Begin("go-b0-load", URL, None, 8, 7, "poisson", "me:secret")
    assert (start, finish, end) == (Start(100.0, None), Finish(False), End())
    assert found["requests"] == 2
    apart = found["clock"]["uncertainty_ns"]
    assert 0 < apart <= 1e8 * GUARD
    assert abs(found["clock"]["ahead_ns"] - HOUR) <= apart
    assert began - apart <= found["at_ns"] <= ended + apart
    log = record.read(path)
    assert ((log.end_ns >= began - apart) & (log.end_ns <= ended + apart)).all()


def test_a_counted_phase_is_not_held_up_by_a_comparison_of_clocks(
    sides: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    compare = clocks.compare

    def counted(*nodes: Any) -> Any:
        compared.append(1)
        return compare(*nodes)

    monkeypatch.setattr(clocks, "compare", counted)

    def phases(line: Line) -> dict[str, Any]:
        driver = RemoteDriver(line.ask, SPEC, URL)
        so_far = [len(compared)]
        driver.start(100.0, 20)
        driver.wait(tmp_path / "steady.npz")
        so_far.append(len(compared))
        driver.start(100.0)
        driver.finish(tmp_path / "requests.npz")
        return {"compared": [*so_far, len(compared)]}

    found = ask(remote([sides(Driven(tmp_path), ahead=True)]), phases)
    assert found["compared"] == [1, 1, 3]
    assert abs(record.read(tmp_path / "steady.npz").end_ns[0] - time.monotonic_ns()) < HOUR / 2


def test_the_capacity_is_found_there(sides: Any, ask: Any, tmp_path: Path) -> None:
    def capacity(line: Line) -> dict[str, Any]:
        return {"rate": RemoteDriver(line.ask, SPEC, URL).capacity(2.0).rate}

    assert ask(remote([sides(Driven(tmp_path))]), capacity)["rate"] == 50.0


def test_what_fails_there_fails_here_as_a_driver_of_its_own(
    sides: Any, ask: Any, tmp_path: Path
) -> None:
    driven = Driven(tmp_path)
    driven.fails = LoadError("The load driver failed to start.", "It ended (1).")
    with pytest.raises(LoadError, match="failed to start"):
        ask(remote([sides(driven)]), lambda line: {"": RemoteDriver(line.ask, SPEC, URL)})
    assert isinstance(driven.calls[-1], End)


def test_clocks_that_are_known_too_badly_are_refused_before_anything_is_measured(
    sides: Any, tmp_path: Path
) -> None:
    node = Node(sides(lambda *_: None).channel)
    with pytest.raises(NeedError, match="The clocks of the two nodes are known to") as refused:
        remote([sides(Driven(tmp_path))], guard=1e-9).connect(node)
    assert refused.value.why
    assert refused.value.next_step
    assert refused.value.ends == "run"


def test_a_node_that_asks_for_load_which_nobody_makes_is_lost(sides: Any) -> None:
    node = Node(sides(lambda line, _: line.reply("ask", call=codec.dump(Call(End())))).channel)
    with pytest.raises(NodeError, match="asked for End, which nobody does"):
        node.end_block(lambda _: None)


def test_twins_are_driven_from_beside_them() -> None:
    arms = (Arm("baseline"), Arm("pair", ("http",), method="twin"))
    experiment = Experiment("e", ("own",), arms)
    load = LoadTarget(SimpleNamespace(name="ssh:far"))
    with pytest.raises(InputError, match="'pair' has the method twin"):
        load.check(experiment)
    load.check(replace(experiment, arms=arms[:1]))


def test_a_run_keeps_where_its_load_comes_from_and_says_if_that_is_another_machine(
    sides: Any, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "r", Experiment("e", ("go",), (Arm("baseline"),)), warnings=[])
    load = remote([sides(Driven(tmp_path))], url=URL)
    load.connect(Node(sides(lambda *_: None).channel))
    load.keep_in(run)
    kept = dict(run.about().load_node)
    clock = kept.pop("clock")
    assert kept == {"target": "ssh:far", "url": URL, "facts": {"kernel": "6"}}
    assert 0 < clock["uncertainty_ns"] <= 1e8 * GUARD
    assert abs(clock["ahead_ns"]) <= clock["uncertainty_ns"]
    load.keep_in(run)
    assert run.about().warnings == ()
    run.note(load_node={**kept, "facts": {"kernel": "5"}})
    load.keep_in(run)
    assert len(run.about().warnings) == 1
    assert "another machine" in run.about().warnings[0]


def test_the_name_of_its_session_is_another_one() -> None:
    opened: list[Any] = []
    target: Any = SimpleNamespace(name="ssh:far", connect=lambda: SimpleNamespace(receive=None))
    load = RemoteLoad(
        LoadTarget(target), session("r" * 100, receiver="sink", idle_poll=True), 1, print
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "open", lambda _, asked, __: opened.append(asked) or HELLO)
        patch.setattr(clocks, "compare", lambda *_: clocks.Offset(0, 0, 1))
        node: Any = SimpleNamespace(clock=None)
        load.connect(node)
    (asked,) = opened
    assert (asked.role, asked.run, asked.idle_poll) == ("load", "r" * 90 + "-load", True)
