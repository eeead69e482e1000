"""What somebody else's process attached, whom it makes pay, and what attaching did; for `html`.

`markdown` shows it, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness.analysis.summary import Summary
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell

# column -> metric and what it is; the first two are words
COLUMNS = {
    "makes pay": ("", "who enters its programs"),
    "attached": ("", "BPF programs, by type"),
    "ready after": ("load_s", "from its start"),
    "memory meanwhile": ("attach_peak_memory_mb", "RSS, the most at once"),
    "p99 before": ("attach_before_p99_ms", "of requests due in 2 s before"),
    "p99 meanwhile": ("attach_meanwhile_p99_ms", "of those due until it was ready"),
    "slowest before": ("attach_before_worst_ms", "of requests due in 2 s before"),
    "slowest meanwhile": ("attach_meanwhile_worst_ms", "of those due until it was ready"),
}


def sheet(summary: Summary, workload: str) -> Sheet:
    """Of the arms with a process of somebody else's, one a row."""
    rows = tuple(
        (arm.name, wording.arm_label(summary, arm.name), _cells(summary, workload, arm.name))
        for arm in summary.experiment.arms
        if summary.row(workload, arm.name, "attach_peak_memory_mb") is not None
    )
    caption = f"Attached by other people's collectors, and what that did ({workload})"
    return Sheet(caption, tuple(COLUMNS), rows, tuple(what for _, what in COLUMNS.values()))


def _cells(summary: Summary, workload: str, arm: str) -> tuple[Cell, ...]:
    words = (_payer(summary, arm), _programs(summary, workload, arm))
    figures = [metric for metric, _ in COLUMNS.values() if metric]
    return (*words, *(sheets.cell(summary, workload, arm, metric) for metric in figures))


def _payer(summary: Summary, arm: str) -> Cell:
    kept = [_subject(summary, spec) for spec in summary.experiment.arm(arm).collectors]
    is_host = any(each.get("reach") == "host" for each in kept)
    return Cell("everybody on the host" if is_host else "the service alone", "", "none")


def _subject(summary: Summary, spec: str) -> Mapping[str, Any]:
    return summary.about.collectors.get(spec, {}).get("subject") or {}


def _programs(summary: Summary, workload: str, arm: str) -> Cell:
    """How many of each type, as the last of its trials had them."""
    found = Counter[str]()
    for judged in summary.trials:
        trial = judged.record.trial
        if judged.usable and (trial.workload, trial.arm) == (workload, arm):
            found = Counter()
            for each in judged.record.extra.get("attached", {}).values():
                found.update(each)
    said = ", ".join(f"{number} {kind}" for kind, number in found.items())
    return Cell(said or "none that was seen", "", "none")
