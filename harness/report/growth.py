"""Whether the agents' memory grew while they stayed on; for `html`, `markdown`, `terminal`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.analysis.growth import SLOPE, WATCHED
from harness.analysis.summary import Summary
from harness.model import Comparison
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell, State

COLUMNS = {
    SLOPE: ("RSS", "all that is resident"),
    f"{SLOPE}[pss]": ("PSS", "pages divided among their users"),
    f"{SLOPE}[private_dirty]": ("private, dirty", "what only it has: the heap"),
    f"{SLOPE}[maps]": ("BPF maps", "kernel memory of its programs' maps"),
    "agent_first_peak_memory_mb": ("peak RSS at first exports", "from its start to the first"),
    "agent_peak_memory_mb": ("peak RSS", "from its start to the end"),
    WATCHED: ("followed for", "collectors on, under load"),
}


def sheet(summary: Summary, workload: str) -> Sheet:
    """A row for each arm whose collectors stayed on long enough for a slope."""
    rows = tuple(
        (arm.name, wording.arm_label(summary, arm.name), tuple(_cells(summary, workload, arm.name)))
        for arm in summary.experiment.arms
        if summary.row(workload, arm.name, SLOPE) is not None
    )
    names, notes = zip(*COLUMNS.values(), strict=True)
    return Sheet("Growth of the agents' memory, MB an hour", names, rows, notes)


def note(summary: Summary) -> str:
    """How it was obtained; empty where no slope is told."""
    row = next((row for row in summary.rows if row.metric == SLOPE), None)
    if row is None:
        return ""
    return (
        f"Slope of memory: {row.method}. It holds for the time that was followed: what happens "
        "once in hours is not in it. Memory is resident pages of the agents, without swap."
    )


def _cells(summary: Summary, workload: str, arm: str) -> Iterator[Cell]:
    for metric in COLUMNS:
        row = summary.row(workload, arm, metric)
        if row is None:
            yield Cell("not measured", summary.missing(workload, arm, metric), "missing")
        elif metric == WATCHED:
            yield Cell(f"{row.estimate:.0f} min", "one trial" if row.n == 1 else f"{row.n} trials")
        else:
            yield slope(row) if metric.startswith(SLOPE) else sheets.value(row)


def slope(row: Comparison) -> Cell:
    """Grey where it cannot be told from none."""
    if not math.isfinite(row.low):
        return Cell("too few readings", "", "missing")
    if row.low == row.high == 0:
        return Cell("0", "not a page more or less", "plain")
    state: State = "resolved" if wording.apart(row) else "unresolved"
    centre, low, high = (
        wording.number(value, wording.places(row), signed=True)
        for value in (row.estimate, row.low, row.high)
    )
    return Cell(centre, f"[{low}, {high}], 95 %", state)
