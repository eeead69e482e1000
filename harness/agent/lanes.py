"""What waits of one signal, in order and bounded; used by outbox, which holds the lock."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from harness.agent.origin import Origin
from harness.agent.telemetry import Readings

BATCH = 2048  # records in a request: below a MB
_TAKEN = 8  # times the limit may wait while the receiver takes what it is sent
_FIRST_SECONDS, _MOST_SECONDS, _SPREAD = 0.5, 5.0, 0.2  # between two tries; all agents try apart

T = TypeVar("T")


class Lane(Generic[T]):
    """Records, the oldest first; of more than `limit` the oldest go, for the reason `overflow`.

    While the receiver takes what it is sent there may be more, as after a burst. `due` is when to
    send them, by the clock of the caller.
    """

    overflow = "queue_full"

    def __init__(
        self, signal: str, send: Callable[[Sequence[tuple[Origin, T]]], int], limit: int = 0
    ) -> None:
        self.signal, self.send, self._limit = signal, send, limit
        self.due = 0.0
        self._failures = 0
        self._waiting = deque[tuple[Origin, T]]()
        self._flying: Sequence[tuple[Origin, T]] = ()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)

    def put(self, origin: Origin, some: Iterable[T]) -> Sequence[tuple[Origin, T]]:
        """Add these; what had to go for them."""
        self._waiting += [(origin, each) for each in some]
        return self._cut()

    def take(self) -> Sequence[tuple[Origin, T]]:
        """The next to be sent; they count as waiting until `done` or `back`."""
        number = min(BATCH, len(self._waiting))
        self._flying = [self._waiting.popleft() for _ in range(number)]
        return self._flying

    def done(self) -> None:
        """The receiver answered for what was taken: it is gone."""
        self._flying, self._failures, self.due = (), 0, 0.0

    def back(self, now: float, seconds: float) -> Sequence[tuple[Origin, T]]:
        """What was taken waits again, for so long at least; what had to go for it."""
        self._waiting.extendleft(reversed(self._flying))
        self._flying = ()
        pause = min(_MOST_SECONDS, _FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self.due = now + max(seconds, pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))
        return self._cut()

    def give_up(self, origin: Origin) -> Sequence[tuple[Origin, T]]:
        """What waits of this collector, and waits no more."""
        given_up = [each for each in self._waiting if each[0] is origin]
        self._waiting = deque(each for each in self._waiting if each[0] is not origin)
        return given_up

    def _cut(self) -> Sequence[tuple[Origin, T]]:
        limit = self._limit * (1 if self._failures else _TAKEN)
        over = min(len(self) - limit, len(self._waiting))
        return [self._waiting.popleft() for _ in range(over)]


class Latest(Lane[Readings]):
    """Metrics, the newest of each collector: they are cumulative, and tell what older ones did."""

    overflow = "superseded"

    def _cut(self) -> Sequence[tuple[Origin, Readings]]:
        newest = dict(self._waiting)
        older = [each for each in self._waiting if newest[each[0]] is not each[1]]
        self._waiting = deque(newest.items())
        return older
