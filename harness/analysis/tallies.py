"""Requests that were due, failed and answered with collectors on and off; `harms`, `summary`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis import coverage, factorial, value
from harness.analysis.compare import CONFIDENCE, Array, Estimate
from harness.analysis.coverage import Count
from harness.analysis.metrics import metric
from harness.analysis.validity import Judged
from harness.model import FACTORIAL, Comparison, Method, Trial, WindowRow
from harness.plan.experiment import Experiment
from harness.results import requests
from harness.results.about import About
from harness.results.requests import Requests
from harness.results.run import Run

Whole = NDArray[np.int64]

SECOND_NS = 1_000_000_000
METHOD = (
    f"{coverage.POOLED} (Clopper-Pearson, of as many as would be independent: Korn and Graubard); "
    "requests due in on windows, of invalid trials too"
)
ALONE = f"{METHOD}; in which no other collector was on"


@dataclass(frozen=True)
class Tally:
    """Counts (groups, 2), off then on: a row a quadruple, or, by `block`, a second.

    `asked` is how many the time in these windows was to bring at the rate asked for. `paired`:
    each group holds both states, in an order that was drawn.
    """

    due: Array
    failed: Array
    answered: Array
    asked: Array
    paired: bool

    def failed_share(self, on: bool) -> float:
        """Of the requests that were due in one state."""
        due = float(self.due[:, int(on)].sum())
        return float(self.failed[:, int(on)].sum()) / due if due else 0.0

    def rate_share(self, on: bool) -> float:
        """Answered requests over those asked for, in one state; 1 if nothing is known."""
        asked = float(self.asked[:, int(on)].sum())
        return float(self.answered[:, int(on)].sum()) / asked if asked else 1.0


@dataclass(frozen=True)
class _Edges:
    """Stretches of time in order, (n,) each: when, whose group, and whether collectors are on."""

    starts: Whole
    ends: Whole
    group: Whole
    on: Whole

    def at(self, ns: Whole) -> tuple[Whole, NDArray[np.bool_]]:
        """In which of them these times lie, and whether in any."""
        place = np.searchsorted(self.starts, ns, side="right") - 1
        return place, (place >= 0) & (ns <= self.ends[place])

    def count(self, place: Whole, weights: Array | None = None) -> Array:
        """How many (or what sum of weights) by group and state, (groups, 2)."""
        groups = int(self.group.max()) + 1
        key = 2 * self.group[place] + self.on[place]
        return np.bincount(key, weights, minlength=2 * groups).astype(float).reshape(-1, 2)


def of(log: Requests, rows: Sequence[WindowRow], rate: float, method: Method) -> Tally | None:
    """The requests of one trial by the window they were due in; None without any window."""
    if not rows:
        return None
    edges = _edges(rows, method)
    due, is_due = edges.at(log.due_ns)
    failed = log.failed | (log.status == 0)
    ended, is_ended = edges.at(log.end_ns)
    every = np.arange(len(edges.starts))
    asked = rate * (edges.ends - edges.starts) / SECOND_NS
    # the task of a locustfile that is due may make several requests
    several = max(1.0, float(is_due.sum() / asked.sum())) if asked.any() else 1.0
    return Tally(
        edges.count(due[is_due]),
        edges.count(due[is_due & failed]),
        edges.count(ended[is_ended & (log.status > 0)]),
        edges.count(every, several * asked),
        method != "block",
    )


def _edges(rows: Sequence[WindowRow], method: Method) -> _Edges:
    """The windows, by quadruple; parts of `block` are cut into seconds, a group each."""
    windows = sorted((row.window for row in rows), key=lambda window: window.start_ns)
    if method != "block":
        stretches = [(w.start_ns, w.end_ns, w.quadruple, w.on) for w in windows]
    else:
        seconds = [
            (start, min(start + SECOND_NS, w.end_ns), w.on)
            for w in windows
            for start in range(w.start_ns, w.end_ns, SECOND_NS)
        ]
        stretches = [(start, end, i, on) for i, (start, end, on) in enumerate(seconds)]
    starts, ends, group, on = np.array(stretches, dtype=np.int64).T
    return _Edges(starts, ends, np.unique(group, return_inverse=True)[1], on)


def join(parts: Sequence[Tally]) -> Tally | None:
    """Those of several trials of one arm; None of none."""
    if not parts:
        return None
    columns = ("due", "failed", "answered", "asked")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    return Tally(**joined, paired=parts[0].paired)


def failed(tally: Tally) -> Estimate:
    """Requests that failed while the collectors were on, in percent, with its 95 % interval.

    Failures come together, so that requests count as fewer: as many as would be independent if
    groups are (Korn and Graubard 1998, Survey Methodology 24). `n` is their number.
    """
    due, bad = tally.due[:, 1], tally.failed[:, 1]
    made, seen = float(due.sum()), float(bad.sum())
    p, groups = seen / made, int((due > 0).sum())
    effective = made
    if 0 < p < 1 and groups > 1:
        variance = groups / (groups - 1) * float(((bad - p * due) ** 2).sum()) / made**2
        effective = min(made, p * (1 - p) / variance) if variance > 0 else made
    found = coverage.exact(Count(p * effective, effective), CONFIDENCE, poisson=False)
    return Estimate(100 * p, found.low, found.high, max(1, round(effective)))


Counted = Mapping[tuple[str, str], Sequence[Tally]]


def counted(
    run: Run,
    about: About,
    experiment: Experiment,
    trials: Sequence[Judged],
    windows: Mapping[Trial, Sequence[WindowRow]],
    *,
    alone: bool = False,
) -> Counted:
    """Tallies of the trials that compare by workload and arm, of invalid ones too.

    With `alone`, of trials that arms share only the windows count in which no other collector is
    on: what that breaks is not the arm's.
    """
    found: dict[tuple[str, str], list[Tally]] = {}
    for record in (judged.record for judged in trials):
        trial = record.trial
        path = run.path / "trials" / trial.name / requests.NAME
        if record.status != "ok" or trial.kind != "switched" or not path.exists():
            continue
        rate, log = value.total(record, "rate_asked") or 0.0, requests.read(path)
        for arm, view in factorial.views(about, experiment, trial):
            if view.has(record):
                rows = view.alone(windows[trial]) if alone else view.states(windows[trial])
                tally = of(log, rows, rate, arm.method)
                if tally is not None:
                    found.setdefault((trial.workload, arm.name), []).append(tally)
    return found


def rows(experiment: Experiment, counted: Counted) -> Iterator[Comparison]:
    """Those of `error_percent`, of what was counted alone."""
    name = "error_percent"
    for (workload, arm), parts in counted.items():
        tally = join(parts)
        if tally is not None and tally.due[:, 1].sum():
            found, shared = failed(tally), experiment.arm(arm).method == FACTORIAL
            yield Comparison(
                workload, arm, name, metric(name).unit, found.estimate, found.low, found.high,
                found.n, math.nan, math.nan, ALONE if shared else METHOD,
            )  # fmt: skip
