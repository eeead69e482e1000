"""What waits of one signal, in order and bounded; used by outbox, which holds the lock."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from harness.agent.origin import Origin
from harness.agent.telemetry import ProfileBatch, Readings

BATCH = 2048  # records in a request: below a MB
_TAKEN = 8  # times the limit may wait while the receiver takes what it is sent
_FIRST_SECONDS, _MOST_SECONDS, _SPREAD = 0.5, 5.0, 0.2  # between two tries; all agents try apart


class Records(Protocol):
    """What was handed over at once: some of it is of the same kind."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, part: slice, /) -> Any:
        """Those of a part."""
        ...


R = TypeVar("R", bound=Records)


class Lane(Generic[R]):
    """Records, the oldest first; of more than `limit` the oldest go, for the reason `overflow`.

    They stay together as they came, and are parted where a request or the limit ends. While the
    receiver takes what it is sent there may be more, as after a burst. `due` is when to send them,
    by the clock of the caller, `to` the receiver that they go to.
    """

    overflow = "queue_full"

    def __init__(
        self,
        signal: str,
        to: str,
        send: Callable[[Sequence[tuple[Origin, R]]], int],
        limit: int = 0,
    ) -> None:
        self.signal, self.to, self.send, self._limit = signal, to, send, limit
        self.due = 0.0
        self._failures = 0
        self._waiting = deque[tuple[Origin, R]]()
        self._number = 0  # of records in it
        self._flying: Sequence[tuple[Origin, R]] = ()

    def __len__(self) -> int:
        return self._number + size(self._flying)

    @property
    def most(self) -> int:
        """How many go into a request."""
        return BATCH

    def put(self, origin: Origin, some: R) -> Sequence[tuple[Origin, R]]:
        """Add these; what had to go for them."""
        if len(some):
            self._waiting.append((origin, some))
            self._number += len(some)
        return self._cut()

    def take(self) -> Sequence[tuple[Origin, R]]:
        """The next to be sent; they count as waiting until `done` or `back`."""
        self._flying = self._oldest(self.most)
        return self._flying

    def done(self) -> None:
        """The receiver answered for what was taken: it is gone."""
        self._flying, self._failures, self.due = (), 0, 0.0

    def back(self, now: float, seconds: float) -> Sequence[tuple[Origin, R]]:
        """What was taken waits again, for so long at least; what had to go for it."""
        self._waiting.extendleft(reversed(self._flying))
        self._number += size(self._flying)
        self._flying = ()
        pause = min(_MOST_SECONDS, _FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self.due = now + max(seconds, pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))
        return self._cut()

    def give_up(self, origin: Origin) -> Sequence[tuple[Origin, R]]:
        """What waits of this collector, and waits no more."""
        given_up = [each for each in self._waiting if each[0] is origin]
        self._waiting = deque(each for each in self._waiting if each[0] is not origin)
        self._number -= size(given_up)
        return given_up

    def numbers(self, batch: Iterable[tuple[Origin, R]]) -> Counter[Origin]:
        """How many of these are whose."""
        found: Counter[Origin] = Counter()
        for origin, some in batch:
            found[origin] += len(some)
        return found

    def _cut(self) -> Sequence[tuple[Origin, R]]:
        limit = self._limit * (1 if self._failures else _TAKEN)
        return self._oldest(len(self) - limit)

    def _oldest(self, number: int) -> Sequence[tuple[Origin, R]]:
        """So many of what waits, or all, which wait no more."""
        found: list[tuple[Origin, R]] = []
        while number > 0 and self._waiting:
            origin, some = self._waiting.popleft()
            if len(some) > number:
                self._waiting.appendleft((origin, some[number:]))
                some = some[:number]
            found.append((origin, some))
            number -= len(some)
            self._number -= len(some)
        return found


class Latest(Lane[Sequence[Readings]]):
    """Metrics, the newest of each collector: they are cumulative, and tell what older ones did."""

    overflow = "superseded"

    def numbers(self, batch: Iterable[tuple[Origin, Sequence[Readings]]]) -> Counter[Origin]:
        """How many points of metrics are whose."""
        found: Counter[Origin] = Counter()
        for origin, some in batch:
            found[origin] += sum(each.count for each in some)
        return found

    def _cut(self) -> Sequence[tuple[Origin, Sequence[Readings]]]:
        newest = dict(self._waiting)
        older = [each for each in self._waiting if newest[each[0]] is not each[1]]
        self._waiting = deque(newest.items())
        self._number = len(newest)
        return older


class Drains(Lane[Sequence[ProfileBatch]]):
    """Profiles, those of a drain in a request of their own: they share a dictionary."""

    @property
    def most(self) -> int:
        """One drain."""
        return 1

    def numbers(self, batch: Iterable[tuple[Origin, Sequence[ProfileBatch]]]) -> Counter[Origin]:
        """How many profiles are whose."""
        found: Counter[Origin] = Counter()
        for origin, some in batch:
            found[origin] += sum(map(len, some))
        return found


def size(batch: Iterable[tuple[Origin, Records]]) -> int:
    """How many records that is."""
    return sum(len(some) for _, some in batch)
