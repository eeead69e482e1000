"""report.md: the headline table, short enough for a README or a pull request; for `build`."""

from __future__ import annotations

import shlex
from dataclasses import replace

from harness.analysis.summary import Summary
from harness.report import (
    attached,
    conditions,
    counters,
    growth,
    headline,
    peers,
    quality,
    rates,
    saturation,
    table,
    terminal,
    within,
)
from harness.report.sheets import Sheet


def text(summary: Summary) -> str:
    """The verdict, the headline table and the warnings as Markdown."""
    parts = [
        f"**{headline.verdict(summary)}**",
        "\n".join(
            f"- {sentence}"
            for sentence in (
                *_driven(summary),
                *headline.sentences(summary),
                *saturation.sentences(summary),
                *rates.sentences(summary),
                *rates.at_rest(summary),
            )
        ),
        "\n".join(_table(summary)),
        f"Run `{summary.name}`, {_machine(summary)}. {_conditions(summary)} "
        "Intervals are 95 %, ranges over trials say so; those of CPU are for the mean over "
        "processes. *unresolved*: no effect could be told in these processes, after Holm's "
        "correction over all arms and services; *seen from*: the smallest effect that is told with "
        "80 % power; *A/A*: half the interval of the same figure with nothing installed. "
        f"The bill is {table.bill_is(summary)}. Memory: PSS divides pages among the processes "
        "that share them; an agent alone has up to its peak RSS.",
    ]
    if summary.warnings:
        parts.append("\n".join(f"> {warning}" for warning in summary.warnings))
    for workload in summary.experiment.workloads:
        if (full := saturation.sheet(summary, workload)).rows:
            full = replace(full, caption=f"{full.caption} ({workload})")
            parts += ["\n".join(_sheet(full)), saturation.note(summary, workload)]
    if summary.experiment.stack == "full":
        parts += _stack(summary)
    parts += _followed(summary)
    parts.append(f"Again: `{shlex.join(summary.about.command)}`")
    return "\n\n".join(filter(None, parts)) + "\n"


def _driven(summary: Summary) -> list[str]:
    """At which rate each service was driven, and what a request cost it with nothing installed."""
    return [f"{name}: {terminal.driven(summary, name)}." for name in summary.experiment.workloads]


def _stack(summary: Summary) -> list[str]:
    """What was found in the full stack, and what that costs."""
    sheets = [
        each
        for workload in summary.experiment.workloads
        for each in (quality.found(summary, workload), quality.cost(summary, workload))
        if each.rows
    ]
    return [*("\n".join(_sheet(each)) for each in sheets), quality.note(summary)]


def _followed(summary: Summary) -> list[str]:
    """Collectors of one job, what others attached, what is within, counters, growth."""
    found = [
        "\n".join(_sheet(each))
        for make in (attached.sheet, within.sheet, counters.sheet, growth.sheet)
        for workload in summary.experiment.workloads
        if (each := make(summary, workload)).rows
    ]
    beside = [
        text
        for workload in summary.experiment.workloads
        for sheet, said in peers.told(summary, workload)
        for text in ("\n".join(_sheet(sheet)), said)
    ]
    return [*beside, *found, *filter(None, [growth.note(summary)])]


def _sheet(sheet: Sheet) -> list[str]:
    head = ("", *sheet.columns)
    rows = [(label, *map(_cell, cells)) for _, label, cells in sheet.rows]
    return [f"**{sheet.caption}**", "", _row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _table(summary: Summary) -> list[str]:
    head = ("Workload", *table.COLUMNS)
    rows = [
        (line.workload, _label(line), *(_cell(cell) for cell in line.cells), _claims(line))
        for line in table.lines(summary)
    ]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(cell: table.Cell) -> str:
    mark = {"resolved": "**", "unresolved": "*", "missing": "*"}.get(cell.state, "")
    return f"{mark}{cell.text}{mark} {cell.detail}".strip().replace("\n", ", ")


def _label(line: table.Line) -> str:
    plain = line.method in ("switch", "factorial", "none")
    return line.label if plain else f"{line.label} ({line.method})"


def _claims(line: table.Line) -> str:
    return line.claims[0].text if line.claims else ""


def _conditions(summary: Summary) -> str:
    told = dict(conditions.measuring(summary))
    early = f" Blocks: {told['blocks']}." if summary.about.ended_early else ""
    counted = f" Instructions {told['instructions']}." if "instructions" in told else ""
    pilot = f" Pilot: {told['pilot']}." if "pilot" in told else ""
    return f"Window {told['window']}; idle CPUs {told['idle CPUs']}.{counted}{early}{pilot}"


def _machine(summary: Summary) -> str:
    facts = summary.about.facts
    known = [str(facts[key]) for key in ("distribution", "kernel", "cpu_model") if key in facts]
    host = [summary.about.target] if summary.about.target != "local" else []
    return ", ".join([*host, *known]) or "machine not recorded"
