"""`harness collector check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.screen import ERROR, errors, out

app = typer.Typer(help="Try a collector of your own.", no_args_is_help=True)
MARKS = {"pass": "[green]pass[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


@app.command("check")
@errors
def check_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .toml that describes it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Try a collector's control protocol, in five seconds and without a service.

    It is started, switched on and off, asked, and ended, as a trial does it. Needs root where the
    collector does.

    Examples:

      harness collector check experiments/collectors/clock.toml

      harness collector check mine.toml --json
    """
    from dataclasses import asdict

    from harness.collectors import resolve
    from harness.plan import trials
    from harness.targets.local import Local

    definition = resolve(str(file))
    found = Local().ask("rehearse", asdict(trials.collector(definition)))
    failed = any(each["status"] == "fail" for each in found)
    if as_json:
        out.print_json(json.dumps(found))
    else:
        shown = Table("", "what", "found", "what to do", box=None, pad_edge=False)
        for each in found:
            mark = MARKS[each["status"]]
            shown.add_row(mark, *(escape(each[key]) for key in ("name", "detail", "fix")))
        out.print(shown)
        mend = "\nMend what failed, then check it again."
        name = definition.name
        out.print(mend if failed else f"\nNext: harness evaluate --workload go --arm {name}={file}")
    if failed:
        raise typer.Exit(ERROR)
