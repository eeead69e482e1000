"""What a locustfile prints goes to the driver's log: nobody reads its standard output."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

MAX_BYTES = 256 * 1024


def take_over(descriptor: int = 1, log: int = 2) -> int:
    """Lead standard output, also that of child processes, to the log; where it led, as a copy.

    The copy is for the one line that whoever started this process waits for. What `print` writes
    is kept up to MAX_BYTES: a line a request would fill a disk, and writing it is load as well.
    """
    kept = os.dup(descriptor)
    os.dup2(log, descriptor)
    raw: Any = _Capped(descriptor, MAX_BYTES)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return kept


class _Capped(io.FileIO):
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
