"""The headline table in one line a collector, for a terminal of 100 columns; `cli` prints it."""

from __future__ import annotations

import math

from harness.analysis.summary import Summary
from harness.model import Comparison
from harness.report import counters, growth, quality, table, wording
from harness.report.table import Cell, Line

COLUMNS = (
    "service", "collector", f"CPU µs a request, on {wording.MINUS} off", "seen from", "A/A ±",
    "resolved, p", "bill", "PSS", "coverage",
)  # fmt: skip
FIRM = "\N{NO-BREAK SPACE}"  # where a line must not be broken


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """Cells in the order of COLUMNS; the service is named on its first line only."""
    shown, last = [], ""
    for line in table.lines(summary):
        shown.append((line.workload if line.workload != last else "", *_cells(summary, line)))
        last = line.workload
    return shown


def _cells(summary: Summary, line: Line) -> tuple[str, ...]:
    cost = summary.row(line.workload, line.arm, "workload_cpu_us")
    if cost is None:
        return (_label(line), line.cost.text, *[""] * (len(COLUMNS) - 3))
    centre = wording.number(cost.estimate, wording.places(cost), signed=True)
    figures = [
        f"{centre} {wording.interval(cost)}".replace(" ", FIRM),
        wording.plain(cost.mde),
        wording.plain(cost.noise) if math.isfinite(cost.noise) else "?",
        "" if wording.is_null(summary, line.arm) else _told(summary, cost),
    ]
    for metric, unit in (("bill_percent", "%"), ("agent_memory_mb", "MB")):
        row = summary.row(line.workload, line.arm, metric)
        figures.append(f"{wording.plain(row.estimate)}{FIRM}{unit}" if row else "")
    seen = "" if wording.is_null(summary, line.arm) else line.coverage.text.removesuffix(" probes")
    return (_label(line), *figures, seen)


def _told(summary: Summary, cost: Comparison) -> str:
    idle = wording.is_idle(summary, cost.workload, cost.arm)
    return "no events" if idle else _resolved(cost)


def _resolved(cost: Comparison) -> str:
    """`yes, <0.001`, `no, 0.38`, or `here, 0.01`: in these processes; and p after Holm."""
    told = "here" if wording.only_here(cost) else "yes" if wording.resolved(cost) else "no"
    p = wording.probability(cost.p_holm).replace(" ", "")
    return f"{told}, {p}" if p else told


def _label(line: Line) -> str:
    """Twins and blocks are mostly named so; what an arm is against is not."""
    return f"{line.label} {line.method}" if line.method.startswith("against") else line.label


def tables(summary: Summary) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Titles, and under each its rows: what the processor counted, whether agents' memory grew,
    what was found in the full stack and what that costs.

    Empty for a run that has none of it. The first row of each names the columns.
    """
    makers = (counters.sheet, growth.sheet, quality.found, quality.cost)
    sheets = [
        (workload, each)
        for workload in summary.experiment.workloads
        for make in makers
        if (each := make(summary, workload)).rows
    ]
    return [
        (
            f"{each.caption} ({workload})",
            [
                ("collector", *each.columns),
                *((label, *(_short(cell) for cell in cells)) for _, label, cells in each.rows),
            ],
        )
        for workload, each in sheets
    ]


def _short(cell: Cell) -> str:
    """A cell without what stands below it, but for a doubt."""
    doubt = "?" if cell.state == "unresolved" else ""
    return f"{cell.text}{doubt}".replace(" ", FIRM)
