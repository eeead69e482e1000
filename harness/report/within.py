"""What a service with a collector in its own process is like beside one without; for `html`."""

from __future__ import annotations

from harness.analysis.summary import Summary
from harness.model import Comparison
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell

COLUMNS = {
    "starts in": ("startup_s", "until it answers"),
    "without it": ("startup_plain_s", "the same service"),
    "resident": ("service_rss_mb", "after the windows"),
    "without it ": ("plain_rss_mb", "of the same age"),
    "heap": ("service_heap_mb", "what no file backs"),
    "without it  ": ("plain_heap_mb", "of the same age"),
}


def sheet(summary: Summary, workload: str) -> Sheet:
    """Start-up and memory of both processes, of the arms whose collectors run within a service."""
    found = {
        arm.name: [summary.row(workload, arm.name, metric) for metric, _ in COLUMNS.values()]
        for arm in summary.experiment.arms
    }
    rows = tuple(
        (arm, wording.arm_label(summary, arm), tuple(map(_cell, told)))
        for arm, told in found.items()
        if told[0] is not None
    )
    caption = "Collectors that run in the service: its start and its memory, with and without"
    return Sheet(caption, tuple(COLUMNS), rows, tuple(note for _, note in COLUMNS.values()))


def _cell(row: Comparison | None) -> Cell:
    return sheets.value(row) if row is not None else Cell("not measured", "", "missing")
