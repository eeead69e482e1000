"""Work done in each network namespace that some processes are in; for `flows`.

What the kernel shows of sockets, it shows of the reader's network namespace. A thread of its own
goes through the others and ends there: the agent's threads are ever where they were.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from threading import Thread

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def visit(pids: Iterable[int], work: Callable[[], None]) -> list[OSError]:
    """Do `work` in this network namespace and in each other one of these processes.

    What could not be entered is told, by why; one that ended meanwhile is not.
    """
    work()
    refused: list[OSError] = []
    others = _others(pids, refused)
    if not others:
        return refused
    failed: list[BaseException] = []

    def through() -> None:
        try:
            for namespace in others:
                _enter(namespace, work, refused)
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=through, name="namespaces")
    thread.start()
    thread.join()
    for namespace in others:
        os.close(namespace)
    if failed:
        raise failed[0]
    return refused


def _others(pids: Iterable[int], refused: list[OSError]) -> list[int]:
    """An open descriptor of each namespace but this thread's own."""
    seen = {os.stat("/proc/thread-self/ns/net").st_ino}
    found = []
    for pid in pids:
        path = f"/proc/{pid}/ns/net"
        try:
            inode = os.stat(path).st_ino
            if inode not in seen:
                found.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                seen.add(inode)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        except OSError as error:
            refused.append(error)
    return found


def _enter(namespace: int, work: Callable[[], None], refused: list[OSError]) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        refused.append(OSError(number, os.strerror(number)))
    else:
        work()
