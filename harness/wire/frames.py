"""Messages over a byte pipe: a header line, a JSON object, raw bytes; for `controller` and `node`.

    harness1 LENGTH-OF-OBJECT LENGTH-OF-BYTES SHA-256-OF-BOTH\\n OBJECT BYTES

Lengths and a hash, because a pipe through other programs was seen to end early without an error
(kubernetes/kubernetes#124571). What a login prints before the first message is skipped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAGIC = b"harness1 "
LONGEST = 64 << 20  # bytes of one message: more is nonsense
NOISE = 1 << 16  # bytes before the first message
PIECE = 1 << 20  # bytes of a file in one message
_LONGEST_LINE = 200  # bytes of a header

Receive = Callable[[int, float], bytes]
"""Up to so many bytes within so many seconds: b"" at the end, TimeoutError if none came."""


class FrameError(Exception):
    """What came is no message, or not the whole of one."""


class EndError(FrameError):
    """The other side hung up."""


@dataclass(frozen=True)
class Frame:
    """A message; `head["kind"]` says which."""

    head: Mapping[str, Any]
    body: bytes = b""

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.head.get("kind", ""))


def pack(kind: str, body: bytes = b"", **head: Any) -> bytes:
    """A message as bytes."""
    text = json.dumps({"kind": kind, **head}, separators=(",", ":")).encode()
    digest = hashlib.sha256(text + body).hexdigest()
    return b"%s%d %d %s\n%s%s" % (MAGIC, len(text), len(body), digest.encode(), text, body)


class Reader:
    """Takes messages from a pipe; what is read of the next one is kept."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._buffer, self._began = receive, bytearray(), False

    def read(self, seconds: float) -> Frame:
        """The next message; TimeoutError if it is not whole in time, which loses nothing of it.

        EndError at the end of the pipe, FrameError for anything else that is no message.
        """
        deadline = time.monotonic() + seconds
        line = self._line(deadline)
        try:
            magic, text, body, digest = line.split()
            lengths = int(text), int(body)
        except ValueError as error:
            raise FrameError(f"this is no message: {line[:120]!r}") from error
        if magic + b" " != MAGIC or not all(0 <= length <= LONGEST for length in lengths):
            raise FrameError(f"this is no message: {line[:120]!r}")
        whole = len(line) + 1 + sum(lengths)
        while len(self._buffer) < whole:
            self._more(deadline)
        text_end = len(line) + 1 + lengths[0]
        head, rest = self._buffer[len(line) + 1 : text_end], bytes(self._buffer[text_end:whole])
        del self._buffer[:whole]
        if hashlib.sha256(head + rest).hexdigest().encode() != digest:
            raise FrameError("a message was damaged on its way: its hash is another")
        return Frame(json.loads(head), rest)

    def _line(self, deadline: float) -> bytes:
        while not self._began:
            if (before := self._buffer.find(MAGIC)) >= 0:
                del self._buffer[:before]
                self._began = True
            elif len(self._buffer) > NOISE:
                raise FrameError(f"no message came, but {self._seen()!r}")
            else:
                self._more(deadline)
        while (end := self._buffer.find(b"\n", 0, _LONGEST_LINE + 1)) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise FrameError(f"this is no message: {self._seen()!r}")
            self._more(deadline)
        return bytes(self._buffer[:end])

    def _seen(self) -> bytes:
        return bytes(self._buffer[:120])

    def _more(self, deadline: float) -> None:
        piece = self._receive(1 << 16, max(0.0, deadline - time.monotonic()))
        if not piece:
            said = f" after {self._seen()!r}" if self._buffer else ""
            raise EndError(f"the other side hung up{said}")
        self._buffer += piece
