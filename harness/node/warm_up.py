"""Waits until a fresh process costs the same a request; `block` and `twin` call it."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.analysis import warmup

PIECE_SECONDS = 0.5


def await_steady(
    cpu_seconds: Callable[[], float], least: float, limit: float, rate: float
) -> tuple[float, bool]:
    """How long it took until pieces of CPU per request due were steady, and whether they were.

    The requests answered are known only when the load has ended; those due are as many, unless
    the workload falls behind, which shows as CPU that does not settle. `rate` is a second, of the
    process whose CPU so far `cpu_seconds` tells; it lasts from `least` to `limit` seconds.
    """
    begun = edge = time.monotonic()
    used, pieces, steady = cpu_seconds(), list[float](), False
    while not steady and edge - begun < limit:
        time.sleep(min(PIECE_SECONDS, begun + limit - edge))
        now, total = time.monotonic(), cpu_seconds()
        pieces.append(1e6 * (total - used) / ((now - edge) * rate))
        edge, used = now, total
        steady = edge - begun >= least and warmup.steady(pieces)
    return edge - begun, steady
