"""What a gate writes: a Markdown comment, JSON (docs/gate.md) and terminal cells; for `cli`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jinja2

from harness.analysis import levels, metrics, provisos, verdicts
from harness.analysis.budgets import Budget
from harness.analysis.gates import Measured
from harness.analysis.verdicts import Outcome, Verdict
from harness.model import Comparison
from harness.report import remarks, wording

SCHEMA_VERSION = 1
MARKS: dict[Outcome, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
COLUMNS = ("", "service", "arm", "metric", "measured", "interval", "budget")
AT_MOST, AT_LEAST = "\N{LESS-THAN OR EQUAL TO}", "\N{GREATER-THAN OR EQUAL TO}"
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"
_ORDER: dict[Outcome, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


@dataclass(frozen=True)
class Gate:
    """A judged run with what is to be said of it; `inconclusive` is what the user makes of that."""

    measured: Measured
    verdicts: Sequence[Verdict]
    budget_file: str
    stored: Measured | None = None
    earlier: Sequence[Measured] = ()
    inconclusive: Literal["pass", "fail"] | None = None
    link: str = ""

    @property
    def outcome(self) -> Outcome:
        """The verdict by the intervals alone."""
        return verdicts.overall(self.verdicts)

    @property
    def effective(self) -> Outcome:
        """The same after what the user makes of an inconclusive one; the exit code follows it.

        Nobody can make a pass of what was not measured.
        """
        if self.outcome != "inconclusive" or self.inconclusive is None:
            return self.outcome
        hides = self.inconclusive == "pass" and self.unmeasured
        return "inconclusive" if hides else self.inconclusive

    @property
    def unmeasured(self) -> int:
        """How many checks had nothing, or nothing to believe, to be judged by."""
        return sum(verdict.unmeasured for verdict in self.verdicts)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive."""
        return verdicts.EXIT[self.effective]

    @property
    def worst_first(self) -> list[Verdict]:
        """Failures first, then what is inconclusive; in the budget's order within each."""
        return sorted(self.verdicts, key=lambda verdict: _ORDER[verdict.outcome])


def headline(gate: Gate) -> str:
    """The verdict in a line: `FAIL: 1 of 6 checks is beyond its budget, 2 are inconclusive.`"""
    total = len(gate.verdicts)
    count = {o: sum(v.outcome == o for v in gate.verdicts) for o in _ORDER}
    if gate.outcome == "pass":
        parts_of = sum(bool(verdicts.part_of(v)) for v in gate.verdicts)
        cost = f", {parts_of} of them of the part of the cost that was metered" if parts_of else ""
        return f"PASS: {_of(total, total)} within budget{cost}."
    parts = [f"{_of(count['fail'], total)} beyond budget"] if count["fail"] else []
    if count["inconclusive"]:
        rest = _of(count["inconclusive"], total) if not parts else str(count["inconclusive"])
        parts.append(f"{rest} inconclusive")
    rule = f", taken as {gate.inconclusive}" if gate.effective != gate.outcome else ""
    if gate.inconclusive == "pass" and gate.outcome == gate.effective == "inconclusive":
        parts.append(f"{gate.unmeasured} not measured, which --inconclusive pass does not pass")
    return f"{gate.outcome.upper()}{rule}: {'; '.join(parts)}."


def next_step(gate: Gate) -> str:
    """What to do now, in a sentence."""
    if gate.outcome == "pass":
        return (
            "Nothing needs to be done. Keep report.json if later runs are to be compared with it."
        )
    if any(v.metric == verdicts.HARM and v.outcome == "fail" for v in gate.verdicts):
        return "See in report.html what failed while the collectors were on, and mend that first."
    if gate.outcome == "fail":
        return "See in report.html which part of the bill grew, or raise the budget knowingly."
    wanted = [verdicts.more_measuring(v) for v in gate.verdicts if v.outcome == "inconclusive"]
    known = [times for times in wanted if 1 < times <= verdicts.HOPELESS]
    if known:
        return (
            f"Measure more ({verdicts.times(max(known))} the blocks), on a quieter machine, or say "
            "what inconclusive means here: --inconclusive pass|fail. Another run is another look: "
            "give this one beside it, with --earlier."
        )
    return (
        "See why each is inconclusive, and mend the experiment or the budget; or say what "
        "inconclusive means here: --inconclusive pass|fail."
    )


def cells(verdict: Verdict) -> tuple[str, ...]:
    """One line of a table, in the order of COLUMNS."""
    name = f"{DELTA} {verdict.metric}" if verdict.budget.kind == "increase" else verdict.metric
    figures = ("seen", "") if verdict.metric == verdicts.HARM else _figures(verdict.row)
    return (
        MARKS[verdict.outcome], verdict.workload, verdict.arm, name, *figures,
        limit(verdict.budget, verdict.row),
    )  # fmt: skip


def limit(budget: Budget, row: Comparison | None) -> str:
    """`≤ 2 %`, `≥ 99 %`, `0 to 2 %`, `≤ 1 % = 2.0 µs`."""
    unit = f" {wording.unit(row)}" if row else ""
    known = budget.percent is not None and math.isfinite(budget.most)
    return stated(budget) + (f" = {wording.plain(budget.most)}{unit}" if known else "")


def stated(budget: Budget) -> str:
    """The limit as the budget file has it, the same whatever the run has measured."""
    if budget == verdicts.NO_HARM:
        return "none"
    if budget.percent is not None:
        return f"{AT_MOST} {budget.percent:g} %".replace("-", wording.MINUS)
    kind = metrics.metric(budget.metric).unit
    unit = f" {wording.UNITS.get(kind, kind)}"
    least, most = (
        f"{bound:g}".replace("-", wording.MINUS) for bound in (budget.least, budget.most)
    )
    if math.isinf(budget.least):
        return f"{AT_MOST} {most}{unit}"
    if math.isinf(budget.most):
        return f"{AT_LEAST} {least}{unit}"
    return f"{least} to {most}{unit}"


def markdown(gate: Gate) -> str:
    """A comment for a pull request: verdict, one table, the rest folded."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "."),
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("gate.md.j2").render(
        gate=gate,
        mark=MARKS[gate.effective],
        headline=headline(gate),
        lines=[[_plain(cell) for cell in cells(verdict)] for verdict in gate.worst_first],
        notes=[
            (_plain(_title(verdict)), _plain(verdict.sentence))
            for verdict in gate.worst_first
            if verdict.outcome != "pass"  # which the table says
        ],
        remarks=[_plain(remark) for remark in remarks.of(gate)],
        next_step=next_step(gate),
    )


def document(gate: Gate) -> dict[str, Any]:
    """The same for machines; what is not known is None."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": gate.measured.name,
        "outcome": gate.outcome,
        "inconclusive": gate.inconclusive,
        "exit_code": gate.exit_code,
        "budget_file": gate.budget_file,
        "against": gate.stored and {
            "run": gate.stored.name,
            "started": gate.stored.started,
            "differences": provisos.differences(gate.measured, gate.stored),
        },
        "earlier": [run.name for run in gate.earlier],
        "unmeasured": gate.unmeasured,
        "link": gate.link,
        "remarks": remarks.of(gate),
        "verdicts": [_entry(verdict) for verdict in gate.verdicts],
    }  # fmt: skip


def _entry(verdict: Verdict) -> dict[str, Any]:
    row, budget = verdict.row, verdict.budget
    numbers = ("estimate", "low", "high", "level", "mde")
    return {
        "budget": budget.number,
        "kind": budget.kind,
        "workload": verdict.workload,
        "arm": verdict.arm,
        "metric": verdict.metric,
        "outcome": verdict.outcome,
        "sentence": verdict.sentence,
        "least": _finite(budget.least),
        "most": _finite(budget.most),
        "percent": budget.percent,
        "confidence": budget.level,
        "unmeasured": verdict.unmeasured,
        "part": verdicts.part_of(verdict),
        **{name: _finite(getattr(row, name)) if row else None for name in numbers},
        "unit": row.unit if row else None,
        "n": row.n if row else None,
        "is_range": levels.is_range(row) if row else None,
        "method": row.method if row else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figures(row: Comparison | None) -> tuple[str, str]:
    if row is None:
        return "not measured", ""
    if not math.isfinite(row.low + row.high):
        return f"{wording.plain(row.estimate)} {wording.unit(row)}", "none"
    places = _places(row)
    low, high = (wording.number(end, places) for end in (row.low, row.high))
    kind = f", range of {row.n}" if levels.is_range(row) else ""
    return f"{wording.number(row.estimate, places)} {wording.unit(row)}", f"[{low}, {high}]{kind}"


def _places(row: Comparison) -> int:
    """Two digits of the uncertainty, but no more than five of the largest figure."""
    greatest = max(abs(row.low), abs(row.high), abs(row.estimate))
    most = max(0, 4 - math.floor(math.log10(greatest))) if greatest else 2
    return min(wording.decimals((row.high - row.low) / 2), most)


def _of(count: int, total: int) -> str:
    return f"{count} of {total} checks {'is' if count == 1 else 'are'}"


def _title(verdict: Verdict) -> str:
    return f"{MARKS[verdict.outcome]} {verdict.workload}, {verdict.arm}, {verdict.metric}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, in a table too."""
    for char in "\\`*_<>[]|":
        text = text.replace(char, f"\\{char}")
    return text.replace("\n", " ")
