"""Standard output and error that cannot fail the command that writes them; for `main`.

The exit code of a command is a verdict. It must not change because a reader has seen enough
(`| head`), because a descriptor was closed (`>&-`), or because a word cannot be spelt in the
terminal's encoding; and what is lost on a full disk must be told.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# nobody reads on: a pipe's reader ended, a terminal hung up, a descriptor is not for writing
_UNREAD = (errno.EPIPE, errno.EIO, errno.EBADF)


_PLAIN = "harness.plain"
_SPELT = {
    "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "±": "+-", "≤": "<=", "≥": ">=", "µ": "u",
    "\N{MULTIPLICATION SIGN}": "x", "…": "...", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "╭": "+", "╮": "+", "╰": "+", "╯": "+", "─": "-", "│": "|",
}  # fmt: skip


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an encoding lacks, in what it has: an escaped minus would look like digits."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    words = (
        _SPELT.get(each) or each.encode("ascii", "backslashreplace").decode() for each in lacking
    )
    return "".join(words), error.end


codecs.register_error(_PLAIN, _spelt)


class Stream(io.FileIO):
    """A descriptor that takes whatever is written; after an error it drops it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as much as the descriptor takes; how much was written or dropped, in bytes."""
        if self.error is None:
            try:
                return self._write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def _write(self, data: ReadableBuffer) -> int:
        while True:
            written: int | None = super().write(data)
            if written is not None:
                return written
            select.select((), (self,), ())  # somebody made it non-blocking, and it is full

    @property
    def lost(self) -> str:
        """Why something was lost that somebody was to read; empty if nothing was."""
        if self.error is None or self.error.errno in _UNREAD:
            return ""
        return self.error.strerror or str(self.error)


def keep() -> Stream:
    """Put such streams in place of sys.stdout and sys.stderr; that of standard output.

    Descriptors that were closed are opened on /dev/null, so that no file of ours gets their number
    and with it what others print.
    """
    if sys.stdin is None:
        nothing = io.FileIO(os.open(os.devnull, os.O_RDONLY), closefd=False)
        sys.stdin = io.TextIOWrapper(io.BufferedReader(nothing))
    output, problems = _stream(sys.stdout), _stream(sys.stderr)
    sys.stdout, sys.stderr = _text(output, sys.stdout), _text(problems, sys.stderr)
    return output


def _stream(given: TextIO | None) -> Stream:
    # Python has None for a descriptor that was closed when it started
    return Stream(os.open(os.devnull, os.O_WRONLY) if given is None else given.fileno())


def _text(stream: Stream, given: TextIO | None) -> io.TextIOWrapper:
    if given is not None:
        given.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(stream),
        encoding=given.encoding if given is not None else "utf-8",
        errors=_PLAIN,
        line_buffering=stream.isatty(),
    )
