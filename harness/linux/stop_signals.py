"""Makes every way of being told to stop end in order; used by what starts things it must end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STILL = b"still ending what was started; Ctrl-\\ kills, then `harness clean` undoes the rest\n"


class Stopping:
    """Whether one was told to stop, and whether that interrupts.

    `is_lost` is whether it did not, because of the shield.
    """

    def __init__(self) -> None:
        self._times, self._shielded, self.is_lost = 0, False, False

    @property
    def asked(self) -> bool:
        """Whether one was told to stop, also while that was shielded."""
        return self._times > 0

    def shield(self) -> None:
        """From now on nothing is interrupted any more: to be called when clean-up begins."""
        self._shielded = True

    def interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """The signals' handler."""
        self._times += 1
        if self._times > 1:
            os.write(2, _STILL)  # not through a buffer, which may be in use at this moment
        elif self._shielded:
            self.is_lost = True
        else:
            self._shielded = True  # what is begun to be ended now is ended
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Stopping]:
    """SIGTERM, SIGHUP and Ctrl-C raise KeyboardInterrupt once, unless `shield` was called before.

    More of them only say that the end is near. One that came under the shield raises it at the
    end, so that it is not lost. SIGINT is taken even where a shell that started us in the
    background had it ignored; SIGHUP is not where `nohup` asked for that.
    """
    taken = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        taken.append(signal.SIGHUP)
    stopping = Stopping()
    old = {number: signal.signal(number, stopping.interrupt) for number in taken}
    try:
        yield stopping
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if stopping.is_lost:
        raise KeyboardInterrupt
