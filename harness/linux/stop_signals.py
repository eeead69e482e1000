"""Makes every way of being told to stop end in order; used by what starts things it must end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM, SIGHUP and Ctrl-C raise KeyboardInterrupt once; more are ignored until the end.

    SIGINT is taken even where a shell that started us in the background had it ignored; SIGHUP
    is not where `nohup` asked for that.
    """
    taken = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        taken.append(signal.SIGHUP)

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        for number in taken:
            signal.signal(number, signal.SIG_IGN)  # what was begun to be ended is ended
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in taken}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
