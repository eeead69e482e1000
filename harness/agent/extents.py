"""Stretches of an array that are in use, and those that are not; used by unwind_tables."""

from __future__ import annotations

import bisect


class Extents:
    """Gives stretches of `size` places, the first that is long enough."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size)]  # (first, how many), by first; no two of them touch

    @property
    def free(self) -> int:
        """How many places are not in use."""
        return sum(count for _, count in self._free)

    def take(self, count: int) -> int | None:
        """The first place of a stretch; None where no stretch is long enough."""
        for i, (first, there) in enumerate(self._free):
            if there > count:
                self._free[i] = (first + count, there - count)
                return first
            if there == count:
                del self._free[i]
                return first
        return None

    def give(self, first: int, count: int) -> None:
        """What was taken is not in use any more."""
        i = bisect.bisect(self._free, (first, 0))
        if i < len(self._free) and self._free[i][0] == first + count:
            count += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == first:
            first, more = self._free.pop(i - 1)
            count, i = count + more, i - 1
        self._free.insert(i, (first, count))
