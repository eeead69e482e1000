"""A thread that acts at once on what cannot wait; used by guard, policy_maps, images.

Nobody waits for it: what it kills for was denied by the kernel. It outlives errors, which it tells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Mapping

_END_SECONDS = 2.0
_AFTER_ERROR_SECONDS = 0.1  # what was not taken is still there, and would keep a CPU busy
_log = logging.getLogger("harness.agent")


class Responder:
    """Calls the callback of each descriptor that becomes readable, until `close`."""

    def __init__(self, callbacks: Mapping[int, Callable[[], object]]) -> None:
        self.errors = 0
        self._callbacks = dict(callbacks)
        self._end = os.eventfd(0)
        self._poll = select.epoll()
        for fd in (self._end, *self._callbacks):
            self._poll.register(fd, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="responder", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """End the thread, and say whether it did within seconds; the descriptors stay open."""
        os.eventfd_write(self._end, 1)
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():  # it is a daemon: it ends with the process
            return False
        self._poll.close()
        os.close(self._end)
        return True

    def _run(self) -> None:
        while True:
            try:
                ready = [fd for fd, _ in self._poll.poll()]
                if self._end in ready:
                    return
                for fd in ready:
                    self._callbacks[fd]()
            except Exception:
                self.errors += 1
                with contextlib.suppress(Exception):  # no memory, or a full disk
                    _log.exception("What could not wait failed.")
                time.sleep(_AFTER_ERROR_SECONDS)
