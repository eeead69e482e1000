"""What this process has open at a place: servers of other tests may be closing theirs just now."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def at(place: Path) -> list[str]:
    """Where its descriptors lead that lead to this file, or to this folder and below."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(os.readlink(each))
    return [each for each in found if Path(each).is_relative_to(place)]
