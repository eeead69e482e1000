"""What this process has open at a place: servers of other tests may be closing theirs just now."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def at(place: Path) -> list[str]:
    """Where its descriptors lead that lead to this file, or to this folder and below."""
    return [each for each in _all() if Path(each).is_relative_to(place)]


def named(name: str) -> list[str]:
    """Its descriptors that are called so, as `anon_inode:[perf_event]`."""
    return [each for each in _all() if each == name]


def _all() -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(os.readlink(each))
    return found
