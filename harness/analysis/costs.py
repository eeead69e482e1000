"""What a record costs each component: CPU against rate through the steps of a ramp; for `ramp`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.ramp import Step, judge, nobody

Array = NDArray[np.float64]

LEAST_STEPS = 4  # with the idle one: a line through fewer says nothing of itself
NOBODY = "nobody"  # what the machine spends beside all that has a name here


@dataclass(frozen=True)
class Cost:
    """CPU seconds a component spends per 1,000 records, with its 95 % interval.

    `idle` is what the line says of nothing sent (CPU seconds a second); `residual` how far the
    steps are from the line (root mean square, in percent of the highest CPU among them).
    """

    component: str
    seconds: float
    low: float
    high: float
    idle: float
    residual: float
    steps: int


def costs(steps: Sequence[Step], limit_lag: float) -> list[Cost]:
    """A row a component, the dearest first; of the steps that were held and the idle one.

    Empty where there are fewer than four. The interval is the regression's (Student's t), which
    takes the steps for independent of each other.
    """
    good = [step for step in steps if not judge(step, limit_lag)]
    if len(good) < LEAST_STEPS:
        return []
    x = np.array([step.arrived / 1000 for step in good])
    if not np.ptp(x) > 0:
        return []
    names = dict.fromkeys(name for step in good for name in step.cpu)
    rows = [_cost(name, x, np.array([step.cpu.get(name, 0.0) for step in good])) for name in names]
    rows.append(_cost(NOBODY, x, np.array([nobody(step) for step in good])))
    return sorted(rows, key=lambda row: -row.seconds)


def _cost(name: str, x: Array, y: Array) -> Cost:
    line = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2) * line.stderr)
    left = y - (line.intercept + line.slope * x)
    top = float(np.max(np.abs(y)))
    return Cost(
        name, float(line.slope), float(line.slope) - half, float(line.slope) + half,
        float(line.intercept),
        100 * math.sqrt(float(np.mean(left**2))) / top if top > 0 else 0.0,
        len(x),
    )  # fmt: skip
