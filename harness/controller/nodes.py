"""The node of a run, or another one in its place when it was lost; for `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from harness.controller.node import Node
from harness.errors import (
    HarnessError,
    NeedError,
    NodeError,
)
from harness.targets.base import Target
from harness.wire.spec import Hello

AGAIN_SECONDS = 100.0  # a lost node's lease, and the time that it takes to undo what it did


LOSSES = 3  # nodes in a row, after which there is no use in another one


class Nodes:
    """The node that is there, or another one in its place when it was lost."""

    def __init__(self, target: Target, begin: Callable[[Node], Hello]) -> None:
        self._target, self._begin = target, begin
        self._node: Node | None = None
        self._folder: Path | None = None
        self._losses = 0

    def connect(self) -> Hello:
        """Start a node and open its session."""
        self._node = Node(self._target.connect())
        self._node.folder = self._folder
        return self._begin(self._node)

    def node(self) -> Node:
        """The node, a new one if the last one was lost."""
        if self._node is None or self._node.lost:
            self.close()
            self._connect_again()
        assert self._node is not None
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
            time.sleep(1.0)

    def lost_too_often(self, error: HarnessError) -> bool:
        """Whether so many nodes were lost in a row that another one is of no use."""
        self._losses = self._losses + 1 if isinstance(error, NodeError) else 0
        return self._losses >= LOSSES

    def keep_in(self, folder: Path) -> None:
        """Where files from the node go."""
        self._folder = folder
        if self._node is not None:
            self._node.folder = folder

    def close(self) -> list[str]:
        """End the node; what could not be undone, in sentences. Safe to call again."""
        node, self._node = self._node, None
        return node.close() if node is not None else []
