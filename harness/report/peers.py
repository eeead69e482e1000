"""Collectors that do the same job, side by side, beside what each saw; for `html` and `markdown`.

By eBPF or by an agent within the service, of one maker or of another: the same figures of all.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.analysis import sight
from harness.analysis.summary import Summary
from harness.collectors.definition import JOBS
from harness.model import Comparison
from harness.report import sheets, table, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell

TITLES: Mapping[str, str] = {
    "tracing": "Who traces requests, side by side: by eBPF, and by an agent in the service",
    "security": "Who watches for security, side by side",
    "profiling": "Who profiles, side by side",
    "network": "Who watches connections, side by side",
}
COLUMNS = {
    "runs": "",
    "CPU cost a request": "the service's, on \N{MINUS SIGN} off",
    "whole bill": "CPU a request, whoever pays",
    "of the machine": "at the rate driven",
    "memory": "PSS",
    "latency, p50": "on \N{MINUS SIGN} off",
    "latency, p99": "on \N{MINUS SIGN} off",
    "seen": "of what there was",
    "lost": "as it says",
    "whole bill an event": "of those that it saw",
    "where nobody prepared the service": "of its requests",
}
_FIGURES = (
    "workload_cpu_us", "bill_us", "bill_percent", "agent_memory_mb", "latency_p50_us",
    "latency_p99_us",
)  # fmt: skip


def told(summary: Summary, workload: str) -> list[tuple[Sheet, str]]:
    """A table a job that two collectors of the run do or more, and a sentence on their bills."""
    found = [(job, _arms(summary, workload, job)) for job in JOBS]
    return [
        (_sheet(summary, workload, job, arms), _sentence(summary, workload, arms))
        for job, arms in found
        if len({_kept(summary, arm).get("name") for arm in arms}) > 1
    ]


def _arms(summary: Summary, workload: str, job: str) -> list[str]:
    """Those with one collector, which does this job, as far as they were measured."""
    return [
        arm.name
        for arm in summary.experiment.arms
        if len(arm.collectors) == 1 and not arm.against
        if _kept(summary, arm.name).get("job") == job
        if summary.row(workload, arm.name, "workload_cpu_us") is not None
    ]


def _kept(summary: Summary, arm: str) -> Mapping[str, Any]:
    """The definition of an arm's one collector, as the run keeps it."""
    (spec,) = summary.experiment.arm(arm).collectors
    return summary.about.collectors.get(spec, {})


def _sheet(summary: Summary, workload: str, job: str, arms: list[str]) -> Sheet:
    rows = tuple((arm, wording.arm_label(summary, arm), _cells(summary, workload, arm))
                 for arm in arms)  # fmt: skip
    return Sheet(f"{TITLES[job]} ({workload})", tuple(COLUMNS), rows, tuple(COLUMNS.values()))


def _cells(summary: Summary, workload: str, arm: str) -> tuple[Cell, ...]:
    seen = table.coverage(summary, workload, arm)
    return (
        _place(_kept(summary, arm)),
        *(_figure(summary, workload, arm, metric) for metric in _FIGURES),
        seen,
        _lost(summary, workload, arm),
        sheets.cell(summary, workload, arm, "bill_event_us"),
        _unprepared(_kept(summary, arm), seen),
    )


def _figure(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    found = sheets.cell(summary, workload, arm, metric)
    if metric != "bill_us" or not table.lacks_entry(summary, workload, arm):
        return found
    return replace(found, detail="\n".join(filter(None, (found.detail, table.WITHOUT_ENTRY))))


def _place(kept: Mapping[str, Any]) -> Cell:
    if _is_within(kept):
        return Cell("in the service", "with its process", "none")
    if kept.get("daemonset"):
        return Cell("in the cluster", str(kept["daemonset"]), "none")
    by_ebpf = kept.get("agent") or kept.get("hooks")
    return Cell("beside the service", "by eBPF" if by_ebpf else "", "none")


def _is_within(kept: Mapping[str, Any]) -> bool:
    return bool((kept.get("subject") or {}).get("kind") == "in-process")


def _lost(summary: Summary, workload: str, arm: str) -> Cell:
    row = summary.row(workload, arm, "lost_percent")
    return sheets.value(row) if row is not None else Cell("does not say", "", "none")


def _unprepared(kept: Mapping[str, Any], seen: Cell) -> Cell:
    """What is seen of a service that was not started with it: ours was not, beside eBPF."""
    if not _is_within(kept):
        return Cell(seen.text, "ours was not changed for it", seen.state)
    language = (kept.get("subject") or {}).get("language") or "its language"
    return Cell("none", f"it is started with services of {language} alone", "none")


def _sentence(summary: Summary, workload: str, arms: list[str]) -> str:
    """Whose whole bill is the smaller one, where that is known, among those that saw enough."""
    blind = _blind(summary, workload)
    bills = {arm: row for arm in arms
             if (row := summary.row(workload, arm, "bill_us")) and arm not in blind}  # fmt: skip
    ordered = sorted(bills, key=lambda arm: bills[arm].estimate)
    partial = {arm for arm in bills if table.lacks_entry(summary, workload, arm)}
    said = [_beside(a, bills[a], b, bills[b], partial) for a, b in itertools.pairwise(ordered)]
    said += [f"{arm} saw too little to be compared." for arm in arms if arm in blind]
    told = {row.arm for row in _coverage(summary, workload)}
    said += [f"What {arm} saw of what there was is not known." for arm in arms if arm not in told]
    return " ".join(said)


def _beside(less: str, low: Comparison, more: str, high: Comparison, partial: set[str]) -> str:
    if less in partial:
        return f"The bills of {less} and {more} are not compared: {less}'s is without entry."
    if low.high < high.low:
        least, most = wording.plain(high.low - low.high), wording.plain(high.high - low.low)
        by = f"at least {least}" if more in partial else f"{least} to {most}"
        return f"The whole bill of {more} is above that of {less}, by {by} µs a request."
    why = "their intervals meet" if low.high >= high.low else "one has no interval"
    return f"The whole bills of {less} and {more} cannot be told apart: {why}."


def _blind(summary: Summary, workload: str) -> set[str]:
    """Arms whose collectors are known to have told of less than there was, or of nothing."""
    lossy = {row.arm for row in sight.lossy(summary.rows) if row.workload == workload}
    return lossy | {
        row.arm for row in _coverage(summary, workload) if row.estimate < sight.enough(row)
    }


def _coverage(summary: Summary, workload: str) -> list[Comparison]:
    """What arms saw of what there was, of every signal."""
    return [
        row
        for row in summary.rows
        if row.workload == workload and row.metric.startswith("coverage_percent")
    ]
