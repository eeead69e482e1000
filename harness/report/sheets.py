"""The report's detailed tables as captions, columns and cells; `html` lays them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis import metrics
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.report import table, wording
from harness.report.table import Cell
from harness.report.wording import MINUS

PAYERS = {
    "workload_cpu_us": f"workload, on {MINUS} off",
    "client_cpu_us": f"client, on {MINUS} off",
    "context_cpu_us": f"both, on {MINUS} off",
    "bpf_us": "BPF programs, metered (lower bound)",
    "residual_us": "both less BPF",
    "agent_us": "agent",
    "softirq_cpu_us": f"softirq, on {MINUS} off",
    "host_cpu_us": f"host less agent, on {MINUS} off",
}
LATENCIES = {
    "latency_p50_us": "p50",
    "latency_p90_us": "p90",
    "latency_p99_us": "p99",
    "latency_p99_9_us": "p99.9",
}
DRIVER = {"late_p99_ms": "load driver late, p99"}
LIFE = {
    "load_s": "load",
    "attach_ms": "first attach",
    "detach_ms": "detach",
    "switch_ms": "one switch",
    "agent_memory_mb": "agent, PSS",
    "agent_peak_memory_mb": "agent, peak RSS",
    "map_memory_mb": "maps",
    "lost_percent": "events lost",
    "data_latency_p50_s": "data latency p50",
    "data_latency_p99_s": "data latency p99",
}


@dataclass(frozen=True)
class Sheet:
    """A table: `rows` are an arm, its label, and a cell a column."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]


def payers(summary: Summary, workload: str) -> Sheet:
    """CPU per request by who pays."""
    return _sheet(summary, workload, "CPU per request, by who pays", PAYERS, baseline=True)


def latencies(summary: Summary, workload: str) -> list[Sheet]:
    """On - off of the percentiles, a table a route, the primary one first."""
    suffixes = {
        row.metric.removeprefix("latency_p50_us"): None
        for row in summary.rows
        if row.workload == workload and row.metric.startswith("latency_p50_us")
    }
    return [
        _sheet(
            summary, workload,
            f"Latency on {MINUS} off, {suffix.strip('[]') or 'primary route'}",
            {metric + suffix: name for metric, name in LATENCIES.items()} | DRIVER, baseline=True,
        )
        for suffix in suffixes
    ]  # fmt: skip


def life(summary: Summary, workload: str) -> Sheet:
    """Attaching, memory, losses and data latency."""
    sheet = _sheet(summary, workload, "Attaching, memory, losses, data latency, coverage", LIFE)
    rows = tuple(
        (arm, label, (*cells, table.coverage(summary, workload, arm, every=True)))
        for arm, label, cells in sheet.rows
    )
    return Sheet(sheet.caption, (*sheet.columns, "coverage"), rows)


def programs(summary: Summary, workload: str) -> Sheet:
    """Every BPF program of the arms with one collector."""
    rows = tuple(
        (
            p.arm,
            p.program,
            (
                Cell(p.collector),
                Cell(f"{wording.plain(p.us_per_request)} µs"),
                Cell(wording.plain(p.runs_per_request)),
                Cell(f"{p.ns_per_run:,.0f} ns"),
            ),
        )
        for p in summary.programs
        if p.workload == workload and len(summary.experiment.arm(p.arm).collectors) == 1
    )
    columns = ("collector", "time a request", "runs a request", "time a run")
    return Sheet("BPF programs, metered", columns, rows)


def _sheet(
    summary: Summary,
    workload: str,
    caption: str,
    columns: Mapping[str, str],
    baseline: bool = False,
) -> Sheet:
    arms = [a.name for a in summary.experiment.arms if baseline or a.name != BASELINE]
    rows = tuple(
        (
            arm,
            wording.arm_label(summary, arm),
            tuple(_cell(summary, workload, arm, metric) for metric in columns),
        )
        for arm in sorted(arms, key=lambda arm: arm != BASELINE)
    )
    return Sheet(caption, tuple(columns.values()), rows)


def _cell(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    row = summary.row(workload, arm, metric)
    if row is not None:
        return difference(row) if metrics.metric(metric).difference else _value(row)
    if arm == BASELINE and metric in ("bpf_us", "agent_us", "residual_us"):
        return Cell("n/a", "", "none")
    return Cell("not measured", summary.missing(workload, arm, metric), "missing")


def difference(row: Comparison) -> Cell:
    """The estimate, its interval and the smallest effect that would have been seen."""
    state: table.State = "resolved" if wording.resolved(row) else "unresolved"
    seen = f"\nseen from {wording.plain(row.mde)}" if math.isfinite(row.mde) else ""
    return Cell(wording.change(row), wording.interval(row) + seen, state)


def _value(row: Comparison) -> Cell:
    shown = table.share(row.estimate) if row.unit == "%" and row.estimate > 1 else (
        f"{wording.plain(row.estimate)} {wording.unit(row)}")  # fmt: skip
    return Cell(shown, wording.spread(row).replace("], ", "]\n"))


def facts(values: Mapping[str, object], skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Machine facts as pairs of words, nested ones in one line."""
    return [(_title(key), _plain(value)) for key, value in values.items() if key not in skip]


def _title(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{_title(str(k))} {_plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return str(value) if value not in ("", None) else "unknown"
