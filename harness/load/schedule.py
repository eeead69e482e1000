"""When requests are due and of which kind they are: pure arithmetic, used by the load driver."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.model import Arrivals

NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Share:
    """What one of several processes has of a load: of all that is counted every `workers`th.

    It begins with number `worker`, so that the shares of all of them together are the whole.
    """

    worker: int = 0
    workers: int = 1

    def of(self, count: int) -> int:
        """How many of so many it has."""
        return len(range(self.worker, count, self.workers))


WHOLE = Share()


class Schedule:
    """Arrivals at a rate (per second): due times in CLOCK_MONOTONIC ns, `count` or endless.

    Periodic: slot k is due at exactly start + k / rate: integers throughout, so nothing drifts.
    Of these it has its `share`: `count` and `taken` are its own slots. After `until_ns`, once that
    is set, none is due.
    """

    def __init__(
        self, start_ns: int, rate: float, count: int | None = None, share: Share = WHOLE
    ) -> None:
        self.start_ns, self.rate = start_ns, rate
        self._first, self._step = share.worker, share.workers
        self.count = None if count is None else share.of(count)
        self.taken, self.until_ns = 0, 0
        self._slots, per_seconds = float(rate).as_integer_ratio()
        self._per_ns = per_seconds * NS_PER_SECOND

    def due_ns(self, slot: int) -> int:
        """When this slot is due."""
        return self.start_ns + (self._first + slot * self._step) * self._per_ns // self._slots

    @property
    def next_ns(self) -> int | None:
        """When the next slot that was not taken is due; None after the last."""
        if self.exhausted:
            return None
        due_ns = self.due_ns(self.taken)
        return None if 0 < self.until_ns < due_ns else due_ns

    @property
    def exhausted(self) -> bool:
        """Whether all slots were taken."""
        return self.count is not None and self.taken >= self.count

    @property
    def drawn_rate(self) -> float:
        """The rate at which the slots that were taken were due: the rate, but for chance."""
        return self.rate / self._step

    def take(self, now_ns: int) -> list[int]:
        """Take every slot that is due by now; returns their due times, oldest first."""
        due: list[int] = []
        while (next_ns := self.next_ns) is not None and next_ns <= now_ns:
            due.append(next_ns)
            self.taken += 1
        return due


class PoissonSchedule(Schedule):
    """The same with gaps drawn from an exponential distribution: independent of each other.

    They come from `seed` alone, whenever slots are taken and however long answers take: the same
    seed and rate give the same due times after the start. All are drawn and dealt out in turn, so
    that the shares of several processes are together what one would have.
    """

    def __init__(
        self, start_ns: int, rate: float, count: int | None, seed: str, share: Share = WHOLE
    ) -> None:
        super().__init__(start_ns, rate, count, share)
        self._random = random.Random(seed)
        self._after: list[int] = []

    def due_ns(self, slot: int) -> int:
        """When this slot is due."""
        number = self._first + slot * self._step
        while len(self._after) <= number:
            gap = round(self._random.expovariate(self.rate) * NS_PER_SECOND)
            self._after.append((self._after[-1] if self._after else 0) + gap)
        return self.start_ns + self._after[number]

    @property
    def drawn_rate(self) -> float:
        """The rate at which the slots that were taken were due: the rate, but for chance."""
        return self.taken * NS_PER_SECOND / max(self.due_ns(self.taken) - self.due_ns(0), 1)


def scheduled(
    arrivals: Arrivals, rate: float, count: int | None, seed: str, share: Share = WHOLE
) -> Schedule:
    """The schedule of arrivals of this kind; its start is set when its phase begins."""
    if arrivals == "poisson":
        return PoissonSchedule(0, rate, count, seed, share)
    return Schedule(0, rate, count, share)


def interleave(weights: Sequence[int], offset: int = 0) -> Iterator[int]:
    """Indices in proportion to the weights, spread evenly, for ever, beginning at `offset`.

    Smooth weighted round robin: each run of sum(weights) / gcd holds every index exactly its
    share of times, and any shorter run is as near to it as can be. Weights of 0 never come.
    """
    divisor = math.gcd(*weights)
    if divisor == 0:
        raise ValueError("all weights are 0")
    shares = [weight // divisor for weight in weights]
    period = sum(shares)
    credit = [0] * len(shares)
    order: list[int] = []
    for _ in range(period):
        credit = [have + share for have, share in zip(credit, shares, strict=True)]
        best = max(range(len(credit)), key=credit.__getitem__)
        credit[best] -= period
        order.append(best)
    start = offset % period
    return itertools.cycle(order[start:] + order[:start])
