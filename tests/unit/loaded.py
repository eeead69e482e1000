"""A service under load while windows alternate, with stalls and a known effect; for tests.

What is paid when a response leaves is paid by the state of that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import latency
from harness.analysis.latency import Requests, Sample
from harness.model import Window, WindowRow
from harness.plan.experiment import pattern

Array = NDArray[np.float64]
Effect = Callable[[Array, NDArray[np.bool_]], Array]
BEGIN_NS = 10**12


@dataclass(frozen=True)
class Service:
    """Requests of `base_s`, log-normal with `spread`; stalls of `stall_s` come `stalls` a second.

    With `bursts` above 0 the seconds differ in how many stalls they have (gamma of that variance).
    """

    base_s: float = 60e-6
    spread: float = 0.3
    stalls: float = 0.0
    stall_s: float = 0.01
    bursts: float = 0.0
    rate: float = 2500.0
    poisson: bool = False


def windows(seconds: float, window_s: float, guard_s: float, seed: int) -> list[WindowRow]:
    """Windows of quadruples, whose metered part begins after the guard."""
    rows = []
    for i, on in enumerate(pattern(int(seconds / (4 * window_s)), seed)):
        start, end = (
            BEGIN_NS + round(1e9 * t) for t in (i * window_s + guard_s, (i + 1) * window_s)
        )
        rows.append(WindowRow(Window(i, i // 4, on, start, end), {}))
    return rows


def requests(
    what: Service, rows: list[WindowRow], window_s: float, effect: Effect, rng: np.random.Generator
) -> Requests:
    """Those of a trial; `effect` (latency, on) is paid when the response leaves."""
    seconds = len(rows) * window_s
    n = int(seconds * what.rate)
    due = np.sort(rng.uniform(0, seconds, n)) if what.poisson else np.arange(n) / what.rate
    taken = what.base_s * np.exp(what.spread * rng.standard_normal(n))
    each = np.full(int(seconds) + 1, what.stalls)
    if what.bursts:
        each = what.stalls * rng.gamma(1 / what.bursts, what.bursts, len(each))
    for second, mean in enumerate(each):
        for begin in second + rng.random(rng.poisson(mean)):
            end = begin + what.stall_s * (0.5 + rng.random())
            first, last = np.searchsorted(due, [begin, end])
            taken[first:last] = np.maximum(taken[first:last], end - due[first:last])
    on = np.array([row.window.on for row in rows])
    leaves_in = np.minimum(((due + taken) / window_s).astype(int), len(on) - 1)
    taken = effect(taken, on[leaves_in])
    due_ns, latency_ns = (np.round(1e9 * x).astype(np.int64) for x in (due, taken))
    return Requests(BEGIN_NS + due_ns, latency_ns, np.full(n, "/"))


def sample(
    what: Service,
    seed: int,
    effect: Effect = lambda taken, _: taken,
    *,
    seconds: float = 9.0,
    blocks: int = 2,
    window_s: float = 0.05,
    guard_s: float = 0.006,
) -> Sample:
    """The requests of a trial in each of some blocks, by the windows in which they were due."""
    parts = []
    for block in range(blocks):
        rows = windows(seconds, window_s, guard_s, 1000 * seed + block)
        rng = np.random.default_rng([seed, block])
        asked = requests(what, rows, window_s, effect, rng)
        parts.append(latency.attribute(asked, rows, block))
    return latency.join(parts)
