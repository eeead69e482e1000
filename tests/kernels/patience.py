"""Waiting in a guest that may get little of a processor; used by `events` and `inside`.

How long something takes there says nothing: a guest that is starved is slow, one that hangs is
still. So who waits gives up when nothing changes any more, or if it changes for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

STILL_SECONDS = 120.0
MOST_SECONDS = 900.0  # of the hour that a guest has
_PAUSE_SECONDS = 0.2


def until(done: Callable[[], bool], sign: Callable[[], object]) -> bool:
    """Whether it comes to be done, while `sign`, which says how far that is, goes on changing."""
    began = changed = time.monotonic()
    before = sign()
    while not done():
        time.sleep(_PAUSE_SECONDS)
        now, seen = time.monotonic(), sign()
        if seen != before:
            before, changed = seen, now
        if now - changed > STILL_SECONDS or now - began > MOST_SECONDS:
            return False
    return True


def ran(cgroup: Path) -> str:
    """How long processes of a cgroup have run: a sign of them."""
    return (cgroup / "cpu.stat").read_text().partition("\n")[0]


def did(pid: int) -> list[bytes]:
    """What a process has done: a sign of it."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return [fields[7], fields[9], fields[11], fields[12]]  # faults, user and system time
