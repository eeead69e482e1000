"""Load from a second node that is lost, stands still, or waits while the other one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.controller import remote_load
from harness.controller.node import Node
from harness.controller.nodes import Nodes
from harness.errors import LoadError, NeedError, NodeError
from harness.node.line import Line
from harness.node.remote_driver import RemoteDriver
from harness.wire.driving import Call, End
from harness.wire.spec import Hello
from tests.unit.far_load import (
    HELLO,
    SPEC,
    URL,
    Driven,
    Side,
    an_hour_ahead,
    asking,
    making,
    remote,
)
from tests.waiting import PATIENCE_SECONDS


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


def test_what_goes_wrong_in_a_node_of_the_load_that_lives_is_told_and_no_loss(
    sides: Any, ask: Any, tmp_path: Path
) -> None:
    driven = Driven(tmp_path)
    driven.fails = NodeError("It failed: PermissionError: /var/tmp/locustfile.py.")
    with pytest.raises(LoadError, match=r"ssh:far, failed\. It failed: PermissionError") as failed:
        ask(remote([sides(driven)]), lambda line: {"": RemoteDriver(line.ask, SPEC, URL)})
    assert failed.value.ends == "block"
    assert failed.value.next_step
    assert isinstance(driven.calls[-1], End)


def test_a_lost_load_ends_the_block_and_another_one_takes_its_place(
    sides: Any, ask: Any, tmp_path: Path
) -> None:
    first, second = sides(Driven(tmp_path)), sides(driven := Driven(tmp_path))
    load = remote([first, second])

    def lose(line: Line) -> dict[str, Any]:
        driver = RemoteDriver(line.ask, SPEC, URL)
        first.hang_up()
        driver.start(100.0)
        return {}

    with pytest.raises(LoadError, match=r"ssh:far, was lost\.") as lost:
        ask(load, lose)
    assert lost.value.ends == "block"
    assert lost.value.why
    node = Node(sides(lambda line, _: line.reply("done", warnings=[])).channel)
    with load.driving(node):
        assert node.end_block(lambda _: None) == []
    assert driven.calls == [End()]
    assert load.close() == []


def test_the_measured_node_is_kept_while_another_one_for_the_load_is_waited_for(
    sides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host of the load may hold the run of the lost node for a while yet."""
    busy = NeedError("The run r-load is being measured.").to_dict()
    first, third = sides(Driven(tmp_path)), sides(Driven(tmp_path))
    load = remote([first, sides(lambda line, _: line.reply("failed", error=busy)), third])
    node, pinged = Node(sides(lambda *_: None).channel), list[Node]()
    load.connect(node)
    first.hang_up()
    monkeypatch.setattr("harness.controller.nodes.time.sleep", lambda _: None)
    monkeypatch.setattr(Node, "hears", lambda self: pinged.append(self))
    with load.driving(node):
        assert pinged == [node]


def test_the_measured_node_hears_of_us_while_a_lost_one_is_closed(
    sides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that stands still is waited for longer than the other one's lease is."""
    first, second = sides(Driven(tmp_path)), sides(Driven(tmp_path))
    load = remote([first, second])
    node, pinged = Node(sides(lambda *_: None).channel), list[Node]()
    load.connect(node)
    with load.driving(node):
        pass
    closed = first.channel.close

    def close(meanwhile: Callable[[], None]) -> None:
        monkeypatch.setattr(Node, "_send", lambda self, kind: pinged.append(self))
        meanwhile()
        monkeypatch.undo()
        closed()

    monkeypatch.setattr(first.channel, "close", close)
    first.hang_up()
    with load.driving(node):
        pass
    assert pinged == [node]


def test_the_measured_node_hears_of_us_while_the_load_says_its_last_words(
    sides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = remote([sides(Driven(tmp_path))])
    node, pinged = Node(sides(lambda *_: None).channel), list[str]()
    load.connect(node)
    monkeypatch.setattr("harness.controller.node.PING_SECONDS", 0.01)
    monkeypatch.setattr("harness.controller.node.CLOSE_SECONDS", 0.49)
    monkeypatch.setattr(Line, "last_word", lambda *_, **__: None)
    monkeypatch.setattr(node, "_send", pinged.append)
    assert load.close() == ["The node did not say within 0 s that it has undone everything."]
    assert set(pinged) == {"ping"}


def test_a_node_of_the_load_that_stands_still_is_given_up_and_another_one_takes_its_place(
    sides: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its lease and a margin; a measured node is waited for much longer."""
    monkeypatch.setattr(remote_load, "MARGIN_SECONDS", 0.1)
    still, driven = Driven(tmp_path), Driven(tmp_path)
    still.stands_still = True
    load = remote([sides(still), sides(driven)], lease=0.2)

    def phase(line: Line) -> dict[str, Any]:
        driver = RemoteDriver(line.ask, SPEC, URL)
        driver.start(100.0)
        driver.finish(tmp_path / "requests.npz")
        return {}

    with pytest.raises(LoadError, match=r"ssh:far, was lost\..* said nothing for") as lost:
        ask(load, phase)
    load._silent_seconds = PATIENCE_SECONDS  # the other one answers, when it has time
    assert lost.value.ends == "block"
    node = Node(sides(lambda line, _: line.reply("done", warnings=[])).channel)
    with load.driving(node):
        assert node.end_block(lambda _: None) == []
    assert driven.calls == [End()]


def test_what_was_asked_for_may_last_before_silence_is_a_loss(
    sides: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[tuple[str, float]] = []
    drive = Node.drive

    def noted(self: Node, call: Call, silent_seconds: float) -> Any:
        allowed.append((type(call.does).__name__, silent_seconds))
        return drive(self, call, silent_seconds)

    monkeypatch.setattr(Node, "drive", noted)

    def phases(line: Line) -> dict[str, Any]:
        driver = RemoteDriver(line.ask, SPEC, URL)
        driver.capacity(400.0)
        driver.start(10.0, 5000)
        driver.wait(tmp_path / "steady.npz")
        driver.start(10.0)
        driver.finish(tmp_path / "requests.npz")
        return {}

    ask(remote([sides(Driven(tmp_path))]), phases)
    assert allowed == [
        ("Begin", 90.0), ("FindCapacity", 490.0), ("Start", 90.0), ("Finish", 590.0),
        ("Start", 90.0), ("Finish", 90.0), ("End", 90.0),
    ]  # fmt: skip


def test_the_load_hears_of_us_while_a_lost_measured_node_is_closed_and_replaced(
    sides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is shorter than the time that closing a node which stands still takes."""
    load = remote([sides(Driven(tmp_path))])
    first, third = sides(lambda *_: None), sides(lambda *_: None)
    channels, hellos = iter([first, sides(lambda *_: None), third]), iter([HELLO, None, HELLO])

    def begin(_node: Node) -> Hello:
        if (hello := next(hellos)) is None:
            raise NeedError("The run r is being measured.")
        return hello

    target: Any = SimpleNamespace(connect=lambda: next(channels).channel)
    nodes = Nodes(target, begin)
    nodes.beside = load
    nodes.connect()
    load.connect(lost := nodes.node())
    closed, told = first.channel.close, list[str]()
    hears, at = Node.hears, ["closed"]

    def close(meanwhile: Callable[[], None] = lambda: None) -> None:
        meanwhile()
        closed()
        at[0] = "replaced"

    def noted(self: Node) -> None:
        told.append(at[0])
        hears(self)

    monkeypatch.setattr(first.channel, "close", close)
    monkeypatch.setattr(Node, "hears", noted)
    monkeypatch.setattr("harness.controller.nodes.time.sleep", lambda _: None)
    lost.lost = True
    assert nodes.node() is not lost
    assert told == ["closed", "replaced"]
    assert load.close() == []
    load.hears()  # there is nobody to tell any more


def test_what_the_measured_node_drives_is_let_go_but_not_forgotten_after_a_block(
    sides: Any, tmp_path: Path
) -> None:
    """Between blocks, too, the measured node may be waited for longer than a lease lasts."""
    load = remote([sides(Driven(tmp_path))])
    node = Node(sides(lambda *_: None).channel)
    load.connect(node)
    with load.driving(node):
        pass
    assert node.drives is None
    assert node.beside is load


def test_losing_the_measured_node_is_no_loss_of_the_load(sides: Any, tmp_path: Path) -> None:
    lost: list[Side] = []
    lost.append(sides(lambda *_: lost[0].hang_up()))
    node, driven = Node(lost[0].channel), Driven(tmp_path)
    load = remote([sides(driven)])
    load.connect(node)
    with pytest.raises(NodeError, match="The node process was lost"), load.driving(node):
        node.end_block(lambda _: None)
    assert driven.calls == [End()]


def test_while_one_node_is_waited_for_the_other_hears_of_us(
    sides: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.controller.node.PING_SECONDS", 0.01)
    heard = threading.Event()
    told = Line.reply

    def reply(line: Line, kind: str, body: bytes = b"", **head: Any) -> None:
        if kind == "pong" and head["number"] == 0 and getattr(line, "is_ahead", False):
            heard.set()
        told(line, kind, body, **head)

    def wait(line: Line, _frame: Any) -> None:
        assert heard.wait(PATIENCE_SECONDS)
        line.reply("done", warnings=[])

    load = remote([sides(Driven(tmp_path), ahead=True)])
    node = Node(sides(wait).channel)
    load.connect(node)
    monkeypatch.setattr(Line, "reply", reply)
    with load.driving(node):
        node.end_block(lambda _: None)
    assert heard.is_set()
