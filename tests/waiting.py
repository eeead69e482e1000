"""Waiting for what comes in its own time; no test asserts how long that is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 60.0  # after which it is sure that it does not come


def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether it comes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
