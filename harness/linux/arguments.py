"""What everybody on the machine reads as this process's arguments; `cli` hides a login there."""

from __future__ import annotations

import ctypes
from pathlib import Path

_CMDLINE, _STAT = Path("/proc/self/cmdline"), Path("/proc/self/stat")
_ARG_START = 47  # proc(5): field 48 of stat, counted from 0


def conceal(secret: str) -> None:
    """Overwrite every occurrence of `secret` in /proc/PID/cmdline with as many `*`.

    As mysql and curl do: Python's sys.argv stays as it is. Nothing is done where the kernel does
    not say where the arguments are.
    """
    begin = int(_STAT.read_text().rpartition(")")[2].split()[_ARG_START - 2])
    wanted, told = secret.encode(), _CMDLINE.read_bytes()
    at = told.find(wanted) if wanted and begin else -1
    while at >= 0:
        ctypes.memset(begin + at, ord("*"), len(wanted))
        at = told.find(wanted, at + len(wanted))
