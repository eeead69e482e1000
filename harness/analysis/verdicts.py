"""Verdicts: where an interval lies by a budget's limits, and what would decide it; `gates` asks.

A budget is judged by its row's interval, as in a test of non-inferiority: pass if the interval lies
wholly within the limits, fail if it lies wholly beyond, inconclusive otherwise. The gate passes if
every budget does, an intersection-union test, which needs no correction for their number (Berger,
Technometrics 24:295, 1982).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from harness.analysis import coverage, levels, looks, metrics
from harness.analysis.budgets import Budget
from harness.model import Comparison

Outcome = Literal["pass", "fail", "inconclusive"]
Row = tuple[str, str, str]  # workload, arm, metric

EXIT: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
LEAST_TRIALS = 6  # of fewer, a range holds the median less often than in 95 %
HOPELESS = 50.0  # times the measuring: beyond that no advice to measure longer


@dataclass(frozen=True)
class Verdict:
    """One budget applied to one row: the outcome and a sentence on why.

    `row` is what was judged, at the budget's level: the run's own, that pooled with earlier runs,
    or its difference to the stored run; None if missing. `unmeasured`: that it is inconclusive is
    no matter of how wide an interval is, so nobody can call it a pass.
    """

    budget: Budget
    workload: str
    arm: str
    metric: str
    outcome: Outcome
    sentence: str
    row: Comparison | None = None
    unmeasured: bool = False


WITH_ENTRY = ("bill", "bpf_event")  # metrics that hold entry where it is calibrated
OF_PART = "of the part that was metered"
HARM = "harm"  # instead of a metric's name
NO_HARM = Budget(0, HARM)  # part of every gate, whatever the file says


def harmed(workload: str, arm: str, sentences: Sequence[str], *, certain: bool) -> Verdict:
    """A fail because of what happened to the service only with the collectors on.

    Inconclusive, and nothing to be called a pass, if it may be chance.
    """
    outcome: Outcome = "fail" if certain else "inconclusive"
    return Verdict(
        NO_HARM, workload, arm, HARM, outcome, " ".join(sentences), unmeasured=not certain
    )


def unmeasured(budget: Budget, at: Row, why: str, row: Comparison | None = None) -> Verdict:
    """Inconclusive, and not to be called a pass."""
    return Verdict(budget, *at, "inconclusive", why, row, True)


def reach(budget: Budget, at: Row, row: Comparison, look: int = 1) -> Verdict:
    """What a budget says of a row that was measured; judged by its interval at the budget's level.

    `row` is as report.json has it, or pooled with those of earlier runs: then it is the
    `look`-th, and judged at a higher level.
    """
    budget = replace(budget, level=looks.level(budget.level, look))
    row = levels.at(row, budget.level)
    outcome = decide(row.low, row.high, budget.least, budget.most)
    if levels.is_range(row) and row.n < LEAST_TRIALS:
        outcome = "inconclusive"  # it is no interval, whatever it shows
    verdict = Verdict(budget, *at, outcome, "", row)
    return replace(verdict, sentence=_sentence(verdict, row))


def decide(low: float, high: float, least: float, most: float) -> Outcome:
    """Where [low, high] lies relative to [least, most]; an end that is not finite tells nothing."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    if low > most or high < least:
        return "fail"
    return "pass" if least <= low and high <= most else "inconclusive"


def overall(verdicts: Sequence[Verdict]) -> Outcome:
    """Pass if every budget passes, fail if any fails, inconclusive otherwise."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "inconclusive"


def part_of(verdict: Verdict) -> str:
    """What a pass does not cover, because the metric is a part of the cost; empty if it is not."""
    if verdict.outcome != "pass":
        return ""
    return part(verdict.metric, "entry_us" if verdict.row is None else verdict.row.method)


def part(metric: str, method: str) -> str:
    """What is not in a metric that is a part of the cost; empty if it is not."""
    left_out = metrics.PARTS.get(metric, "")
    if left_out and metric.startswith(WITH_ENTRY) and "entry_us" not in method:
        return f"entry to the programs, and {left_out}"
    return left_out


def wrong_fail_percent(verdicts: Sequence[Verdict]) -> float:
    """Bound on the chance that any check fails although all budgets are kept (Bonferroni).

    2.5 % for each limit at the level of 95 %: `min` and `max` together can be broken on either
    side. A harm has no limit: it is told beyond 0.1 %.
    """
    sides = sum(
        (math.isfinite(v.budget.least) + _limits_above(v.budget)) * 50 * (1 - v.budget.level)
        for v in verdicts
    )
    return min(100.0, round(sides, 6))


def _limits_above(budget: Budget) -> bool:
    return math.isfinite(budget.most) or budget.percent is not None


def more_measuring(verdict: Verdict) -> float:
    """How many times the measuring would decide it, if the estimate stays; infinite if unknown.

    The half-width of an interval falls with the square root of the measuring, that of a mean over
    few trials faster; a range does not fall, and a share's exact interval does so by another rule.
    """
    row, budget = verdict.row, verdict.budget
    if row is None or not math.isfinite(row.low + row.high):
        return math.inf
    if levels.is_range(row) or _is_share(row):
        return math.inf
    wanted = 1.0
    for limit in (budget.least, budget.most):
        if row.low < limit < row.high:
            gap = abs(limit - row.estimate)
            side = row.high - row.estimate if limit > row.estimate else row.estimate - row.low
            tail = (1 + budget.level) / 2
            wanted = max(wanted, _growth(side / gap, row, tail) if gap else math.inf)
    return wanted


def _growth(narrower: float, row: Comparison, tail: float) -> float:
    """How many times the data make an interval `narrower` times as narrow; `tail` as of t."""
    plain = narrower**2
    if "Student" not in row.method or plain > HOPELESS:
        return plain
    few = np.arange(row.n, math.ceil(plain * row.n) + 2)
    width = stats.t.ppf(tail, few - 1) / np.sqrt(few)
    return float(few[np.argmax(width <= width[0] / narrower)] / row.n)


def percent(budget: Budget) -> str:
    """The level of its intervals: `95`."""
    return f"{100 * budget.level:g}"


def times(factor: float) -> str:
    """`about 1.7 times`, `about 12 times`."""
    return f"about {max(factor, 1.1):.{1 if factor < 10 else 0}f} times"


def _sentence(verdict: Verdict, row: Comparison) -> str:
    ranged = levels.is_range(row)
    what = f"range of {row.n} trials" if ranged else f"{percent(verdict.budget)} % interval"
    if not math.isfinite(row.low + row.high):
        return "It has no interval: too few trials or windows. Measure more blocks."
    if ranged and row.n < LEAST_TRIALS:
        return (
            f"A {what} holds the median in {100 * (1 - 2.0 ** (1 - row.n)):.0f} % of runs, which "
            f"is too few to judge by it: measure at least {LEAST_TRIALS} blocks."
        )
    if verdict.outcome == "pass":
        missing = part_of(verdict)
        of = f", {OF_PART}: {missing}" if missing else ""
        return f"The whole {what} lies within the budget{of}."
    if verdict.outcome == "fail":
        side = "above" if row.low > verdict.budget.most else "below"
        return f"The whole {what} lies {side} the budget."
    if ranged or _is_share(row):
        return f"The {what} reaches across the limit."
    if more_measuring(verdict) > HOPELESS:
        return f"The {what} reaches across the limit, and the estimate is too near to it to decide."
    return (
        f"The {what} reaches across the limit; {times(more_measuring(verdict))} the measuring "
        "would decide it if the estimate stays."
    )


def _is_share(row: Comparison) -> bool:
    return row.method.startswith(coverage.POOLED)
