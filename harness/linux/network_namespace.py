"""Work done in another process's network namespace; for `known_events`."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from harness.linux.procfs import HOST, Procfs

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def inside(pid: int, work: Callable[[], T], procfs: Procfs = HOST) -> T:
    """What `work` returns in the network namespace of a process; OSError if that is out of reach.

    It runs in a thread of its own, which ends with it: no other is ever in there.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            _enter(pid, procfs)
            found.append(work())
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _enter(pid: int, procfs: Procfs) -> None:
    descriptor = os.open(procfs.root / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(descriptor, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
