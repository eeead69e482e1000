"""`harness collector list` and `harness collector check`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.screen import ERROR, errors, out
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.collectors import Definition

app = typer.Typer(help="Which collectors there are; try one of your own.", no_args_is_help=True)
MARKS = {"pass": "[green]pass[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


@app.command("list")
@errors
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Say which collectors there are: ours, and other people's, measured as they come.

    As root it also says which cannot run on this machine, and why; nothing is fetched for that.

    Examples:

      harness collector list

      harness collector list --json
    """
    from harness.collectors import REGISTRY, subject
    from harness.plan import trials
    from harness.targets.local import Local

    known = {**REGISTRY, **{name: subject.load(name) for name in subject.names()}}
    lacking = Local().ask("unmet", trials.needs(known))
    rows = [
        {
            "name": name, "purpose": each.purpose, "from": _origin(each),
            "compared": each.method or "switch",
            "here": "in a cluster that has it" if each.daemonset else _here(lacking, name),
        }
        for name, each in known.items()
    ]  # fmt: skip
    if as_json:
        out.print_json(json.dumps(rows))
        return
    shown = Table("name", "what it is", "from", "compared", "here", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*map(escape, row.values()))
    out.print(shown)
    out.print("\nNext: harness evaluate --workload flask --arm NAME")


def _here(lacking: Mapping[str, Any] | None, name: str) -> str:
    """Whether it can run on this machine, or why not."""
    if lacking is None:
        return "not looked at: that takes root"
    return str(lacking[name]["what"]) if name in lacking else "yes"


def _origin(definition: Definition) -> str:
    """Whose it is, and in which version it is had."""
    if definition.subject is None:
        return "included"
    source = definition.subject.source
    program = f"Debian's {source.package}" if source.package else "on PATH"
    where = {
        "path": program, "pypi": "PyPI", "npm": "npm", "maven": "Maven Central",
        "archive": "its release archive", "cluster": "a cluster's DaemonSet",
    }  # fmt: skip
    told = " ".join(filter(None, (source.name, source.version)))
    return f"{told}, {where[source.way]}" if source.way in where else told


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
    if definition.subject is not None or definition.daemonset:
        raise InputError(
            f"There is nothing to check of {str(file)!r}.",
            "It is somebody else's collector, measured as it comes: it speaks no control protocol.",
            f"`harness evaluate --plan --arm {file}` says whether it can run here.",
        )
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
