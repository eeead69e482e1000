"""Requests by the windows in which they were due, and which of them count; for `latency_rows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.analysis.compare import Array
from harness.model import WindowRow
from harness.results.requests import read as read_requests

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

NEVER_NS = 100 * 10**9  # the latency of a request without an answer: no other has a longer one
ENDLESS_NS = 2**62  # what is left of a window whose end cuts nothing off
MARGIN = 1.25  # times a percentile: requests due so shortly before a window's end do not count
LEAST_KEPT = 0.5  # of a window's metered part; where less would be left, a percentile is not told
TAIL = 10  # a percentile that is drawn has as many requests beyond it, in each state

GRID = np.unique(
    np.concatenate([np.linspace(0.005, 0.99, 120), 1 - np.logspace(-2, -4, 60)])
)  # the quantiles of a drawn curve


@dataclass(frozen=True)
class Requests:
    """The requests of one trial: due times and latencies in ns, and their routes."""

    due_ns: Ints
    latency_ns: Ints
    route: NDArray[np.str_]

    @classmethod
    def load(cls, path: Path) -> Requests:
        """Read requests.npz; a request without an answer took longer than every other.

        StoreError if it cannot be read.
        """
        found = read_requests(path)
        taken = np.minimum(found.end_ns - found.due_ns, NEVER_NS)
        latency = np.where(found.status > 0, taken, NEVER_NS)
        return cls(found.due_ns, latency, found.route_names[found.route])

    def of(self, route: str) -> Requests:
        """Those of one route."""
        mine = self.route == route
        return Requests(self.due_ns[mine], self.latency_ns[mine], self.route[mine])


@dataclass(frozen=True)
class Sample:
    """Requests that were due within windows, a row each: `latency_ns`, `on`, `left_ns`, `group`.

    `left_ns` is how long their window was still metered when they were due. A group is what a coin
    decides: a quadruple of windows, or a cycle of a factorial design; `block` (groups,) is whose
    trial it is from. `stretch_ns` is the metered part of a window.
    """

    latency_ns: Ints
    on: Bools
    left_ns: Ints
    group: Ints
    block: Ints
    stretch_ns: float

    def picked(self, which: Bools) -> Sample:
        """Some of the requests."""
        return replace(
            self, latency_ns=self.latency_ns[which], on=self.on[which],
            left_ns=self.left_ns[which], group=self.group[which],
        )  # fmt: skip

    @property
    def groups(self) -> int:
        """How many there are."""
        return len(self.block)


@dataclass(frozen=True)
class Curve:
    """Pooled quantiles of latency in us at `q`, and how many requests stand behind them."""

    q: Array
    on: Array
    off: Array
    n_on: int
    n_off: int


def attribute(
    requests: Requests,
    rows: Sequence[WindowRow],
    block: int,
    on: Sequence[bool] | Bools | None = None,
    *,
    cut: bool = True,
) -> Sample:
    """Each request by the window in which it was due; one that was due between windows is in none.

    `on` is the state of each of the `rows` in the comparison; without it that of the window itself.
    A group without a window of each state is left out. `cut` is whether a window's end
    ends what requests in flight get; it does not where their process has its state for good.
    """
    states = np.array([row.window.on for row in rows] if on is None else on, dtype=bool)
    number = np.array([row.window.quadruple for row in rows], dtype=np.int64)
    starts = np.array([row.window.start_ns for row in rows], dtype=np.int64)
    ends = np.array([row.window.end_ns for row in rows], dtype=np.int64)
    both = _both(number, states)
    order = np.flatnonzero(both)[np.argsort(starts[both], kind="stable")]
    states, starts, ends = states[order], starts[order], ends[order]
    names, group = np.unique(number[order], return_inverse=True)
    at = np.searchsorted(starts, requests.due_ns, side="right") - 1
    inside = at >= 0
    inside[inside] = requests.due_ns[inside] <= ends[at[inside]]
    at, due = at[inside], requests.due_ns[inside]
    left = ends[at] - due if cut else np.full(len(due), ENDLESS_NS, dtype=np.int64)
    return Sample(
        requests.latency_ns[inside], states[at], left, group[at].astype(np.int64),
        np.full(len(names), block, dtype=np.int64),
        float(np.median(ends - starts)) if cut and len(ends) else float(ENDLESS_NS),
    )  # fmt: skip


def _both(number: Ints, on: Bools) -> Bools:
    """The windows whose group has some on and some off."""
    kept: Bools = np.isin(number, number[on]) & np.isin(number, number[~on])
    return kept


def join(parts: Sequence[Sample]) -> Sample:
    """The requests of several trials as one sample; at least one."""
    first = np.cumsum([0, *(part.groups for part in parts)])
    return Sample(
        np.concatenate([part.latency_ns for part in parts]),
        np.concatenate([part.on for part in parts]),
        np.concatenate([part.left_ns for part in parts]),
        np.concatenate([part.group + n for part, n in zip(parts, first, strict=False)]),
        np.concatenate([part.block for part in parts]),
        float(np.median([part.stretch_ns for part in parts])),
    )


@dataclass(frozen=True)
class Within:
    """The requests that a percentile rests on: those due earlier than `margin_ns` before an end.

    `kept` is what share of the requests that leaves. `quantile_ns` is the percentile of both states
    together; `too_long` is whether so long a request has no window that is long enough for it.
    """

    sample: Sample
    quantile_ns: float
    margin_ns: float
    kept: float
    too_long: bool


def within(sample: Sample, q: float) -> Within:
    """Leave out the requests due so shortly before a window's end that one at `q` would cross it.

    What a collector does when a response leaves then happens in the state of the window in which
    the request was due. Requests that take longer than the margin may cross, but they lie beyond
    the quantile whichever state they are counted in. The rule looks at due times only, and the
    margin is made of both states together, so that it cannot favour one.
    """
    n = len(sample.latency_ns)
    quantile = float(np.quantile(sample.latency_ns, q)) if n else 0.0
    most = (1 - LEAST_KEPT) * sample.stretch_ns
    margin = min(MARGIN * quantile, most)
    early = sample.left_ns >= margin
    kept = float(np.mean(early)) if n else 0.0
    return Within(sample.picked(early), quantile, margin, kept, quantile > most)


def curve(sample: Sample) -> Curve:
    """Pooled quantiles for drawing, as far into the tail as TAIL requests reach.

    It rests on the requests that its farthest quantile rests on.
    """
    for reach in range(len(GRID), 0, -1):
        part = within(sample, float(GRID[reach - 1]))
        on, off = (part.sample.latency_ns[part.sample.on == state] for state in (True, False))
        beyond = min(len(on), len(off)) * (1 - GRID[reach - 1])
        if not part.too_long and beyond >= TAIL:
            return Curve(
                GRID[:reach], np.quantile(on, GRID[:reach]) / 1e3,
                np.quantile(off, GRID[:reach]) / 1e3, len(on), len(off),
            )  # fmt: skip
    return Curve(GRID[:0], np.empty(0), np.empty(0), 0, 0)
