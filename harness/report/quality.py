"""What is found in the full stack, how late, and what the stack costs; `html`, `markdown`."""

from __future__ import annotations

import math
from typing import Literal

from harness.analysis import coverage as counted
from harness.analysis.quality import (
    COVERAGE_PERCENT,
    GOAL_SECONDS,
    LATENCY_SECONDS,
    Quality,
)
from harness.analysis.summary import Summary
from harness.analysis.upkeep import LEAST_RECORDS, Upkeep
from harness.report import table, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell
from harness.wire.telemetry import SIGNALS

FOUND = {
    "signal": "told by",
    "coverage": "exact 95 % interval",
    f"> {COVERAGE_PERCENT:g} %": "wanted",
    "data latency p50": "mean over trials",
    "p99": "mean over trials",
    f"< {LATENCY_SECONDS:g} s": "wanted, of p99",
    f"< {GOAL_SECONDS:g} s": "the goal, of p99",
}  # column -> note
COST = {
    "component": "",
    "CPU": "of one CPU, steady part",
    "a request": "the same, µs",
    "for 1,000 records": f"CPU beyond the baseline's of its block; {LEAST_RECORDS:,} or more",
    "memory": "PSS",
}


def found(summary: Summary, workload: str) -> Sheet:
    """A row for each arm and signal: what was found of it and how late."""
    rows = tuple(
        (one.arm, wording.arm_label(summary, one.arm), _found(one))
        for one in summary.qualities
        if one.workload == workload
    )
    caption = "Trace quality: what a query finds in the full stack, and how late"
    return Sheet(caption, tuple(FOUND), rows, tuple(FOUND.values()))


def cost(summary: Summary, workload: str) -> Sheet:
    """A row for each arm and component of the stack; the baseline's is the idle stack."""
    rows = tuple(
        (one.arm, wording.arm_label(summary, one.arm), _cost(one))
        for one in summary.upkeeps
        if one.workload == workload
    )
    caption = "What the stack costs, apart from the collectors' bill"
    return Sheet(caption, tuple(COST), rows, tuple(COST.values()))


def note(summary: Summary) -> str:
    """How both were measured; empty for a run with the small sink."""
    known = [one for one in summary.qualities if math.isfinite(one.resolution_s)]
    if summary.experiment.stack != "full":
        return ""
    kept = {one.kind: one.keeper for one in summary.qualities}
    places = ", ".join(f"{kind} in {kept[kind]}" for kind in sorted(kept))
    text = (
        f"Found is what a query finds{': ' if places else ''}{places}. Data latency counts from a "
        "span's end, a line's time, or anywhere in the interval that a sample counts, to the first "
        "query that finds it"
    )
    if known:
        worst = max(one.resolution_s for one in known)
        text += f"; queries were {worst:.2f} s apart, so it is rather too long by half of that"
    return (
        f"{text}. It comes from a part of its own, in which collectors export by their own clock; "
        "what the stack costs comes from the steady part, without such queries."
    )


def _found(one: Quality) -> tuple[Cell, ...]:
    return (
        Cell(one.signal, f"{one.kind}, {one.keeper}"),
        _coverage(one),
        _mark(one.covered, "" if one.certain else "not beyond doubt"),
        Cell(_seconds(one.data_latency_p50_s), f"{one.records:,} records"),
        Cell(_seconds(one.data_latency_p99_s)),
        _mark(one.quick),
        _mark(one.at_goal),
    )


def _coverage(one: Quality) -> Cell:
    """A share; of a few probes and samples, which make no percentage, a count."""
    few = SIGNALS[one.signal].is_probed or one.made < counted.ENOUGH
    seen = round(one.coverage_percent * one.made / 100)
    text = f"{seen:,} of {one.made:,}" if few else table.share(one.coverage_percent)
    bounds = f"[{table.share(one.coverage_low, '')}, {table.share(one.coverage_high, '')}] %"
    return Cell(text, bounds if few else f"of {one.made:,}\n{bounds}")


def _mark(met: bool | None, doubt: str = "") -> Cell:
    if met is None:
        return Cell("too few records", "", "missing")
    state: Literal["resolved", "unresolved"] = "unresolved" if doubt else "resolved"
    return Cell("met" if met else "not met", doubt, state)


def _cost(one: Upkeep) -> tuple[Cell, ...]:
    us = wording.plain(one.us_per_request)
    return (
        Cell(one.component),
        Cell(f"{wording.plain(one.cpu_percent)} %", _trials(one.n)),
        Cell(f"{us} µs", _bounds(one.us_low, one.us_high)),
        _per_1000(one),
        Cell(f"{one.memory_mb:.0f} MB"),
    )


def _per_1000(one: Upkeep) -> Cell:
    if not math.isfinite(one.ms_per_1000):
        return Cell("too few records" if one.records else "none taken", f"{one.records:,}", "none")
    bounds = _bounds(one.ms_low, one.ms_high)
    return Cell(
        f"{wording.plain(one.ms_per_1000)} ms", f"{bounds}\n{one.records:,} records".strip()
    )


def _bounds(low: float, high: float) -> str:
    if not math.isfinite(low):
        return ""
    return f"[{wording.plain(low)}, {wording.plain(high)}], 95 %"


def _trials(count: int) -> str:
    return "one trial" if count == 1 else f"{count} trials"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if math.isfinite(value) else "not told"
