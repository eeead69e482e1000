"""What the driver and its locustfile print: both go to the driver's log, where one line counts."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

MAX_BYTES = 256 * 1024


class StandardOutput:
    """Standard output, of which `print` gets no more than MAX_BYTES.

    A line a request would fill a disk, and writing it is load as well.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor, self._began = descriptor, _position(descriptor)
        raw: Any = _Limited(descriptor, MAX_BYTES)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )

    def line(self, text: str) -> None:
        """Write a line of its own, whatever was printed before, by whom and how much."""
        sys.stdout.flush()
        begun = b"\n" if _position(self._descriptor) != self._began else b""
        os.write(self._descriptor, begun + text.encode() + b"\n")


def _position(descriptor: int) -> int:
    """Where the log ends, which standard error and child processes write to as well."""
    with contextlib.suppress(OSError):  # a terminal or a pipe
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    return 0


class _Limited(io.FileIO):
    """Takes so many bytes, says that it takes no more, and drops the rest."""

    def __init__(self, descriptor: int, left: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._left = left

    def write(self, data: Any) -> int:
        """Write what there is room for; all of it counts as written."""
        size = memoryview(data).nbytes
        if self._left > 0:
            self._put(bytes(data)[: self._left])
            if size >= self._left:
                self._put(b"\n(What the locustfile prints from here on is not kept.)\n")
        self._left -= size
        return size

    def _put(self, data: bytes) -> None:
        while data:
            data = data[super().write(data) :]
