"""A thread that acts at once on what cannot wait for the timer; used by guard for its kills."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.agent import cgroup


class Responder:
    """Calls the callback of each descriptor that becomes readable, until `close`."""

    def __init__(self, callbacks: Mapping[int, Callable[[], object]]) -> None:
        self._callbacks = dict(callbacks)
        self._end = os.eventfd(0)
        self._poll = select.epoll()
        for fd in (self._end, *self._callbacks):
            self._poll.register(fd, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="responder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the descriptors stay open."""
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._poll.close()
        os.close(self._end)

    def _run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._end:
                    return
                self._callbacks[fd]()


def kill(pid: int, within: Path) -> None:
    """SIGKILL for `pid` if it is in the cgroup `within`; a reused pid is not hit."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # it has ended
        return
    try:
        if pid in cgroup.pids(within):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
