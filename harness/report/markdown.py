"""report.md: the headline table, short enough for a README or a pull request; for `build`."""

from __future__ import annotations

import shlex

from harness.analysis.summary import Summary
from harness.report import table, wording


def text(summary: Summary) -> str:
    """The verdict, the headline table and the warnings as Markdown."""
    parts = [
        f"**{wording.verdict(summary)}**",
        "\n".join(f"- {sentence}" for sentence in wording.sentences(summary)),
        "\n".join(_table(summary)),
        f"Run `{summary.name}`, {_machine(summary)}. "
        "Intervals of differences and of coverage are 95 %; brackets of values over trials are "
        "ranges and say of how many trials. *unresolved*: zero cannot be excluded; *seen from*: "
        "the smallest effect found with 80 % power. The bill is time in BPF programs (a lower "
        "bound: entry to a program is not in it) + CPU of the agent. Memory: PSS divides pages "
        "among the processes that share them; an agent alone has up to its peak RSS.",
    ]
    if summary.warnings:
        parts.append("\n".join(f"> {warning}" for warning in summary.warnings))
    parts.append(f"Again: `{shlex.join(summary.about.get('command', ()))}`")
    return "\n\n".join(parts) + "\n"


def _table(summary: Summary) -> list[str]:
    head = ("Workload", *table.COLUMNS)
    rows = [
        (line.workload, line.label, *(_cell(cell) for cell in line.cells), _claims(line))
        for line in table.lines(summary)
    ]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(cell: table.Cell) -> str:
    mark = {"resolved": "**", "unresolved": "*", "missing": "*"}.get(cell.state, "")
    return f"{mark}{cell.text}{mark} {cell.detail}".strip().replace("\n", ", ")


def _claims(line: table.Line) -> str:
    return line.claims[0].text if line.claims else ""


def _machine(summary: Summary) -> str:
    facts = summary.about.get("facts", {})
    known = [str(facts[key]) for key in ("distribution", "kernel", "cpu_model") if key in facts]
    return ", ".join(known) or "machine not recorded"
