"""The node's end of the pipe to its controller: frames, the lease, files; for `session`."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

from harness.errors import HarnessError
from harness.model import WindowRow
from harness.wire import codec
from harness.wire.driving import Answer, Call
from harness.wire.frames import PIECE, EndError, Frame, FrameError, Reader, pack

ROWS = 1000  # windows in one message, of a kilobyte each or less
FOREVER = 600.0  # until a session says how long


class Gone(Exception):
    """The controller hung up, or was silent for too long."""


class Closed(Gone):
    """The controller has had enough, and waits for the last word."""


class Line:
    """Two descriptors: commands come in on one, everything goes out on the other.

    A controller that says nothing for `lease_seconds`, while nothing of it waits to be read, is
    gone; so is one that takes nothing for so long.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        os.set_blocking(sink, False)
        self._reader, self._heard = Reader(self._receive), time.monotonic()
        self.lease_seconds, self.over = FOREVER, False
        self._end: Gone | None = None  # whoever asks once more is told the same

    def next(self) -> Frame:
        """Wait for the next command; Closed or Gone instead of one."""
        while True:
            if (frame := self._read(1.0)) is not None:
                return frame

    def attend(self) -> None:
        """Whether the session is to go on; Closed or Gone if not. Never waits."""
        if self.over:
            return
        if (frame := self._read(0.0)) is not None:
            raise self._gone(f"the controller sent {frame.kind!r} while something was under way")

    def tell(self, what: str) -> None:
        """Say what is happening, and look whether it is to go on."""
        self.attend()
        self.last_word("phase", what=what) if self.over else self.reply("phase", what=what)

    def ask(self, call: Call) -> Answer:
        """Ask the controller for load from another node; its error is raised."""
        self.reply("ask", call=codec.dump(call))
        requests: list[bytes] = []
        while True:
            frame = self.next()
            if frame.kind == "requests":
                requests.append(frame.body)
            elif frame.kind != "answer":
                raise self._gone(f"the controller sent {frame.kind!r} in place of an answer")
            elif "error" in frame.head:
                raise HarnessError.from_dict(frame.head["error"])
            else:
                return frame.head["found"], b"".join(requests)

    def reply(self, kind: str, body: bytes = b"", **head: Any) -> None:
        """Send a message; Gone if the controller does not take it."""
        if self._end is not None and not isinstance(self._end, Closed):
            raise self._end  # who took nothing for a minute is not waited for again
        data = memoryview(pack(kind, body, **head))
        poll = select.poll()
        poll.register(self._sink, select.POLLOUT)
        while data:
            if not poll.poll(1000 * self.lease_seconds):
                raise self._gone(f"the controller took nothing for {self.lease_seconds:.0f} s")
            try:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self._sink, data) :]
            except OSError as error:
                raise self._gone("the controller hung up") from error

    def last_word(self, kind: str, **head: Any) -> None:
        """A message to a controller that may be gone."""
        with contextlib.suppress(Gone):
            self.reply(kind, **head)

    def send_file(self, name: str, stream: BinaryIO, *, new: bool) -> None:
        """Send a file in pieces; a `new` one replaces what is there, another one is added to it."""
        piece = stream.read(PIECE)
        while True:
            self.reply("file", piece, name=name, new=new)
            piece, new = stream.read(PIECE), False
            if not piece:
                return

    def send_windows(self, rows: Sequence[WindowRow]) -> None:
        """Send a trial's windows in pieces: there may be more than one message holds."""
        for first in range(0, len(rows), ROWS):
            self.reply("windows", rows=codec.dump(rows[first : first + ROWS]))

    def _read(self, seconds: float) -> Frame | None:
        """The next command, or None if none came in time; pings are answered by the time."""
        deadline = time.monotonic() + seconds
        while True:
            if self._end is not None:
                raise self._end
            frame = self._frame(max(0.0, deadline - time.monotonic()))
            if frame is None or frame.kind != "ping":
                break
            self.reply("pong", number=frame.head.get("number", 0), at_ns=time.monotonic_ns())
        if frame is not None and frame.kind == "close":
            self._end = Closed("the controller has had enough")
            raise self._end
        return frame

    def _frame(self, seconds: float) -> Frame | None:
        try:
            frame = self._reader.read(seconds)
        except TimeoutError:
            if time.monotonic() - self._heard > self.lease_seconds:
                why = f"the controller said nothing for {self.lease_seconds:.0f} s"
                raise self._gone(why) from None
            return None
        except EndError as error:
            raise self._gone("the controller hung up") from error
        except FrameError as error:
            raise self._gone(f"the controller spoke nonsense: {error}") from error
        self._heard = time.monotonic()
        return frame

    def _gone(self, why: str) -> Gone:
        self._end = Gone(why)
        return self._end

    def _receive(self, size: int, seconds: float) -> bytes:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            raise TimeoutError
        return os.read(self._source, size)
