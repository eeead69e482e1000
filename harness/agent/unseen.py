"""Connections that went and were not told as closed: all that opened are open or closed; for flows.

A program does not run for what happens while its CPU is in it already, such as in the timers of an
interrupt. On busy machines some go that no program runs for, and `recursion_misses` tells of none.
Of a socket that went nothing is left to look at: only the sum tells.
"""

from __future__ import annotations


class Unseen:
    """How many at least, by what was opened, closed and found open since `begin`.

    opened - closed - open grows by each that went unseen. It cannot be read at once: while others
    come and go it lies between two bounds, and what it was at the beginning between those of then.
    """

    def __init__(self) -> None:
        self._before = 0
        self._highest_low: int | None = None
        self._lowest_high: int | None = None

    def begin(self) -> None:
        """From now on closes are seen; what closed meanwhile, unseen, is no loss."""
        self._before, self._highest_low, self._lowest_high = self.count, None, None

    def grows(self, low: int) -> bool:
        """Whether this lower bound would tell of more than is known."""
        return self._lowest_high is not None and low - self._lowest_high > self.count - self._before

    def look(self, low: int, high: int) -> None:
        """Take the bounds of one reading."""
        if self._highest_low is None or self._lowest_high is None:
            self._highest_low, self._lowest_high = low, high
        self._highest_low = max(self._highest_low, low)
        self._lowest_high = min(self._lowest_high, high)

    @property
    def count(self) -> int:
        """Since the first `begin`, at least."""
        if self._highest_low is None or self._lowest_high is None:
            return self._before
        return self._before + max(0, self._highest_low - self._lowest_high)
