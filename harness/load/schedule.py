"""When requests are due and of which kind they are: pure arithmetic, used by the load driver."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence

from harness.model import Arrivals

NS_PER_SECOND = 1_000_000_000


class Schedule:
    """Arrivals at a rate (per second): due times in CLOCK_MONOTONIC ns, `count` or endless.

    Periodic: slot k is due at exactly start + k / rate: integers throughout, so nothing drifts.
    """

    def __init__(self, start_ns: int, rate: float, count: int | None = None) -> None:
        self.start_ns, self.rate, self.count = start_ns, rate, count
        self.taken = 0
        self._slots, per_seconds = float(rate).as_integer_ratio()
        self._per_ns = per_seconds * NS_PER_SECOND

    def due_ns(self, slot: int) -> int:
        """When this slot is due."""
        return self.start_ns + slot * self._per_ns // self._slots

    @property
    def next_ns(self) -> int | None:
        """When the next slot that was not taken is due; None after the last."""
        return None if self.exhausted else self.due_ns(self.taken)

    @property
    def exhausted(self) -> bool:
        """Whether all slots were taken."""
        return self.count is not None and self.taken >= self.count

    @property
    def drawn_rate(self) -> float:
        """The rate at which the slots that were taken were due: the rate, but for chance."""
        return self.rate

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
    seed and rate give the same due times after the start.
    """

    def __init__(self, start_ns: int, rate: float, count: int | None, seed: str) -> None:
        super().__init__(start_ns, rate, count)
        self._random = random.Random(seed)
        self._after: list[int] = []

    def due_ns(self, slot: int) -> int:
        """When this slot is due."""
        while len(self._after) <= slot:
            gap = round(self._random.expovariate(self.rate) * NS_PER_SECOND)
            self._after.append((self._after[-1] if self._after else 0) + gap)
        return self.start_ns + self._after[slot]

    @property
    def drawn_rate(self) -> float:
        """The rate at which the slots that were taken were due: the rate, but for chance."""
        return self.taken * NS_PER_SECOND / max(self.due_ns(self.taken) - self.due_ns(0), 1)


def scheduled(arrivals: Arrivals, rate: float, count: int | None, seed: str) -> Schedule:
    """The schedule of arrivals of this kind; its start is set when its phase begins."""
    if arrivals == "poisson":
        return PoissonSchedule(0, rate, count, seed)
    return Schedule(0, rate, count)


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
