"""Negative controls: whether a difference is believed; `gates` and `claimed` ask."""

from __future__ import annotations

import math

from harness.analysis import levels, metrics, verdicts
from harness.analysis.budgets import Budget
from harness.model import Comparison

ALLOWED = 0.01  # share of the controls of an instrument without bias that are called failed


def judges(metric: str) -> bool:
    """Whether the metric is a difference of windows, which an A/A arm has too."""
    return metrics.metric(metric).difference and metric.partition("[")[0] not in metrics.PARTS


def failure(control: Comparison, budget: Budget) -> str:
    """Why the A/A row of a budget's metric forbids to judge by it; empty if it does not.

    It excludes zero at the 1 % level, which an instrument without bias does once in a hundred
    times, or all of its 95 % interval lies beyond a limit that allows for zero.
    """
    what = (
        f"With nothing installed ({control.arm}) {control.metric} is "
        f"{control.estimate:+.3g} [{control.low:+.3g}, {control.high:+.3g}] {control.unit}"
    )
    if excludes_zero(control):
        return f"{what}, which is not zero: the instrument was biased in this run."
    allows_zero = budget.least <= 0 <= budget.most
    if allows_zero and verdicts.decide(control.low, control.high, budget.least, budget.most) == (
        "fail"
    ):
        return f"{what}, which is itself beyond the budget: the instrument cannot see so little."
    return ""


def excludes_zero(control: Comparison) -> bool:
    """Whether an A/A row is no zero at the 1 % level."""
    if math.isfinite(control.p):
        return control.p < ALLOWED
    wide = levels.at(control, 1 - ALLOWED)
    return wide.low > 0 or wide.high < 0
