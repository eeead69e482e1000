"""What a running process has mapped, and what is in it; used by profile and python_frames."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from harness.agent.pprof import Mapping
from harness.agent.text import text


class Memory:
    """The memory of a running process; OSError when it has ended."""

    def __init__(self, pid: int) -> None:
        self._fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)

    def close(self) -> None:
        """Close /proc/PID/mem."""
        os.close(self._fd)

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes; OSError if they are not mapped."""
        if not 0 < address < 1 << 63:
            raise OSError(f"{address:#x} is not a user address")
        data = os.pread(self._fd, size, address)
        if len(data) < size:
            raise OSError(f"{address:#x} is not mapped")
        return data

    def word(self, address: int) -> int:
        """The 64-bit word at `address`."""
        return int.from_bytes(self.read(address, 8), sys.byteorder)

    def text(self, address: int) -> str:
        """The C string at `address`, of at most 64 bytes."""
        return text(self.read(address, 64).split(b"\0")[0])


def mappings(pid: int) -> list[Mapping]:
    """The executable mappings of a process, by address; empty when it has ended.

    Their paths are as os.fsdecode makes them, so that the files can be opened.
    """
    found = []
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_bytes().strip().split(b"\n"):
            fields = line.split(maxsplit=5)
            if len(fields) > 1 and b"x" in fields[1]:
                start, limit = (int(each, 16) for each in fields[0].split(b"-"))
                # what has no file was compiled at run time
                path = os.fsdecode(fields[5]) if len(fields) == 6 else "//anon"
                found.append(Mapping(start, limit, int(fields[2], 16), path))
    return found
