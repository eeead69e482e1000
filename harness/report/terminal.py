"""The headline table in one line a collector, for a terminal of 100 columns; `cli` prints it."""

from __future__ import annotations

import math

from harness.analysis.summary import Summary
from harness.report import table, wording
from harness.report.table import Line

COLUMNS = ("service", "collector", f"CPU µs a request, on {wording.MINUS} off [95 %]", "seen from",
           "A/A ±", "p, Holm", "bill", "machine", "memory (PSS)", "coverage")  # fmt: skip


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
        return (line.label, line.cost.text, *[""] * (len(COLUMNS) - 3))
    centre = wording.number(cost.estimate, wording.places(cost), signed=True)
    plain = wording.resolved(cost) or wording.is_null(summary, line.arm)
    figures = [
        f"{centre} {wording.interval(cost)}{'' if plain else '  unresolved'}",
        wording.plain(cost.mde),
        wording.plain(cost.noise) if math.isfinite(cost.noise) else "",
        wording.probability(cost.p_holm),
    ]
    for metric, unit in (("bill_us", "µs"), ("bill_percent", "%"), ("agent_memory_mb", "MB")):
        row = summary.row(line.workload, line.arm, metric)
        figures.append(f"{wording.plain(row.estimate)} {unit}" if row else "")
    seen = "" if wording.is_null(summary, line.arm) else line.coverage.text
    return (line.label, *figures, seen)
