"""What a trial by `block` would err by, put together from windows of others; `foresight` asks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from harness.analysis import pairs
from harness.model import Window, WindowRow
from harness.plan import parts

METERS = ("cpu.workload", "requests")
LEAST = 6  # stretches: fewer do not tell by how much they differ
MOST = 60
NEARLY = 0.95  # of a stretch, in which a trial of as many seconds ends


def spread_percent(trials: Iterable[Sequence[WindowRow]], seconds: float) -> float:
    """The standard deviation of what trials of so many seconds find of nothing, in percent.

    Windows that follow each other are taken as the parts of one. What is switched from window to
    window is on for as much of each part, so that what is found is the error. What comes and goes
    makes a trial longer, and so drift by more: that is not in it. NaN where there are too few.
    """
    found: list[float] = []
    for rows in trials:
        found += _differences([row for row in rows if row.meters.keys() >= {*METERS}], seconds)
        if len(found) >= MOST:
            break
    return float(np.std(found, ddof=1)) if len(found) >= LEAST else math.nan


def _differences(rows: Sequence[WindowRow], seconds: float) -> Iterator[float]:
    """What each stretch of so many seconds finds, in percent; the order turns round."""
    if not rows:
        return
    each = (rows[-1].window.end_ns - rows[0].window.start_ns) / len(rows) / 1e9
    length = round(seconds / each)
    if len(rows) < length <= len(rows) / NEARLY:  # a trial is of whole cycles of windows
        length = len(rows)
    last = 2 * (parts.PARTS - 1)
    places = [0, *range(1, last, 2), last]  # the first and the last part are half as long
    ends = [round(length * place / last) for place in places]
    for number, start in enumerate(range(0, len(rows) - length + 1, max(1, length))):
        states = parts.states(number % 2 == 0)
        cut = [rows[start + a : start + b] for a, b in itertools.pairwise(ends)]
        if all(cut):
            trial = [_joined(index, states[index], part) for index, part in enumerate(cut)]
            sample = pairs.pairs(trial, "block", METERS[:1])
            yield from (100 * sample.differences / sample.off).tolist()


def _joined(index: int, on: bool, rows: Sequence[WindowRow]) -> WindowRow:
    window = Window(index, 0, on, rows[0].window.start_ns, rows[-1].window.end_ns)
    return WindowRow(window, {name: sum(row.meters[name] for row in rows) for name in METERS})
