"""Kills the process that it is in when that was not heard of for a while; used by answerer.

A timer of the kernel does it. Stopped, traced, frozen, looping or asleep: SIGKILL cannot be put
off, and nobody else has to be alive or awake for it. `docs/adr/0007` says what relies on that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from ctypes import POINTER, byref, c_int, c_long, c_void_p

_SIGEV_SIGNAL = 0


class _Event(ctypes.Structure):
    """struct sigevent of a 64-bit machine."""

    _fields_ = (
        ("value", c_void_p),
        ("signo", c_int),
        ("notify", c_int),
        ("unused", c_int * 12),
    )


_Times = c_long * 4  # struct itimerspec: interval and first time, each in s and ns

_C = ctypes.CDLL(None, use_errno=True)
_C.timer_create.argtypes = (c_int, POINTER(_Event), POINTER(c_void_p))
_C.timer_settime.argtypes = (c_void_p, c_int, POINTER(_Times), c_void_p)


class Watchdog:
    """Asleep at first; once renewed, it kills after `seconds` unless renewed again."""

    def __init__(self, seconds: float) -> None:
        self._timer = c_void_p()
        whole, part = divmod(seconds, 1)
        self._armed = _Times(0, 0, int(whole), int(part * 1e9))
        self._asleep = _Times()
        event = _Event(signo=signal.SIGKILL, notify=_SIGEV_SIGNAL)
        _checked(_C.timer_create(time.CLOCK_MONOTONIC, byref(event), byref(self._timer)))

    def renew(self) -> None:
        """Be heard of."""
        _checked(_C.timer_settime(self._timer, 0, byref(self._armed), None))

    def sleep(self) -> None:
        """Kill no more, until renewed."""
        _checked(_C.timer_settime(self._timer, 0, byref(self._asleep), None))


def _checked(code: int) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
