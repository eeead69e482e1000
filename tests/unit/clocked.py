"""A clock in the place of a module's `time`: it goes on while somebody sleeps, and only then.

What is to come within some seconds then comes within them on a busy machine, too.
"""

from __future__ import annotations

import time

SECOND = 10**9


class Clock:
    """It begins now."""

    def __init__(self) -> None:
        self._unix_ns, self._monotonic_ns = time.time_ns(), time.monotonic_ns()

    def time_ns(self) -> int:
        return self._unix_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def monotonic(self) -> float:
        return self._monotonic_ns / SECOND

    def sleep(self, seconds: float) -> None:
        passed = round(seconds * SECOND)
        self._unix_ns += passed
        self._monotonic_ns += passed
