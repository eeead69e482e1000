"""Load from a second node, both ends of it, for tests of `remote_load`: the node is a thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.controller.node import Node, session
from harness.controller.remote_load import LoadTarget, RemoteLoad
from harness.errors import HarnessError
from harness.load.record import Record
from harness.node import line as node_line
from harness.node.line import Gone, Line
from harness.wire import codec
from harness.wire.driving import Call, End, FindCapacity, Finish, Start
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


def an_hour_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load's pongs tell its own clock; those of the measured node tell ours."""
    told = Line.reply

    def reply(line: Line, kind: str, body: bytes = b"", **head: Any) -> None:
        if kind == "pong" and getattr(line, "is_ahead", False):
            head["at_ns"] += HOUR
        told(line, kind, body, **head)

    monkeypatch.setattr(node_line.Line, "reply", reply)


@contextmanager
def making() -> Iterator[Callable[..., Side]]:
    """Makes far ends that do what they are told, and ends them."""
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


def asking(sides: Any) -> Callable[..., Any]:
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
