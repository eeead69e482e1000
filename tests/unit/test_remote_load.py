"""Load from a second node: what is asked for, carried, told by another clock, and lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.controller import clocks, remote_load
from harness.controller.node import Node, session
from harness.controller.nodes import Nodes
from harness.controller.remote_load import LoadTarget, RemoteLoad
from harness.errors import HarnessError, InputError, LoadError, NeedError, NodeError
from harness.load import record
from harness.load.record import Record
from harness.model import Arm
from harness.node import line as node_line
from harness.node.line import Gone, Line
from harness.node.remote_driver import RemoteDriver
from harness.plan.experiment import Experiment
from harness.results.run import Run
from harness.wire import codec
from harness.wire.driving import Begin, Call, End, FindCapacity, Finish, Start
from harness.wire.spec import BlockSpec, Hello, Placement, Spawn
from tests.unit.piped import Channel

HOUR = 3600 * 10**9
GUARD = 1.0  # seconds: on a busy machine, too, a clock is told to a tenth of it
HELLO = Hello({"kernel": "6"}, Placement((0,), (1,), (1,), (1,), ""), False, "/w")
SPEC = BlockSpec(
    "go-b0", Spawn("go", (), "/"), None, 8, 7, 100.0, False, 0.4, 100.0, 1, 1, 1, 0.05, 5,
    arrivals="poisson", login="me:secret",
)  # fmt: skip
URL = "http://192.0.2.1:80/"
SUMMARY = {
    "requests": 2, "errors": 0, "late_p99_ms": 0.1, "cpu_share": 0.2, "saturated": False,
    "reason": "", "failures": {}, "clock": {},
}  # fmt: skip


class Side:
    """The far end of a node's pipe, in a thread that does what a test says with each frame."""

    def __init__(self, does: Callable[[Line, Any], None]) -> None:
        self.channel, self._does = Channel(), does
        self.line = Line(self.channel.far_source, self.channel.far_sink)
        self.seen: list[Any] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                frame = self.line.next()
                self.seen.append(frame)
                self._does(self.line, frame)
        except Gone:
            self.line.last_word("closed", warnings=[])

    def hang_up(self) -> None:
        """As a node that is lost."""
        os.close(self.channel.far_sink)
        self.channel.far_sink = os.open(os.devnull, os.O_WRONLY)

    def end(self) -> None:
        self.channel.close()
        self._thread.join()
        os.close(self.channel.far_source)
        os.close(self.channel.far_sink)


class Driven:
    """A node of the load whose clock is an hour ahead, and which notes what it was told."""

    def __init__(self, tmp_path: Path) -> None:
        self.calls: list[Any] = []
        self.fails: HarnessError | None = None
        self.stands_still = False
        self._path = tmp_path / "made.npz"

    def __call__(self, line: Line, frame: Any) -> None:
        if frame.kind == "open":
            line.reply("hello", hello=codec.dump(HELLO))
            return
        does = codec.load(Call, frame.head["call"]).does
        self.calls.append(does)
        if self.stands_still and isinstance(does, Finish):
            return
        if self.fails is not None and not isinstance(does, End):
            line.reply("failed", error=self.fails.to_dict())
            return
        found: dict[str, Any] = {}
        if isinstance(does, Start):
            found = {"at_ns": self._now()}
        elif isinstance(does, FindCapacity):
            found = {"rate": 50.0, "cpu_share": 0.1, "refused": 0.0, "failures": {}}
        elif isinstance(does, Finish):
            log = Record()
            for _ in range(2):
                log.add(self._now(), self._now(), self._now(), 200, False, "/", 1)
            log.write(self._path)
            data = self._path.read_bytes()
            for half in (data[:100], data[100:]):
                line.reply("requests", half)
            found = {"summary": SUMMARY}
        line.reply("driven", found=found)

    @staticmethod
    def _now() -> int:
        return time.monotonic_ns() + HOUR


@pytest.fixture(autouse=True)
def an_hour_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load's pongs tell its own clock; those of the measured node tell ours."""
    told = Line.reply

    def reply(line: Line, kind: str, body: bytes = b"", **head: Any) -> None:
        if kind == "pong" and getattr(line, "is_ahead", False):
            head["at_ns"] += HOUR
        told(line, kind, body, **head)

    monkeypatch.setattr(node_line.Line, "reply", reply)


@pytest.fixture
def sides() -> Iterator[Callable[..., Side]]:
    with ExitStack() as ends:

        def make(does: Callable[[Line, Any], None], ahead: bool = False) -> Side:
            side = Side(does)
            side.line.is_ahead = ahead  # type: ignore[attr-defined]
            ends.callback(side.end)
            return side

        yield make


def remote(
    side: Sequence[Side], guard: float = GUARD, url: str = "", lease: float = 60.0
) -> RemoteLoad:
    """Load from these nodes, one after the other."""
    waiting = iter(side)
    target: Any = SimpleNamespace(name="ssh:far", connect=lambda: next(waiting).channel)
    asked = replace(session("r", receiver="sink", idle_poll=False), lease_seconds=lease)
    return RemoteLoad(LoadTarget(target, url), asked, guard, lambda _: None)


@pytest.fixture
def ask(sides: Any) -> Callable[..., Any]:
    """Lets a measured node do something with its driver while it is asked to end a block."""

    def done(load: RemoteLoad, does: Callable[[Line], dict[str, Any]]) -> Any:
        def serve(line: Line, _frame: Any) -> None:
            try:
                line.reply("done", warnings=[], **does(line))
            except HarnessError as error:
                line.reply("failed", error=error.to_dict())

        node = Node(sides(serve).channel)
        load.connect(node)
        with load.driving(node):
            return node._ask("done", lambda _: None, "end_block")

    return done


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
    monkeypatch.setattr("harness.controller.node.CLOSE_SECONDS", 0.1)
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


def test_clocks_that_are_known_too_badly_are_refused_before_anything_is_measured(
    sides: Any, tmp_path: Path
) -> None:
    node = Node(sides(lambda *_: None).channel)
    with pytest.raises(NeedError, match="The clocks of the two nodes are known to") as refused:
        remote([sides(Driven(tmp_path))], guard=1e-9).connect(node)
    assert refused.value.why
    assert refused.value.next_step
    assert refused.value.ends == "run"


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
        assert heard.wait(30)
        line.reply("done", warnings=[])

    load = remote([sides(Driven(tmp_path), ahead=True)])
    node = Node(sides(wait).channel)
    load.connect(node)
    monkeypatch.setattr(Line, "reply", reply)
    with load.driving(node):
        node.end_block(lambda _: None)
    assert heard.is_set()


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
