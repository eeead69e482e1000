"""The headline table in one line a collector, for 80 columns or more; `cli` prints it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.report import counters, growth, quality, table, wording
from harness.report.table import Cell, Line

FIRM = "\N{NO-BREAK SPACE}"  # where a line must not be broken
GAP = 2  # between columns
UNKNOWN = "?"
LATENCY = "latency_p50_us"

COLUMNS: Mapping[str, str] = {
    "collector": "collector",
    "cost": "CPU µs a request [95 %]",
    "share": "of it",
    "told": "resolved, p",
    "latency": "median latency µs",
    "seen": "seen from",
    "noise": "A/A ±",
    "bill": "bill",
    "memory": "PSS",
    "coverage": "coverage",
}
SPARED = ("noise", "seen", "latency", "memory", "share")  # in this order, where lines are short

LEGEND = (
    "CPU: what a request costs the service more with the collector on than off, with the 95 % "
    "interval for the mean over processes; of it: in percent of what it costs without.",
    "resolved: there is an effect in the processes measured (yes; here: of processes in general it "
    "is open); p is the probability of so large a one by chance, after Holm's correction.",
    "seen from: the smallest effect that would have been told with 80 % power; A/A ±: half the "
    "interval of the same figure with nothing installed.",
    "bill: time in BPF programs and the agent's CPU, whoever pays it, in percent of the machine; "
    "PSS: the agents' memory; coverage: what arrived of what there was.",
)


def lines(summary: Summary, width: int) -> Iterator[str]:
    """The headline table, a line a collector below each service, with the columns that fit."""
    found = {name: list(_rows(summary, name)) for name in summary.experiment.workloads}
    sizes = {
        key: max(map(len, (head, *(cells[key] for rows in found.values() for cells in rows))))
        for key, head in COLUMNS.items()
    }
    kept = list(COLUMNS)
    for key in SPARED:
        if sum(sizes[each] + GAP for each in kept) - GAP > width:
            kept.remove(key)
    for name, rows in found.items():
        yield f"{name}: {driven(summary, name)}"
        for cells in (COLUMNS, *rows):
            yield "".join(cells[key].ljust(sizes[key] + GAP) for key in kept).rstrip()
        yield ""


def driven(summary: Summary, workload: str) -> str:
    """`2,500 requests a second, each 28 µs of CPU, 210 µs in the median`."""
    known = summary.about.calibration.get(workload, {})
    if "rate" not in known:
        return "it was not driven"
    parts = [f"{known['rate']:,.0f} requests a second"]
    for metric, what in (("workload_cpu_us", "of CPU"), (LATENCY, "in the median")):
        row = summary.row(workload, BASELINE, metric)
        if row is not None and row.level > 0:
            parts.append(f"{wording.plain(row.level)} µs {what}")
    return ", ".join(parts)


def _rows(summary: Summary, workload: str) -> Iterator[dict[str, str]]:
    for line in table.lines(summary):
        if line.workload == workload:
            yield _cells(summary, line)


def _cells(summary: Summary, line: Line) -> dict[str, str]:
    none = dict.fromkeys(COLUMNS, "") | {"collector": _label(line)}
    cost = summary.row(line.workload, line.arm, "workload_cpu_us")
    if cost is None:
        return none | {"cost": line.cost.text}
    null = wording.is_null(summary, line.arm)
    latency = summary.row(line.workload, line.arm, LATENCY)
    found = {
        "cost": _figure(cost),
        "share": "" if null else wording.relative(cost),
        "told": "" if null else _told(summary, cost),
        "latency": _figure(latency) if latency is not None else "",
        "seen": wording.plain(cost.mde),
        "noise": wording.plain(cost.noise) if math.isfinite(cost.noise) else UNKNOWN,
    }
    for key, metric, unit in (("bill", "bill_percent", "%"), ("memory", "agent_memory_mb", "MB")):
        row = summary.row(line.workload, line.arm, metric)
        found[key] = f"{wording.plain(row.estimate)} {unit}" if row else ""
    if not null:
        seen = line.coverage.text.removesuffix(" probes").removesuffix(" samples")
        found["coverage"] = seen.replace(" of about ", " of ~")
    return none | found


def _figure(row: Comparison) -> str:
    centre = wording.number(row.estimate, wording.places(row), signed=True)
    if not math.isfinite(row.low):
        return f"{centre} [?]"
    return f"{centre} {wording.interval(row)}"


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
