"""Another node in the place of a lost one: of the same machine, and not for ever."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.controller.nodes import LOSSES, Nodes
from harness.errors import ComponentError, InputError, NeedError, NodeError, WorkloadError
from harness.wire.spec import Hello, Placement, Spawn

PLACE = Placement((0,), (1,), (1,), (1,), "two CPUs")
HELLO = Hello({"kernel": "6", "cpus_online": 2}, PLACE, True, "/w", "http://127.0.0.1:1")

SPAWN = Spawn("go", ("./server",), "/")


def _nodes(answers: list[Any]) -> Nodes:
    """Nodes whose sessions open with these hellos, or fail with these errors."""

    def begin(_node: Any) -> Hello:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: Hello = answer
        return found

    channel = SimpleNamespace(
        receive=lambda *_: b"", send=lambda _: None, close=lambda _: None, last_words=lambda: ""
    )
    target: Any = SimpleNamespace(connect=lambda: channel)
    return Nodes(target, begin)


def test_a_lost_node_is_replaced_by_one_of_the_same_machine() -> None:
    nodes = _nodes([HELLO, replace(HELLO, work="/other")])
    nodes.connect()
    first = nodes.node()
    assert nodes.node() is first
    first.lost = True
    assert nodes.node() is not first


@pytest.mark.parametrize(
    "other",
    [
        replace(HELLO, facts={"kernel": "7", "cpus_online": 2}),
        replace(HELLO, placement=replace(PLACE, workload=(1,))),
        replace(HELLO, idle_poll=False),
    ],
)
def test_one_that_measures_on_something_else_ends_the_run(other: Hello) -> None:
    nodes = _nodes([HELLO, other])
    nodes.connect()
    nodes.node().lost = True
    with pytest.raises(InputError, match="measures on something else") as caught:
        nodes.node()
    assert caught.value.ends == "run"


def test_the_node_of_before_may_keep_its_run_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.controller.nodes.time.sleep", lambda _: None)
    nodes = _nodes([HELLO, NeedError("The run is being measured."), HELLO])
    nodes.connect()
    nodes.node().lost = True
    assert not nodes.node().lost


def test_only_losses_in_a_row_are_too_many() -> None:
    nodes, lost = _nodes([]), NodeError("The node process was lost.")
    for _ in range(LOSSES - 1):
        assert not nodes.lost_too_often(lost)
    nodes.held()
    assert not nodes.lost_too_often(WorkloadError("It died."))
    for _ in range(LOSSES - 1):
        assert not nodes.lost_too_often(lost)
    assert nodes.lost_too_often(lost)


def test_what_a_cluster_runs_is_off_the_node_before_each_block() -> None:
    """A node that was lost may have left it there."""
    nodes, moved = _nodes([HELLO]), list[tuple[str, bool]]()
    target: Any = nodes._target
    target.place = lambda name, there, _: moved.append((name, there))
    target.serving = lambda asked, *_: nullcontext(asked)
    nodes.connect()
    named = ("daemonset:obs/beyla", "pixie", "http")
    nodes.clear({spec: resolve(spec) for spec in named})
    with nodes.serving(SPAWN, "go-b0") as served:
        assert served is SPAWN
    assert moved == [("obs/beyla", False), ("pl/vizier-pem", False)] * 2


def test_what_does_not_leave_the_node_ends_a_block_and_not_the_run() -> None:
    def place(*_: Any) -> Any:
        raise ComponentError("It is not where it should be.", "", "Look.")

    nodes = _nodes([HELLO])
    target: Any = nodes._target
    nodes._daemonsets, target.place = ["obs/beyla"], place
    nodes.connect()
    with pytest.raises(WorkloadError, match="not where it should be"):
        nodes.serving(SPAWN, "go-b0")
