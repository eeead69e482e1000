"""What a running process has mapped, and what is in it; used by profile, images, python_frames."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from harness.agent.pprof import Mapping
from harness.agent.text import text

_START_STACK = 25  # of what follows the name in /proc/PID/stat: proc_pid_stat(5) counts it as 28


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
    return [mapping for mapping, _ in mapped(pid)]


def mapped(pid: int) -> list[tuple[Mapping, str]]:
    """`mappings`, each with the device and inode of its file, as the kernel writes them."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_bytes().strip().split(b"\n"):
            fields = line.split(maxsplit=5)
            if len(fields) > 1 and b"x" in fields[1]:
                start, limit = (int(each, 16) for each in fields[0].split(b"-"))
                # what has no file was compiled at run time
                path = os.fsdecode(fields[5]) if len(fields) == 6 else "//anon"
                file = text(b":".join(fields[3:5]))
                found.append((Mapping(start, limit, int(fields[2], 16), path), file))
    return found


def start_stack(pid: int) -> int:
    """Where the stack of a process began, 0 when it has ended.

    It is another one after exec, as far as addresses are random, and its parent's after fork: whose
    is the same has the same code, and the same data but for what was written since.
    """
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[_START_STACK])
    return 0
