"""`harness gate`: is a run within its budgets?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.screen import err, errors, out
from harness.errors import InputError, StoreError

if TYPE_CHECKING:
    from harness.report.gate import Gate

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


@errors
def gate_command(
    budget: Annotated[Path, typer.Option(help="The TOML file with the budgets: docs/gate.md.")],
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run's folder, or a report.json.")
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="RUN|FILE|GITREF:PATH",
            help="A stored run that max_increase is judged against; weaker than old=... new=...",
        ),
    ] = "",
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="A run judged before for the same question: pooled; repeatable."
        ),
    ] = None,
    inconclusive: Annotated[
        Literal["pass", "fail"] | None,
        typer.Option(
            help="What an inconclusive verdict counts as; default: exit code 3. What was not "
            "measured is never a pass."
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write Markdown for a pull request's comment.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option(help="Write JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
    link: Annotated[str, typer.Option(help="Where the report can be read, for Markdown.")] = "",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say too how verdicts are made.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the budget (and --against); no RUN.")
    ] = False,
) -> None:
    """Judge a run by budgets. Needs no root.

    Exit codes: 0 pass, 1 fail, 2 error (nothing was judged), 3 inconclusive.

    Examples:

      harness gate reports/RUN --budget budget.toml --markdown comment.md --junit gate.xml

      harness gate reports/RUN --budget budget.toml --against main:reports/published/quick
    """
    # numpy and what else judges, which other commands need not wait for
    from harness.analysis import budgets, gates
    from harness.report import gate as texts
    from harness.report import junit as xml
    from harness.report import stored

    allowed = budgets.load(budget)
    other = stored.against(against) if against else None
    if check:
        gates.demand(allowed, other is not None)
        out.print(escape(f"{budget} can be judged by."), soft_wrap=True)
        return
    if run is None:
        raise InputError("No run was named.", next_step="Give its folder, or only --check.")
    measured, before = stored.measured(run), [stored.measured(path) for path in earlier or ()]
    verdicts = gates.judge(measured, allowed, other, before)
    gate = texts.Gate(measured, verdicts, str(budget), other, before, inconclusive, link)
    said = json.dumps(texts.document(gate), indent=1) + "\n"
    outputs: list[tuple[Path | None, Callable[[], str]]] = [
        (junit, lambda: xml.xml(gate)),
        (markdown, lambda: texts.markdown(gate)),
        (json_file, lambda: said),
    ]
    for path, text in outputs:
        if path is not None:
            _write(path, text())
    if as_json:
        out.print_json(said)
    else:
        _show(gate, verbose)
    if gate.exit_code:
        raise typer.Exit(gate.exit_code)


def _show(gate: Gate, verbose: bool) -> None:
    from harness.analysis.verdicts import HARM
    from harness.report import gate as texts
    from harness.report import remarks

    shown = Table(*texts.COLUMNS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for verdict in gate.worst_first:
        _, *cells = texts.cells(verdict)
        mark = f"[{_COLOURS[verdict.outcome]}]{verdict.outcome}[/]"
        shown.add_row(mark, *(escape(cell) for cell in cells))
    out.print(shown)
    for verdict in gate.worst_first:
        if verdict.outcome == "inconclusive" or verdict.metric == HARM:
            where = f"{verdict.workload}, {verdict.arm}, {verdict.metric}"
            out.print(escape(f"{where}: {verdict.sentence}"), soft_wrap=True)
    for remark in remarks.of(gate)[0 if verbose else remarks.GENERAL :]:
        err.print(escape(remark), style="dim", soft_wrap=True)
    colour = _COLOURS[gate.effective]
    out.print(f"\n[{colour}]{escape(texts.headline(gate))}[/]", soft_wrap=True)
    out.print(f"Next: {escape(texts.next_step(gate))}", soft_wrap=True)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror}.",
            next_step="Make room there, or name another file.",
        ) from error
