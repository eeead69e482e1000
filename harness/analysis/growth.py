"""Whether an agent's memory grows: a slope over the time in which it stayed on; for `summary`.

Neighbouring readings of a process's memory resemble each other, and it may wander without a trend:
the interval of a straight line through them would be too narrow by far. So the time is cut into a
few stretches, of each of which only the mean counts, and Student's t asks how evenly memory grew
from each to the next (batch means; few groups instead of an estimated correlation: Ibragimov and
Mueller 2010, Journal of Business and Economic Statistics 28).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis import bill
from harness.analysis.cell import Cell
from harness.analysis.compare import CONFIDENCE, Array, Estimate
from harness.model import Comparison
from harness.results.run import MEMORY, Run

SLOPE, WATCHED = "agent_memory_slope_mb_h", "agent_memory_watched_min"
STRETCHES = 7
LEAST_SECONDS = 60.0  # of a stretch: exports and collections of garbage come within seconds
WARM_SHARE, WARM_SECONDS = 0.1, 120.0  # what is left out at the beginning: the larger of both
# Steps between the means of neighbouring stretches of a random walk have a correlation of 1/4,
# so that the variance of their mean is up to 1.5 times what independent ones would have.
WIDER = math.sqrt(1.5)
METHOD = (
    "mean step between {} stretches of {:.1f} min under load, first {:.1f} min left out; "
    "Student's t over steps, x {:.2f}"
)


def rows(run: Run, cell: Cell) -> Iterator[Comparison]:
    """The slope of each kind of memory, in MB/h, and the minutes that it rests on.

    None where the collectors stayed on too shortly (`least_minutes`).
    """
    told: dict[str, list[Estimate]] = defaultdict(list)
    lengths = []
    for record, _ in cell.switched if cell.arm.collectors else ():
        at, kinds = series(run.memory(record.trial), cell.view.collectors)
        warm = warm_seconds(float(at[-1])) if len(at) else 0.0
        kept = at >= warm
        if not kept.any() or at[-1] - warm < STRETCHES * LEAST_SECONDS:
            continue
        lengths.append((float(at[-1]) - warm, warm))
        for name, values in kinds.items():
            told[name].append(slope(at[kept] / 3600, values[kept] / 1e6))
    if not lengths:
        return
    seconds, warm = min(lengths)
    method = METHOD.format(STRETCHES, seconds / STRETCHES / 60, warm / 60, WIDER)
    for name in MEMORY:
        found = bill.combined([(1 / len(lengths), each) for each in told[name]])
        named = SLOPE if name == "rss" else f"{SLOPE}[{name}]"
        whole = Estimate(found.estimate, found.low, found.high, len(lengths))
        yield cell.row(named, whole, math.nan, method)
    length = Estimate(seconds / 60, math.nan, math.nan, len(lengths))
    yield cell.row(WATCHED, length, math.nan, "the shortest trial")


def series(
    samples: Sequence[Mapping[str, Any]], collectors: Collection[str] = ()
) -> tuple[Array, dict[str, Array]]:
    """Seconds (n,), and bytes (n,) of each kind of memory: the sum over these collectors, or all.

    A moment at which not all of them were read is left out.
    """
    moments: dict[float, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for sample in samples:
        if not collectors or sample["collector"] in collectors:
            moments[sample["seconds"]][sample["collector"]] = sample
    most = max(map(len, moments.values()), default=0)
    whole = [(at, of.values()) for at, of in sorted(moments.items()) if len(of) == most]
    kinds = {
        name: np.array([sum(each[name] for each in of) for _, of in whole], dtype=float)
        for name in MEMORY
    }
    return np.array([at for at, _ in whole], dtype=float), kinds


def warm_seconds(length: float) -> float:
    """What is left out at the beginning of a part of this length: a tenth, two minutes or more.

    By the clock alone, so that nothing is left out for what it shows.
    """
    return max(WARM_SECONDS, WARM_SHARE * length)


def least_minutes() -> float:
    """How long it is enough that collectors stay on; a minute more than stretches and warm-up."""
    return (WARM_SECONDS + (STRETCHES + 1) * LEAST_SECONDS) / 60


def slope(time: Array, value: Array) -> Estimate:
    """Growth of `value` (n,) in a unit of `time` (n,), with its 95 % interval.

    The mean step from one stretch to the next, which is from the first stretch to the last.
    """
    edges = np.linspace(time[0], time[-1], STRETCHES + 1)
    place = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, STRETCHES - 1)
    parts = [place == i for i in range(STRETCHES)]
    if not all(part.any() for part in parts):
        return Estimate(math.nan, math.nan, math.nan, 0)
    gone, grown = time - time[0], value - value[0]  # of what never changes exactly zero is left
    means, moments = (np.array([of[part].mean() for part in parts]) for of in (grown, gone))
    steps = np.diff(means) / np.diff(moments).mean()
    n = len(steps)
    error = WIDER * float(np.std(steps, ddof=1)) / math.sqrt(n)
    reach = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    centre = float(steps.mean())
    return Estimate(centre, centre - reach, centre + reach, n)
