"""The log of somebody else's collector, small however much is said; for `subject_process`, `twin`.

A process writes into a file and never into a pipe, so that it waits for no reader. The first and
the last megabyte are kept: what lies between is taken off the disk while the file keeps its length,
a piece at a time, since a write waits that long. When nobody writes any more the file is made
short.
`python -m harness.node.limited_log FILE BEGIN` looks after it while its node measures.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.linux import processes, syscall

KEPT = 1 << 20  # bytes at the begin and at the end
PIECE = 1 << 20  # that go at once
LOOK_SECONDS = 0.2


class LimitedLog:
    """What is appended to a file from byte `begin` on."""

    def __init__(self, path: Path, begin: int) -> None:
        self._path, self._begin = path, begin
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        # whole blocks go, so that none stays between two pieces
        self._gone = -(-(begin + KEPT) // PIECE) * PIECE
        self._keeper: processes.Process | None = None
        self._is_held = True
        self.has_end = True  # not where its last megabyte found no room when it was cut

    def hold(self) -> bool:
        """Take off the disk what is too much by now; False where its file system cannot."""
        try:
            while self._is_held and self.size() - KEPT - self._gone >= PIECE:
                syscall.punch_hole(self._file, self._gone, PIECE)
                self._gone += PIECE
        except OSError:
            self._is_held = False
        return self._is_held

    def keep(self) -> None:
        """Have another process do that from now on: this one has no time while it measures."""
        if self.hold():
            argv = [sys.executable, "-m", "harness.node.limited_log"]
            argv += [str(self._path), str(self._begin)]
            self._keeper = processes.spawn(argv, log=Path(os.devnull))

    def size(self) -> int:
        """Where it ends by now."""
        return os.fstat(self._file).st_size

    @property
    def is_whole(self) -> bool:
        """Whether all of it is kept."""
        return self.size() - self._begin <= 2 * KEPT

    def said(self) -> str:
        """The text that is kept."""
        end = self.size()
        first = min(self._begin + KEPT, end)
        last = max(first, end - KEPT)
        between = b"\n" if last > first else b""
        found = self._read(self._begin, first) + between + self._read(last, end)
        return found.decode(errors="replace")

    def said_since(self, place: int) -> str:
        """The text from this byte on, as far as it is in the last megabyte."""
        end = self.size()
        return self._read(max(place, end - KEPT), end).decode(errors="replace")

    def close(self) -> int:
        """Make the file short, now that nobody writes; how many bytes are cut."""
        try:
            if self._keeper is not None:
                processes.stop(self._keeper)
            return self._cut()
        finally:
            os.close(self._file)

    def _cut(self) -> int:
        end, first = self.size(), self._begin + KEPT
        if (cut := end - KEPT - first) <= 0:
            return 0
        last = f"\n({cut} bytes were cut here.)\n".encode() + self._read(end - KEPT, end)
        os.ftruncate(self._file, first)
        try:
            self.has_end = os.pwrite(self._file, last, first) == len(last)
        except OSError:
            self.has_end = False
        if self.has_end:
            return cut
        os.ftruncate(self._file, first)  # on a full disk its last words go, too
        return end - first

    def _read(self, begin: int, end: int) -> bytes:
        return os.pread(self._file, end - begin, begin)


@contextlib.contextmanager
def limited(path: Path, name: str, remark: Callable[[str], None]) -> Iterator[LimitedLog]:
    """The log of what is started and ended while it is entered; then it is told if it was cut."""
    path.touch()
    log = LimitedLog(path, 0)
    try:
        yield log
    finally:
        if cut := log.close():
            remark(told(name, cut, log.has_end))


def told(name: str, cut: int, has_end: bool) -> str:
    """The remark that a log was cut, for a sentence of the report."""
    kept = "its first and its last megabyte are kept." if has_end else (
        "its first megabyte is kept, and for its last one there was no room."
    )  # fmt: skip
    return f"{name} said so much that {_size(cut)} of its log were cut: {kept}"


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def main() -> None:
    """Until it is ended, or the file system cannot do it."""
    path, begin = sys.argv[1:]
    log = LimitedLog(Path(path), int(begin))
    while log.hold():
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
