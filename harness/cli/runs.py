"""`harness runs`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.options import REPORTS
from harness.cli.screen import errors, out


@errors
def runs_command(
    reports: Annotated[Path, typer.Option(help="Where runs are kept.")] = REPORTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Say which runs there are, how each ended, and what can be done next. Needs no root.

    Examples:

      harness runs

      harness runs --reports /srv/reports --json
    """
    from harness.results import ended

    found = ended.runs(reports)
    if as_json:
        out.print_json(json.dumps([vars(each) for each in found]))
        return
    shown = Table("run", "began", "services", "trials", "how it ended", box=None, pad_edge=False)
    for each in found:
        shown.add_row(*map(escape, (each.name, each.began, each.services, each.trials, each.how)))
    if found:
        out.print(shown)
        out.print()
    for line in _next(found, reports):
        out.print(escape(line), soft_wrap=True)


def _next(found: list[Any], reports: Path) -> Iterator[str]:
    if not found:
        yield f"There is no run in {reports}."
        yield "Next: harness evaluate makes one."
        return
    yield f"Next: harness report {reports}/RUN"
    if going := [each.name for each in found if each.resumable]:
        yield f"  or: harness evaluate --resume {reports / going[-1]}"
