"""The headline table, workload by collector, as cells of text; html and markdown lay it out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from harness.analysis import coverage as counted
from harness.analysis import sight
from harness.analysis.account import PART, WITHIN
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.report import wording
from harness.wire.telemetry import SIGNALS

State = Literal["resolved", "unresolved", "plain", "missing", "none"]

WITHOUT_ENTRY = "without entry"
COLUMNS = (
    "Collector",
    "CPU cost a request",
    "Whole bill, of the machine",
    "Memory",
    "Latency, median",
    "Coverage",
    "Published elsewhere",
)


@dataclass(frozen=True)
class Cell:
    """A figure, what stands below it in small, and how it is to be read."""

    text: str
    detail: str = ""
    state: State = "plain"


@dataclass(frozen=True)
class Claimed:
    """A published figure and where it was published."""

    text: str
    source: str


@dataclass(frozen=True)
class Line:
    """One row of the headline table."""

    workload: str
    arm: str
    label: str
    method: str
    cost: Cell
    bill: Cell
    memory: Cell
    latency: Cell
    coverage: Cell
    claims: tuple[Claimed, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The figures in the order of COLUMNS."""
        return (self.cost, self.bill, self.memory, self.latency, self.coverage)


def lines(summary: Summary) -> list[Line]:
    """Every workload x arm, the A/A first; an arm that was not measured says why, once."""
    return [
        _line(summary, workload, arm.name)
        for workload in summary.experiment.workloads
        for arm in sorted(summary.experiment.arms, key=lambda arm: arm.name != BASELINE)
    ]


def _line(summary: Summary, workload: str, arm: str) -> Line:
    cost = _difference(summary, workload, arm, "workload_cpu_us")
    row = summary.row(workload, arm, "workload_cpu_us")
    if wording.is_null(summary, arm) and row is not None:
        cost = _null(row)
    elif wording.is_idle(summary, workload, arm) and row is not None:
        cost = _idle(summary, row)
    others = (
        _bill(summary, workload, arm),
        _memory(summary, workload, arm),
        _difference(summary, workload, arm, "latency_p50_us"),
        _seen(summary, workload, arm),
    )
    bill, memory, latency, seen = (
        replace(cell, detail="") if cell.state == cost.state == "missing" else cell
        for cell in others
    )
    label = wording.arm_label(summary, arm)
    method = "none" if wording.is_null(summary, arm) else wording.compared(summary, arm)
    told = claims(summary, arm)
    return Line(workload, arm, label, method, cost, bill, memory, latency, seen, told)


def _null(row: Comparison) -> Cell:
    """The A/A: its interval must contain zero, and its width is the noise of the method."""
    wrong = wording.resolved(row)
    centre = wording.number(row.estimate, wording.places(row), signed=True)
    return Cell(
        "does not contain zero" if wrong else "contains zero, as it must",
        f"{centre} {wording.interval(row)} · seen from {wording.floor(row)}",
        "resolved" if wrong else "unresolved",
    )


def _idle(summary: Summary, row: Comparison) -> Cell:
    """Programs that hardly ran: what was measured is no cost of theirs."""
    ran = summary.row(row.workload, row.arm, "runs_per_request")
    times = wording.plain(ran.estimate) if ran else "0"
    centre = wording.number(row.estimate, wording.places(row), signed=True)
    detail = f"{times} runs a request\n{centre} {wording.interval(row)}"
    return Cell(wording.NO_EVENTS, detail, "unresolved")


def claims(summary: Summary, arm: str) -> tuple[Claimed, ...]:
    """The published figures of an arm's sole collector."""
    collectors = summary.experiment.arm(arm).collectors
    return tuple(
        Claimed(str(claim["text"]), str(claim["source"]))
        for claim in summary.about.claims
        if (claim["collector"],) == collectors
    )


def difference(row: Comparison) -> Cell:
    """A difference with its interval; grey words if zero is not excluded."""
    if wording.resolved(row):
        share = wording.relative(row)
        text = f"{wording.change(row)} ({share})" if share else wording.change(row)
        interval = wording.interval(row) + (" in these processes" * wording.only_here(row))
        return Cell(text, _lines(interval, *_doubts(row)), "resolved")
    if not math.isfinite(row.low):
        return Cell("unresolved", wording.interval(row), "unresolved")
    centre = wording.number(row.estimate, wording.places(row), signed=True)
    detail = _lines(f"{centre} {wording.interval(row)}", *_doubts(row))
    if wording.apart(row):
        return Cell(f"{wording.change(row)}, not after Holm", detail, "unresolved")
    return Cell(f"unresolved (< {wording.bound(row)})", detail, "unresolved")


def _doubts(row: Comparison) -> tuple[str, str]:
    """What could have been seen beside the noise, and by how much chance explains the figure."""
    is_cost = row.metric == "workload_cpu_us"
    seen = f"seen from {wording.floor(row) if is_cost else wording.plain(row.mde)}"
    noise = wording.noise(row) if is_cost else wording.noise(row).partition(" ")[0]
    p = wording.probability(row.p_holm)
    return f"{seen} · A/A ±{noise}" if noise else seen, f"p {p} (Holm)" if p else ""


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _difference(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    row = summary.row(workload, arm, metric)
    return difference(row) if row else _missing(summary, workload, arm, metric)


def _missing(summary: Summary, workload: str, arm: str, metric: str) -> Cell:
    return Cell("not measured", summary.missing(workload, arm, metric), "missing")


def _bill(summary: Summary, workload: str, arm: str) -> Cell:
    if wording.is_null(summary, arm):
        return Cell("n/a", "", "none")
    bill, share = (summary.row(workload, arm, m) for m in ("bill_us", "bill_percent"))
    if bill is None:
        return _missing(summary, workload, arm, "bill_us")
    detail = f"{wording.plain(bill.estimate)} µs/request\n{wording.interval(bill)}"
    if event := summary.row(workload, arm, "bill_event_us"):
        detail += f"\n{wording.plain(event.estimate)} µs an event seen"
    if lacks_entry(summary, workload, arm):
        detail += f"\n{WITHOUT_ENTRY}"
    if share is None:
        return Cell(f"{wording.plain(bill.estimate)} µs", "the number of CPUs is not known")
    return Cell(f"{wording.plain(share.estimate)} %", detail)


def has_entry(summary: Summary) -> bool:
    """Whether what entering programs costs is known of any arm."""
    return any(row.metric == "entry_us" for row in summary.rows)


def bill_is(summary: Summary) -> str:
    """What the bills of a report are made of, for a sentence."""
    methods = {row.method for row in summary.rows if row.metric == "bill_us"}
    told = []
    if methods - {PART, WITHIN} or not methods:
        programs = (
            "time in BPF programs + calibrated cost of entering them"
            if has_entry(summary)
            else "time in BPF programs (a lower bound: entry to a program is not in it)"
        )
        told.append(f"{programs} + CPU of the agent")
    if WITHIN in methods:
        told.append("what the service takes more, of what runs in it")
    if PART in methods:
        told.append("what service, load and agent take more together, of a part of an agent")
    return "; ".join(told)


def lacks_entry(summary: Summary, workload: str, arm: str) -> bool:
    """Whether its bill is without what entering its programs costs; who has none lacks nothing."""
    programs, entry = (summary.row(workload, arm, metric) for metric in ("bpf_us", "entry_us"))
    return programs is not None and entry is None


def _memory(summary: Summary, workload: str, arm: str) -> Cell:
    if wording.is_null(summary, arm):
        return Cell("n/a", "", "none")
    agent = summary.row(workload, arm, "agent_memory_mb")
    if agent is None:
        return _missing(summary, workload, arm, "agent_memory_mb")
    peak, maps = (summary.row(workload, arm, m) for m in ("agent_peak_memory_mb", "map_memory_mb"))
    below = f"peak RSS {peak.estimate:.0f} MB" if peak else "peak RSS not measured"
    below += f"\n+ {wording.plain(maps.estimate)} in maps" if maps else "\nmaps not measured"
    return Cell(f"{agent.estimate:.0f} MB PSS", below)


def _seen(summary: Summary, workload: str, arm: str) -> Cell:
    """What arrived of what there was, and what the collector says that it lost."""
    found, lost = coverage(summary, workload, arm), summary.row(workload, arm, "lost_percent")
    if lost is None:
        return found
    return replace(
        found, detail=_lines(found.detail, f"{wording.plain(lost.estimate)} % of events lost")
    )


def coverage(summary: Summary, workload: str, arm: str, every: bool = False) -> Cell:
    """The share of requests (or of the arm's one signal) that arrived; of `every` signal.

    A few probes and a few samples are told as counts: they make no percentage.
    """
    if wording.is_null(summary, arm):
        return Cell("n/a", "", "none")
    rows = [
        r for r in summary.rows
        if (r.workload, r.arm) == (workload, arm) and r.metric.startswith("coverage_percent")
    ]  # fmt: skip
    if not rows:
        return _missing(summary, workload, arm, "coverage_percent")
    first, *others = sorted(rows, key=lambda row: "requests" not in row.metric)
    rest = [" ".join(arrived(row)) for row in others if every]
    text, detail = arrived(first)
    return Cell(text, "\n".join([detail, *rest]))


def arrived(row: Comparison) -> tuple[str, str]:
    """A figure and what it is of: `99.8 %`, `of 3,000 requests [99.5, 99.9]`."""
    signal, seen = sight.signal(row), round(row.estimate * row.n / 100)
    told = SIGNALS[signal]
    if told.is_probed:
        return f"{seen:,} of {row.n:,} probes", f"for {signal}"
    about = "about " if told.is_expected else ""
    if told.is_expected and row.n < counted.ENOUGH:
        return f"{seen:,} of about {row.n:,} {signal}", "too few for a percentage"
    bounds = f"[{share(row.low, '')}, {share(row.high, '')}]"
    return share(row.estimate), f"of {about}{row.n:,} {signal}\n{bounds}, 95 %"


def share(percent: float, unit: str = " %") -> str:
    """A share; only what is whole is called 100 %."""
    near = 99.95 <= percent < 100 or 100 < percent < 100.05
    return ("100" if percent == 100 else f"{percent:.{3 if near else 1}f}") + unit
