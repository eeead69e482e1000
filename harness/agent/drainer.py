"""A thread that drains a collector by the clock, and when a ring buffer fills.

Used by hosted, and by runtime for when that is.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Sequence

_FOLLOW_SECONDS = 1.0  # how long a cgroup that was made anew may go unnoticed
_AT_ONCE_SECONDS = 0.001  # what is due by then is done now
_BEGAN = time.monotonic()


class Drainer:
    """Calls `follow` every second or sooner, and `collect` every `drain_seconds`.

    `collect` is told whether metrics are due, and is called at once when one of `rings` wakes its
    reader. Both outlive their errors themselves. All of a process do so at the same `turn`.
    """

    def __init__(
        self,
        name: str,
        rings: Sequence[int],
        follow: Callable[[], object],
        collect: Callable[[bool], object],
        drain_seconds: float,
        interval_seconds: float,
    ) -> None:
        self._follow, self._collect = follow, collect
        self._drain_seconds, self._interval_seconds = drain_seconds, interval_seconds
        self._end = os.eventfd(0)
        self._poll = select.epoll()
        self._poll.register(self._end, select.EPOLLIN)
        for ring in rings:
            # told once for each time that it wakes: something waits there most of the time
            self._poll.register(ring, select.EPOLLIN | select.EPOLLET)
        self._thread = threading.Thread(target=self._run, name=f"drain {name}", daemon=True)

    def start(self) -> int:
        """Begin; the number of the thread."""
        self._thread.start()
        return self._thread.native_id or 0

    def close(self) -> None:
        """End after what is under way."""
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._poll.close()
        os.close(self._end)

    def _run(self) -> None:
        follow_due = drain_due = turn(self._drain_seconds)
        metrics_due = turn(self._interval_seconds)
        while True:
            due = min(turn(_FOLLOW_SECONDS), drain_due)
            ready = [fd for fd, _ in self._poll.poll(_until(due))]
            if self._end in ready:
                return
            if not ready or not _until(follow_due):
                self._follow()
                follow_due = turn(_FOLLOW_SECONDS)
            if not ready and _until(drain_due) > _AT_ONCE_SECONDS:
                continue
            metrics = _until(metrics_due) <= _AT_ONCE_SECONDS
            if metrics:
                metrics_due += self._interval_seconds  # they catch up later
            self._collect(metrics)
            drain_due = turn(self._drain_seconds)


def turn(seconds: float) -> float:
    """The next of the moments that are so far apart, counted since this process began.

    What its threads do by the clock, idle or not, they do together: most of what that takes is to
    have the interpreter in the caches again, and one of them does it for all.
    """
    now = time.monotonic()
    return _BEGAN + ((now - _BEGAN) // seconds + 1) * seconds if seconds > 0 else now


def _until(when: float) -> float:
    return max(0.0, when - time.monotonic())
