"""The table of what the load gave each collector to see, and what an event costs; for `html`."""

from __future__ import annotations

from harness.analysis.summary import Summary
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell

# column -> metric and what it is
COLUMNS = {
    "runs a request": ("runs_per_request", "of all its BPF programs"),
    "events a request": ("events_per_request", "as the collector counts them"),
    "spans a request": ("spans_per_request", "sent"),
    "BPF programs an event": ("bpf_event_us", "with entry, where calibrated"),
    "whole bill an event": ("bill_event_us", "the agent's work by the clock is in it"),
}

TOLD = ("runs_per_request", "events_per_request", "bill_event_us")  # one of them makes a row


def sheet(summary: Summary, workload: str) -> Sheet:
    """Runs, events and spans a request, and costs per event, of the arms that tell them."""
    measured = {row.arm for row in summary.rows if row.workload == workload and row.metric in TOLD}
    rows = tuple(
        (arm.name, wording.arm_label(summary, arm.name), _cells(summary, workload, arm.name))
        for arm in summary.experiment.arms
        if arm.collectors and arm.name in measured
    )
    notes = tuple(what for _, what in COLUMNS.values())
    return Sheet("What there was to see, and what one event costs", tuple(COLUMNS), rows, notes)


def _cells(summary: Summary, workload: str, arm: str) -> tuple[Cell, ...]:
    return tuple(_cell(summary, workload, arm, metric) for metric, _ in COLUMNS.values())


def _cell(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    row = summary.row(workload, arm, metric)
    if row is not None:
        return sheets.value(row)
    if len(summary.experiment.arm(arm).collectors) > 1:
        return Cell("n/a", "events of several kinds", "none")
    if wording.is_idle(summary, workload, arm):
        return Cell(wording.NO_EVENTS, "", "none")
    within = summary.row(workload, arm, "startup_s") is not None
    return Cell("none of its own" if within else "not counted", "", "none")
