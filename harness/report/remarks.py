"""With what a gate's verdict must be read, in sentences; `gate`, `junit` and `cli` show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis import levels, looks, provisos, verdicts

if TYPE_CHECKING:
    from harness.report.gate import Gate

WARNINGS_SHOWN = 3
GENERAL = 2  # of the remarks: how verdicts are made, the same of every run


def of(gate: Gate) -> list[str]:
    """What every reader of a verdict must know of it."""
    said = [
        "Pass: the whole interval lies within the budget; fail: all of it lies beyond; "
        "inconclusive: otherwise.",
        "Passing needs every check to pass, so it needs no correction for their number. A fail may "
        "be any of many: if all budgets are kept, the chance that one fails wrongly is at most "
        f"{verdicts.wrong_fail_percent(gate.verdicts):.3g} % ({_sides(gate)}).",
    ]
    parts = {v.metric: part for v in gate.verdicts if (part := verdicts.part_of(v))}
    said += [
        f"A pass of {metric} is one of the part of the cost that was metered: {part}."
        for metric, part in parts.items()
    ]
    if gate.earlier:
        said.append(_looks(gate))
    if any(v.row is not None and levels.is_range(v.row) for v in gate.verdicts):
        said.append(
            "A range of n trials holds the median with probability 1 - 2^(1-n), "
            "which is less than 95 % for fewer than 6 trials: of so few nothing is judged."
        )
    said += provisos.reservations(gate.measured, gate.stored)
    for run in gate.earlier:
        if differing := provisos.differences(gate.measured, run):
            said.append(f"Pooled with {run.name}, from which differ: {'; '.join(differing)}.")
    if not gate.measured.complete:
        said.append(f"The run {gate.measured.name} did not end: its figures rest on a part of it.")
    said += [f"The report warns: {text}" for text in gate.measured.warnings[:WARNINGS_SHOWN]]
    if (more := len(gate.measured.warnings) - WARNINGS_SHOWN) > 0:
        said.append(f"It has {more} more warnings.")
    if gate.stored is not None:
        said.append(provisos.WEAKER)
        differing = provisos.differences(gate.measured, gate.stored)
        said.append(
            f"Compared with {gate.stored.name} of {gate.stored.started or 'an unknown time'}. "
            + (f"What differs: {'; '.join(differing)}." if differing else "No known fact differs.")
        )
    return said


def _sides(gate: Gate) -> str:
    """What each limit adds to the chance of a wrong fail: by the level of its interval."""
    judged = [v.budget for v in gate.verdicts if v.metric != verdicts.HARM]
    percents = sorted({budget.level for budget in judged}, reverse=True)
    each = [
        f"{50 * (1 - p):.3g} % for each limit of each {100 * p:.4g} % interval" for p in percents
    ]
    return ", ".join(each)


def _looks(gate: Gate) -> str:
    """What earlier looks at the same question cost."""
    looked = 1 + len(gate.earlier)
    before = ", ".join(run.name for run in gate.earlier)
    return (
        f"This is look {looked} at the same question. The run is pooled with {before}, and judged "
        f"with {looked} times less chance of an error. That a broken budget passes in any of the "
        f"{looked} looks has a chance of at most {looks.spent(looked):.3g} times that of a single "
        "one, if every run that was judged is among them."
    )
