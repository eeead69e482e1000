"""The report's detailed tables as captions, columns and cells; `html` lays them out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.analysis import metrics
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.report import table, wording
from harness.report.table import Cell
from harness.report.wording import MINUS

CONTEXTS = {
    "workload_cpu_us": "workload",
    "client_cpu_us": "client",
    "context_cpu_us": "both",
    "residual_us": "both less BPF and entry",
    "softirq_cpu_us": "softirq",
    "host_cpu_us": "host less agents",
}
# column -> metric and how it is measured
BILL = {
    "BPF programs": ("bpf_us", "kernel's run time of each program, slices of metered trials"),
    "entry": ("entry_us", "runs a request \N{MULTIPLICATION SIGN} the machine's certificate"),
    "agent": ("agent_us", "its cgroup, steady part"),
    "whole bill": ("bill_us", "sum of these, what is known of them"),
    "host, extra": ("host_cpu_us", f"busy time less agents and receiver, on {MINUS} off"),
    "unexplained": ("unexplained_us", f"host {MINUS} service {MINUS} client, window by window"),
    "of host + agent": ("unexplained_percent", "unexplained, where these are above zero"),
    "idle": ("idle_mcpu", "agents and programs at no request, thousandths of a CPU"),
    "agent, by requests": ("agent_driven_us", "agent less its idle part at this rate"),
    "receiver, apart": ("sink_us", "its cgroup, steady part; not in the bill"),
}
AT_WILL = ("idle_mcpu", "agent_driven_us")  # where the experiment asks for them
AGAINST = {
    "workload_cpu_us": "workload",
    "context_cpu_us": "workload and client",
    "bpf_difference_us": "BPF programs",
    "agent_difference_us": "agent",
    "agent_memory_difference_mb": "agent, PSS",
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
    "map_memory_96_mb": "maps on 96 CPUs, per-CPU ones full",
    "lost_percent": "events lost",
    "data_latency_p50_s": "data latency p50",
    "data_latency_p99_s": "data latency p99",
}


@dataclass(frozen=True)
class Sheet:
    """A table: `rows` are an arm, its label, and a cell a column; `notes` stand below columns."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()


def trust(summary: Summary, workload: str) -> Sheet:
    """The difference, and what speaks for and against believing it."""
    metric = "workload_cpu_us"
    rows = tuple(
        (arm, label, _trust(summary, row))
        for arm, label in _arms(summary, nulls=True)
        if (row := summary.row(workload, arm, metric)) is not None
    )
    columns = {
        "difference": "µs a request, 95 %",
        "resolved": "after Holm, 5 %",
        "seen from": "80 % power",
        "A/A noise": "half its interval",
        "p": "this arm alone",
        "p after Holm": "over all services' arms",
        "compared": "method",
        "windows": "of twin, quadruples; of block, trials",
        "all windows": "plain means; share weighted down",
    }
    caption = f"CPU of the service a request, on {MINUS} off, and how far to believe it"
    return Sheet(caption, tuple(columns), rows, tuple(columns.values()))


def _trust(summary: Summary, row: Comparison) -> tuple[Cell, ...]:
    is_null = wording.is_null(summary, row.arm)
    is_idle = wording.is_idle(summary, row.workload, row.arm)
    state: table.State = "resolved" if wording.resolved(row) else "unresolved"
    verdict = "in these processes" if wording.only_here(row) else "resolved"
    verdict = verdict if wording.resolved(row) else "no"
    verdict = "A/A" if is_null else wording.NO_EVENTS if is_idle else verdict
    figure = f"{wording.change(row)} {wording.relative(row) and f'({wording.relative(row)})'}"
    return (
        Cell(figure.strip(), wording.interval(row), state),
        Cell(verdict, "", "none" if is_null or is_idle else state),
        Cell(wording.floor(row)),
        Cell(f"±{wording.noise(row)}") if wording.noise(row) else Cell("not known", "", "none"),
        Cell(wording.probability(row.p) or "none"),
        Cell(wording.probability(row.p_holm) or "n/a"),
        Cell(wording.compared(summary, row.arm)),
        Cell(f"{row.n:,}"),
        _plain_means(row),
    )


def _plain_means(row: Comparison) -> Cell:
    """The difference of the means of all windows, and how many counted for less than half."""
    if not math.isfinite(row.mean):
        return Cell("n/a", "", "none")
    share = f"{wording.plain(100 * row.down_share)} % weighted down"
    return Cell(wording.number(row.mean, wording.places(row), signed=True), share)


def bill(summary: Summary, workload: str) -> Sheet:
    """The full bill of each arm, and how each part is measured."""
    told = {row.metric for row in summary.rows}
    parts = {k: (m, how) for k, (m, how) in BILL.items() if m not in AT_WILL or m in told}
    rows = tuple(
        (arm, label, tuple(_bill_cell(summary, workload, arm, m) for m, _ in parts.values()))
        for arm, label in _arms(summary)
    )
    caption = "The full bill, CPU a request while the collectors are on"
    return Sheet(caption, tuple(parts), rows, tuple(how for _, how in parts.values()))


def _bill_cell(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    if summary.experiment.arm(arm).against and metrics.metric(metric).difference:
        return Cell("n/a", "two sets are compared", "none")
    return cell(summary, workload, arm, metric)


def contexts(summary: Summary, workload: str) -> Sheet:
    """CPU per request in whose context, on - off."""
    caption = f"CPU a request, on {MINUS} off, by whose context pays"
    return _sheet(summary, workload, caption, CONTEXTS, nulls=True)


def interactions(summary: Summary, workload: str) -> Sheet:
    """Collectors together less the sum of each alone, of the arms that allow it."""
    rows = []
    for arm, label in _arms(summary):
        together = summary.row(workload, arm, "context_cpu_us")
        row = summary.row(workload, arm, "interaction_us")
        if together and row:
            alone = wording.number(together.estimate - row.estimate, wording.places(row), True)
            each = row.method.partition("less those of ")[2].partition(";")[0]
            each = each or "in the same windows"
            cells = (difference(together), Cell(f"{alone} µs", each), difference(row))
            rows.append((arm, label, cells))
    columns = ("together", "sum of each alone", f"interaction: together {MINUS} sum")
    caption = "Stacked collectors, CPU of workload and client a request"
    return Sheet(caption, columns, tuple(rows))


def against(summary: Summary, workload: str) -> Sheet:
    """Candidate - reference of the arms that compare two sets of collectors."""
    arms = {arm.name for arm in summary.experiment.arms if arm.against}
    caption = f"One set of collectors beside another, candidate {MINUS} reference"
    sheet = _sheet(summary, workload, caption, AGAINST)
    return replace(sheet, rows=tuple(row for row in sheet.rows if row[0] in arms))


def latencies(summary: Summary, workload: str) -> list[Sheet]:
    """On - off of the percentiles, a table a route, the primary one first."""
    suffixes = {
        route.suffix: None
        for route in summary.routes
        if route.workload == workload and (route.rows or route.too_long)
    }
    return [_latency(summary, workload, suffix) for suffix in suffixes]


def _latency(summary: Summary, workload: str, suffix: str) -> Sheet:
    columns = {metric + suffix: name for metric, name in LATENCIES.items()}
    caption = f"Latency on {MINUS} off, {suffix.strip('[]') or 'primary route'}"
    notes = (*(_basis(summary, workload, metric) for metric in columns), "p99 of all")
    return replace(_sheet(summary, workload, caption, columns | DRIVER, nulls=True), notes=notes)


def _basis(summary: Summary, workload: str, metric: str) -> str:
    """The smallest share of the requests that a column's figures rest on."""
    kept = [route.kept[metric] for route in summary.routes
            if route.workload == workload and metric in route.kept]  # fmt: skip
    return f"of {100 * min(kept):.0f} % of the requests" if kept else "not told"


def life(summary: Summary, workload: str) -> Sheet:
    """Attaching, memory, losses and data latency."""
    sheet = _sheet(summary, workload, "Attaching, memory, losses, data latency, coverage", LIFE)
    rows = tuple(
        (arm, label, (*cells, table.coverage(summary, workload, arm, every=True)))
        for arm, label, cells in sheet.rows
    )
    return replace(sheet, columns=(*sheet.columns, "coverage"), rows=rows)


def programs(summary: Summary, workload: str) -> Sheet:
    """Every BPF program of the arms with one collector."""
    rows = tuple(
        (
            p.arm,
            p.program + (f" ({p.role})" if p.role else ""),
            (
                Cell(p.collector),
                Cell(f"{wording.plain(p.us_per_request)} µs"),
                Cell(wording.plain(p.runs_per_request)),
                Cell(f"{p.ns_per_run:,.0f} ns"),
                Cell(p.hook or "not recorded"),
                Cell(_entry(p.entry_us_per_request)),
            ),
        )
        for p in summary.programs
        if p.workload == workload and len(summary.experiment.arm(p.arm).collectors) == 1
    )
    columns = (
        "collector", "time a request", "runs a request", "time a run", "hook", "entry a request",
    )  # fmt: skip
    return Sheet("BPF programs, metered", columns, rows)


def _entry(us: float) -> str:
    return f"{wording.plain(us)} µs" if math.isfinite(us) else "not calibrated"


def _arms(summary: Summary, nulls: bool = False) -> list[tuple[str, str]]:
    """Arms and their labels, the A/A first and only if asked for."""
    arms = [a for a in summary.experiment.arms if nulls or a.collectors]
    ordered = sorted(arms, key=lambda arm: (arm.name != BASELINE, bool(arm.collectors)))
    return [(arm.name, wording.arm_label(summary, arm.name)) for arm in ordered]


def _sheet(
    summary: Summary,
    workload: str,
    caption: str,
    columns: Mapping[str, str],
    nulls: bool = False,
) -> Sheet:
    rows = tuple(
        (arm, label, tuple(cell(summary, workload, arm, metric) for metric in columns))
        for arm, label in _arms(summary, nulls)
    )
    return Sheet(caption, tuple(columns.values()), rows)


def cell(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    """A figure of an arm as a table shows it, or why it is not there."""
    row = summary.row(workload, arm, metric)
    if row is not None:
        return difference(row) if metrics.metric(metric).difference else value(row)
    if wording.is_null(summary, arm) and metric == "residual_us":
        return Cell("n/a", "", "none")
    return Cell("not measured", summary.missing(workload, arm, metric), "missing")


def difference(row: Comparison) -> Cell:
    """The estimate, its interval and the smallest effect that would have been seen."""
    state: table.State = "resolved" if wording.resolved(row) else "unresolved"
    seen = f"\nseen from {wording.plain(row.mde)}" if math.isfinite(row.mde) else ""
    seen += f" · A/A ±{wording.plain(row.noise)}" if seen and math.isfinite(row.noise) else ""
    return Cell(wording.change(row), wording.interval(row) + seen, state)


def value(row: Comparison) -> Cell:
    """A value, its unit and what its brackets are."""
    shown = table.share(row.estimate) if row.unit == "%" and row.estimate > 1 else (
        f"{wording.plain(row.estimate)} {wording.unit(row)}".strip())  # fmt: skip
    return Cell(shown, wording.spread(row).replace("], ", "]\n"))
