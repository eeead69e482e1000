"""The gate: which rows of a run each budget names, and the verdict on each; for `cli`, `report`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.analysis import controls, looks, verdicts
from harness.analysis.budgets import Budget
from harness.analysis.metrics import BRACKETS
from harness.analysis.verdicts import Row, Verdict
from harness.errors import InputError
from harness.model import BASELINE, Comparison


@dataclass(frozen=True)
class Measured:
    """A run as a gate sees it, whether it was just measured or is a stored report.json.

    `arms` are those with collectors, `bare` those without. `missing(workload, arm, metric)` says
    why a row is missing. `blocks` is of the workload with the fewest, 0 if that is not known.
    `settings` are how it measured, `arms` in it what each compares; none where it is not known.
    `harms` are what happened to a service only with an arm's collectors on, by workload and arm:
    a sentence, and whether it is certain;
    `controls` name the arm without collectors that is compared as an arm is.
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
    harms: Mapping[tuple[str, str], tuple[tuple[str, bool], ...]] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)


def judge(
    measured: Measured,
    budgets: Sequence[Budget],
    stored: Measured | None = None,
    earlier: Sequence[Measured] = (),
) -> list[Verdict]:
    """Every budget applied to every row that it names; InputError if one names what is not there.

    Never empty: a budget without a row gives an inconclusive verdict with the reason. Before them
    stand the harms of the arms that the budgets name. Rows are pooled with those of `earlier` runs.
    """
    demand(budgets, stored is not None)
    _demand_several(measured, earlier)
    found = [
        verdict
        for budget in budgets
        for verdict in _verdicts(_Asked(measured, budget, stored, earlier))
    ]
    return [*_harms((measured, *earlier), found), *found]


def _demand_several(measured: Measured, earlier: Sequence[Measured]) -> None:
    """InputError if a run is given twice: pooled with itself it would look like twice the data."""
    seen = {(measured.name, measured.started)}
    for run in earlier:
        if (run.name, run.started) in seen:
            raise InputError(
                f"The run {run.name} was given twice.",
                next_step="--earlier is for other runs, judged before this one.",
            )
        seen.add((run.name, run.started))


def _harms(runs: Sequence[Measured], found: Sequence[Verdict]) -> Iterator[Verdict]:
    for workload, arm in dict.fromkeys((v.workload, v.arm) for v in found):
        told = [each for run in runs for each in run.harms.get((workload, arm), ())]
        if told:
            certain = any(is_certain for _, is_certain in told)
            yield verdicts.harmed(workload, arm, [text for text, _ in told], certain=certain)


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


@dataclass(frozen=True)
class _Asked:
    """A budget, and the runs that it is held against."""

    measured: Measured
    budget: Budget
    stored: Measured | None
    earlier: Sequence[Measured]


def _verdicts(asked: _Asked) -> Iterator[Verdict]:
    measured, budget = asked.measured, asked.budget
    every = (*measured.arms, *measured.bare)
    known = measured.workloads
    arms = _named(budget, "arm", budget.arms, measured.arms, every)
    workloads = _named(budget, "workload", budget.workloads, known, known)
    at = [(workload, arm) for workload in workloads for arm in arms]
    _check_bracket(measured, budget, at)
    for workload, arm in at:
        found = [m for w, a, m in measured.rows if (w, a) == (workload, arm)]
        for metric in [m for m in found if budget.covers(m)] or [budget.metric]:
            yield _verdict(asked, (workload, arm, metric))


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


def _verdict(asked: _Asked, at: Row) -> Verdict:
    measured, budget, stored = asked.measured, asked.budget, asked.stored
    row = _row(asked, at)
    if row is None:
        return verdicts.unmeasured(budget, at, f"Not measured. {measured.missing(*at)}")
    if stored is not None and budget.kind == "increase":
        old = stored.rows.get(at)
        if old is None:
            why = f"The run {stored.name} does not have it. {stored.missing(*at)}"
            return verdicts.unmeasured(budget, at, why)
        row = increase(row, old)
    if budget.percent is not None:
        base = row if row.unit == "us" else measured.rows.get((*at[:2], "workload_cpu_us"))
        if base is None or not base.level > 0:
            why = "The level that max_percent is a share of was not measured."
            return verdicts.unmeasured(budget, at, why, row)
        budget = replace(budget, most=budget.percent / 100 * base.level)
    runs = (measured, *asked.earlier)
    if why := next(filter(None, (_distrusted(run, budget, at) for run in runs)), ""):
        return verdicts.unmeasured(budget, at, why, row)
    return verdicts.reach(budget, at, row, 1 + len(asked.earlier))


def _row(asked: _Asked, at: Row) -> Comparison | None:
    """That of the run, pooled with those of the runs before it that have one."""
    known = [run.rows[at] for run in (*asked.earlier, asked.measured) if at in run.rows]
    return looks.pooled(known) if at in asked.measured.rows else None


def _distrusted(measured: Measured, budget: Budget, at: Row) -> str:
    """Why a difference is not to be believed, whatever it says: its negative control failed."""
    workload, arm, metric = at
    control = measured.rows.get((workload, measured.controls.get(arm, ""), metric))
    if control is None or control.arm == arm or not controls.judges(metric):
        return ""
    return controls.failure(control, budget)
