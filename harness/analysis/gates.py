"""The gate: is what was measured within its budgets? Pure functions; `cli` and `report` use them.

A budget is judged by its row's interval, as in a test of non-inferiority: pass if the interval lies
wholly within the limits, fail if it lies wholly beyond, inconclusive otherwise. The gate passes if
every budget does, an intersection-union test, which needs no correction for their number (Berger,
Technometrics 24:295, 1982).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from harness.analysis.budgets import Budget
from harness.analysis.metrics import BRACKETS
from harness.errors import InputError
from harness.model import BASELINE, Comparison

Outcome = Literal["pass", "fail", "inconclusive"]
Row = tuple[str, str, str]  # workload, arm, metric

EXIT: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
LEAST_TRIALS = 6  # of fewer, a range holds the median less often than in 95 %
HOPELESS = 50.0  # times the measuring: beyond that no advice to measure longer


@dataclass(frozen=True)
class Measured:
    """A run as a gate sees it, whether it was just measured or is a stored report.json.

    `arms` are those with collectors, `bare` those without. `missing(workload, arm, metric)` says
    why a row is missing. `blocks` is of the workload with the fewest, 0 if that is not known.
    `settings` are how it measured, `arms` in it what each compares; none where it is not known.
    """

    name: str
    rows: Mapping[Row, Comparison]
    workloads: tuple[str, ...]
    arms: tuple[str, ...]
    missing: Callable[[str, str, str], str]
    bare: tuple[str, ...] = (BASELINE,)
    blocks: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    complete: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)  # of workloads, requests a second
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """One budget applied to one row: the outcome and a sentence on why.

    `row` is what was judged: the run's own, or its difference to the stored run; None if missing.
    """

    budget: Budget
    workload: str
    arm: str
    metric: str
    outcome: Outcome
    sentence: str
    row: Comparison | None = None


def judge(
    measured: Measured, budgets: Sequence[Budget], stored: Measured | None = None
) -> list[Verdict]:
    """Every budget applied to every row that it names; InputError if one names what is not there.

    Never empty: a budget without a row gives an inconclusive verdict with the reason.
    """
    demand(budgets, stored is not None)
    return [verdict for budget in budgets for verdict in _verdicts(measured, budget, stored)]


def demand(budgets: Sequence[Budget], has_stored: bool) -> None:
    """InputError unless there is a stored run just if a budget limits an increase."""
    if not has_stored and any(budget.kind == "increase" for budget in budgets):
        raise InputError(
            "The budget limits an increase (max_increase), but nothing to compare with was given.",
            next_step="Give a stored run: --against RUN, a report.json, or GITREF:PATH.",
        )
    if has_stored and not any(budget.kind == "increase" for budget in budgets):
        raise InputError(
            "A run to compare with was given, but the budget limits no increase.",
            next_step="Set max_increase in a [[budget]], or leave --against out.",
        )


def overall(verdicts: Sequence[Verdict]) -> Outcome:
    """Pass if every budget passes, fail if any fails, inconclusive otherwise."""
    outcomes = {verdict.outcome for verdict in verdicts}
    return "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "inconclusive"


def decide(low: float, high: float, least: float, most: float) -> Outcome:
    """Where [low, high] lies relative to [least, most]; an end that is not finite tells nothing."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "inconclusive"
    if low > most or high < least:
        return "fail"
    return "pass" if least <= low and high <= most else "inconclusive"


def increase(new: Comparison, old: Comparison) -> Comparison:
    """new - old of two independent runs; the sides of their intervals are added in quadrature.

    That is MOVER, which suits intervals that are not symmetric (Zou and Donner, Statistics in
    Medicine 27:1693, 2008).
    """
    estimate = new.estimate - old.estimate
    return replace(
        new,
        estimate=estimate,
        low=estimate - math.hypot(new.estimate - new.low, old.high - old.estimate),
        high=estimate + math.hypot(new.high - new.estimate, old.estimate - old.low),
        n=min(new.n, old.n), mde=math.nan, level=old.estimate,
        method=f"difference of two runs, sides in quadrature; {new.method}",
        p=math.nan, p_holm=math.nan, noise=math.nan,
    )  # fmt: skip


def is_range(row: Comparison) -> bool:
    """Whether low and high are the range of a few trials rather than a 95 % interval."""
    return "range" in row.method


def wrong_fail_percent(verdicts: Sequence[Verdict]) -> float:
    """Bound on the chance that any check fails although all budgets are kept (Bonferroni).

    2.5 % for each limit: `min` and `max` together can be broken on either side.
    """
    sides = sum(math.isfinite(v.budget.least) + _limits_above(v.budget) for v in verdicts)
    return min(100.0, 2.5 * sides)


def _limits_above(budget: Budget) -> bool:
    return math.isfinite(budget.most) or budget.percent is not None


def more_measuring(verdict: Verdict) -> float:
    """How many times the measuring would decide it, if the estimate stays; infinite if unknown.

    The half-width of an interval falls with the square root of the measuring, that of a mean over
    few trials faster; a range does not fall, and a share's exact interval does so by another rule.
    """
    row, budget = verdict.row, verdict.budget
    if row is None or not math.isfinite(row.low + row.high) or is_range(row) or _is_share(row):
        return math.inf
    wanted = 1.0
    for limit in (budget.least, budget.most):
        if row.low < limit < row.high:
            gap = abs(limit - row.estimate)
            side = row.high - row.estimate if limit > row.estimate else row.estimate - row.low
            wanted = max(wanted, _growth(side / gap, row) if gap else math.inf)
    return wanted


def _growth(narrower: float, row: Comparison) -> float:
    """How many times the data make an interval `narrower` times as narrow."""
    plain = narrower**2
    if "Student" not in row.method or plain > HOPELESS:
        return plain
    few = np.arange(row.n, math.ceil(plain * row.n) + 2)
    width = stats.t.ppf(0.975, few - 1) / np.sqrt(few)
    return float(few[np.argmax(width <= width[0] / narrower)] / row.n)


def times(factor: float) -> str:
    """`about 1.7 times`, `about 12 times`."""
    return f"about {max(factor, 1.1):.{1 if factor < 10 else 0}f} times"


def _verdicts(measured: Measured, budget: Budget, stored: Measured | None) -> Iterator[Verdict]:
    every = (*measured.arms, *measured.bare)
    known = measured.workloads
    arms = _named(budget, "arm", budget.arms, measured.arms, every)
    workloads = _named(budget, "workload", budget.workloads, known, known)
    at = [(workload, arm) for workload in workloads for arm in arms]
    _check_bracket(measured, budget, at)
    for workload, arm in at:
        found = [m for w, a, m in measured.rows if (w, a) == (workload, arm)]
        for metric in [m for m in found if budget.covers(m)] or [budget.metric]:
            yield _verdict(measured, budget, stored, (workload, arm, metric))


def _check_bracket(measured: Measured, budget: Budget, at: Sequence[tuple[str, str]]) -> None:
    """InputError if every trial was measured and none knows the name in the metric's brackets.

    A name is known if any metric with the same kind of name has it: a route with too few requests
    for one percentile may have others.
    """
    base, bracket, name = budget.metric.rstrip("]").partition("[")
    kept = [(*place, "workload_cpu_us") in measured.rows for place in at]
    if not bracket or not all(kept):
        return
    split = (metric.rstrip("]").partition("[") for _, _, metric in measured.rows)
    known = {n for b, _, n in split if n and BRACKETS.get(b) == BRACKETS[base]}
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
        raise InputError(
            f"Budget {budget.number} names {budget.metric!r}, but no row of the run has a "
            f"{BRACKETS[base]} {name!r}.",
            next_step=f"The nearest is {base}[{near[0]}]."
            if near
            else f"The run has no {base} with a name.",
        )


def _named(
    budget: Budget, kind: str, names: Sequence[str], default: Sequence[str], known: Sequence[str]
) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise InputError(
                f"Budget {budget.number} names the {kind} {name!r}, which the run does not have.",
                next_step=f"It has: {', '.join(known)}.",
            )
    if not (names or default):
        raise InputError(
            f"Budget {budget.number} is for every {kind}, but the run has none to judge.",
            next_step="Evaluate at least one arm with collectors.",
        )
    return names or default


def _verdict(measured: Measured, budget: Budget, stored: Measured | None, at: Row) -> Verdict:
    row = measured.rows.get(at)
    if row is None:
        return Verdict(budget, *at, "inconclusive", f"Not measured. {measured.missing(*at)}")
    if stored is not None and budget.kind == "increase":
        old = stored.rows.get(at)
        if old is None:
            why = f"The run {stored.name} does not have it. {stored.missing(*at)}"
            return Verdict(budget, *at, "inconclusive", why)
        row = increase(row, old)
    if budget.percent is not None:
        base = row if row.unit == "us" else measured.rows.get((*at[:2], "workload_cpu_us"))
        if base is None or not base.level > 0:
            why = "The level that max_percent is a share of was not measured."
            return Verdict(budget, *at, "inconclusive", why, row)
        budget = replace(budget, most=budget.percent / 100 * base.level)
    outcome = decide(row.low, row.high, budget.least, budget.most)
    if is_range(row) and row.n < LEAST_TRIALS:
        outcome = "inconclusive"  # it is no interval, whatever it shows
    verdict = Verdict(budget, *at, outcome, "", row)
    return replace(verdict, sentence=_sentence(verdict, row))


def _sentence(verdict: Verdict, row: Comparison) -> str:
    what = f"range of {row.n} trials" if is_range(row) else "95 % interval"
    if not math.isfinite(row.low + row.high):
        return "It has no interval: too few trials or windows. Measure more blocks."
    if is_range(row) and row.n < LEAST_TRIALS:
        return (
            f"A {what} holds the median in {100 * (1 - 2.0 ** (1 - row.n)):.0f} % of runs, which "
            f"is too few to judge by it: measure at least {LEAST_TRIALS} blocks."
        )
    if verdict.outcome == "pass":
        return f"The whole {what} lies within the budget."
    if verdict.outcome == "fail":
        side = "above" if row.low > verdict.budget.most else "below"
        return f"The whole {what} lies {side} the budget."
    if is_range(row) or _is_share(row):
        return f"The {what} reaches across the limit."
    if more_measuring(verdict) > HOPELESS:
        return f"The {what} reaches across the limit, and the estimate is too near to it to decide."
    return (
        f"The {what} reaches across the limit; {times(more_measuring(verdict))} the measuring "
        "would decide it if the estimate stays."
    )


def _is_share(row: Comparison) -> bool:
    return row.metric.startswith("coverage_percent")
