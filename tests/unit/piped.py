"""A node's pipe within a test: what the controller says at one end, the test reads at the other."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from harness.errors import NodeError


class Channel:
    """A pipe each way; the test speaks at the far end."""

    def __init__(self) -> None:
        self.far_source, self._sink = os.pipe()
        self._source, self.far_sink = os.pipe()
        self.closed = False

    def send(self, data: bytes) -> None:
        try:
            os.write(self._sink, data)
        except OSError as error:
            raise NodeError("The node does not listen any more.") from error

    def receive(self, size: int, seconds: float) -> bytes:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        if not poll.poll(1000 * seconds):
            raise TimeoutError
        return os.read(self._source, size)

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        if not self.closed:
            os.close(self._sink)
            os.close(self._source)
        self.closed = True

    def last_words(self) -> str:
        return "Killed"
