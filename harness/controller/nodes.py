"""The node of a run, or another one in its place when it was lost; for `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from harness.controller.node import Beside, Node
from harness.errors import (
    ComponentError,
    HarnessError,
    InputError,
    NeedError,
    NodeError,
    WorkloadError,
)
from harness.plan.trials import Definitions
from harness.results import certificates
from harness.targets.base import Target
from harness.wire.driving import Answer, Call, Displace, Look, Place, Turn
from harness.wire.spec import Found, Hello, Spawn
from harness.wire.subject import Option

AGAIN_SECONDS = 100.0  # a lost node's lease, and the time that it takes to undo what it did
LOSSES = 3  # nodes in a row, after which there is no use in another one


class Nodes:
    """The node that is there, or another one in its place when it was lost."""

    def __init__(self, target: Target, begin: Callable[[Node], Hello]) -> None:
        self._target, self._begin = target, begin
        self._node: Node | None = None
        self._folder: Path | None = None
        self._losses, self._daemonsets = 0, list[str]()
        self._options = list[tuple[str, Option]]()
        self._first: Hello | None = None
        self.beside: Beside | None = None  # who is to hear of us while a node is waited for

    def connect(self) -> Hello:
        """Start a node and open its session; InputError if it is another machine than the first."""
        self._node = Node(self._target.connect())
        self._node.folder, self._node.beside = self._folder, self.beside
        self._node.places = partial(self._placed, self._node)
        hello = self._begin(self._node)
        if self._first is None:
            self._first = hello
        elif _measured_on(hello) != _measured_on(self._first):
            raise InputError(
                "The node that takes the place of a lost one measures on something else.",
                f"It says {_measured_on(hello)}, the first one said {_measured_on(self._first)}.",
                "Go on with --resume where the run was begun.",
            )
        return hello

    def node(self) -> Node:
        """The node, a new one if the last one was lost."""
        if self._node is None or self._node.lost:
            self.close()
            self._connect_again()
        assert self._node is not None
        return self._node

    def serving(self, asked: Spawn | Found, name: str) -> AbstractContextManager[Spawn | Found]:
        """How the target's node has the service of a block of this name, while that lasts."""
        try:
            self._clear()
        except (InputError, ComponentError) as error:  # another block may find it gone
            raise WorkloadError(error.what, error.why, error.next_step) from error
        return self._target.serving(asked, name, self.node().ping)

    def clear(self, definitions: Definitions) -> None:
        """Have none of those on the measured node that a cluster runs: trials move or turn them.

        Before each block again: a node that was lost may have left one.
        """
        placed = [each for each in definitions.values() if each.daemonset]
        moved = [each for each in placed if each.subject is None or each.subject.option is None]
        self._daemonsets = [each.daemonset for each in moved]
        self._options = [
            (each.daemonset, each.subject.option)
            for each in placed
            if each.subject is not None and each.subject.option is not None
        ]
        self._clear()

    def _clear(self) -> None:
        for each in self._daemonsets:
            self._target.place(each, False, self.node().ping)
        for daemonset, option in self._options:
            self._target.turn(daemonset, option, False, self.node().ping)

    def _placed(self, node: Node, call: Call) -> Answer:
        """Have the target do it with what a cluster runs on the node; it hears us meanwhile."""
        does = call.does
        if isinstance(does, Turn):
            there, was = self._target.turn(does.daemonset, does.option, does.on, node.ping)
            return {"containers": there, "was": was}, b""
        if isinstance(does, Look):
            there, seen = self._target.look(does.daemonset, does.option, node.ping)
            return {"containers": there, "seen": seen}, b""
        assert isinstance(does, Place | Displace)
        comes = isinstance(does, Place)
        return {"containers": self._target.place(does.daemonset, comes, node.ping)}, b""

    def current(self) -> Node | None:
        """The node that was had last, lost or not."""
        return self._node

    def _connect_again(self) -> None:
        """Where a connection was lost, the node of before may not know it yet, and keep its run."""
        deadline = time.monotonic() + AGAIN_SECONDS
        while True:
            try:
                self.connect()
                return
            except NeedError:
                self.close()
                if time.monotonic() > deadline:
                    raise
            if self.beside is not None:
                self.beside.hears()
            time.sleep(1.0)

    def held(self) -> None:
        """A block has ended with the node that it began with."""
        self._losses = 0

    def lost_too_often(self, error: HarnessError) -> bool:
        """Whether so many nodes were lost in a row that another one is of no use."""
        self._losses += isinstance(error, NodeError)
        return self._losses >= LOSSES

    def keep_in(self, folder: Path) -> None:
        """Where files from the node go."""
        self._folder = folder
        if self._node is not None:
            self._node.folder = folder

    def close(self) -> list[str]:
        """End the node; what could not be undone, in sentences. Safe to call again."""
        node, self._node = self._node, None
        if node is None:
            return []
        node.beside = self.beside
        return node.close()


def _measured_on(hello: Hello) -> dict[str, object]:
    """What must be the same for all blocks of a run."""
    roles = {role: cpus for role, cpus in vars(hello.placement).items() if role != "why"}
    return {**certificates.machine(hello.facts), **roles, "idle_poll": hello.idle_poll}
