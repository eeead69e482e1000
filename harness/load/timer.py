"""A timer in gevent's loop that is exact to tens of microseconds; used by the load driver.

libev waits in epoll, whose timeouts are whole milliseconds: ten times the latency of a fast
service. A timerfd is only one more file descriptor to it, and fires when it must.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

import gevent

_LIBC = ctypes.CDLL(None, use_errno=True)
_READ = 1
_TFD_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """Calls `fired()` in the hub once after each `arm`; it must not block."""

    def __init__(self, fired: Callable[[], None]) -> None:
        self._fd = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Itimerspec()
        self._spec_ref = ctypes.byref(self._spec)
        loop = gevent.get_hub().loop
        self._watcher = loop.io(self._fd, _READ)
        self._watcher.priority = loop.MAXPRI
        self._watcher.start(fired)

    def arm(self, at_ns: int | None) -> None:
        """Fire at this CLOCK_MONOTONIC time, at once if it has passed, or not at all (None).

        Arming again also takes back an expiration that was not looked at, so nothing is read.
        """
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(at_ns or 0, _NS)
        if _LIBC.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_ref, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Stop watching and close."""
        self._watcher.stop()
        self._watcher.close()
        os.close(self._fd)
