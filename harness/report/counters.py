"""Instructions and cycles a request, where the processor counts them; `html`, `markdown`."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.summary import Summary
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell
from harness.report.wording import MINUS

COLUMNS = {
    "instructions_per_request": "instructions",
    "instructions_percent": "in percent",
    "cycles_per_request": "cycles",
    "instructions_per_cycle": "instructions a cycle",
    "cache_misses_per_request": "last-level cache misses",
}
CAPTION = f"What the processor counted in the service, a request, on {MINUS} off"
SHARED = 0.995  # of the time in which an event was to be counted; below, others had the counter


def sheet(summary: Summary, workload: str) -> Sheet:
    """A row for each arm in which they were counted, the A/A too; none on most virtual machines."""
    counted = {(row.arm, row.metric) for row in summary.rows if row.workload == workload}
    columns = {m: name for m, name in COLUMNS.items() if any(m == metric for _, metric in counted)}
    rows = tuple(
        (arm.name, wording.arm_label(summary, arm.name), tuple(_cells(summary, workload, arm.name,
                                                                      columns)))
        for arm in summary.experiment.arms
        if any((arm.name, metric) in counted for metric in columns)
    )  # fmt: skip
    return Sheet(CAPTION, tuple(columns.values()), rows)


def _cells(summary: Summary, workload: str, arm: str, columns: dict[str, str]) -> Iterator[Cell]:
    for metric in columns:
        row = summary.row(workload, arm, metric)
        yield sheets.difference(row) if row else Cell("not counted", "", "missing")


def told(summary: Summary) -> str:
    """Whether instructions were counted, or why not; empty of runs that did not try."""
    kernel = summary.about.facts.get("hardware_counters")
    if kernel is None:
        return ""
    if not summary.experiment.count_instructions:
        return "not counted: the experiment says so"
    if kernel != "there":
        why = kernel.removeprefix("none").strip()
        return f"not counted: the machine has no hardware counters {why}"
    share = summary.counted_share
    if share is None:
        return "not counted: the kernel has counters, but gave none for the service"
    if share > SHARED:
        return "counted by the processor, all of the time"
    return (
        f"counted by the processor in {100 * share:.0f} % of the time, as others use its counters "
        "too, and scaled up"
    )
