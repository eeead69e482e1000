"""`harness doctor` and `harness clean`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.reaching import reached
from harness.cli.screen import ERROR, err, errors, out
from harness.collectors import REGISTRY, subject
from harness.plan import trials
from harness.stack import supply
from harness.targets import packages
from harness.targets import target as named
from harness.targets.local import Local

TargetName = Annotated[
    str, typer.Option("--target", metavar="local|ssh:HOST", help="Here, or on a machine.")
]


@errors
def clean_command(
    target: TargetName = Local.name,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Also what was fetched there: subjects; here: what was built or fetched at all.",
        ),
    ] = False,
) -> None:
    """Undo what killed runs left: processes, cgroups, mounts, a stack that is kept off some CPUs.

    Running evaluations are kept.

    Examples:

      harness clean

      harness clean --target ssh:HOST --cache
    """
    found = answered(target, "clean", *((True,) if cache else ()))
    done, left = list(found["done"]), list(found["left"])
    mine = cache and named(target).name == Local.name  # of another machine, its node removes it
    for folder in (supply.cache(), packages.cache()) if mine else ():
        if freed := supply.emptied(folder):
            done.append(freed)
    for line in done:
        out.print(escape(line))
    for line in left:
        err.print(f"[red]Still there:[/] {escape(line)}")
    if left:
        raise typer.Exit(ERROR)
    out.print("Nothing is left behind." if done else "There was nothing to clean.")


@errors
def doctor_command(
    target: TargetName = Local.name,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what can run on this machine, and the fix for each thing that cannot.

    Examples:

      harness doctor

      harness doctor --target ssh:HOST --json
    """
    theirs = {
        name: found for name in subject.names() if not (found := subject.load(name)).daemonset
    }
    needs = trials.needs({**REGISTRY, **theirs})
    findings = answered(target, "doctor", list(needs.values()))
    failed = any(finding["status"] == "fail" for finding in findings)
    if as_json:
        out.print_json(json.dumps(findings))
    else:
        colours = {"pass": "green", "warn": "yellow", "fail": "red"}
        shown = Table("", "what", "found", "what to do", box=None, pad_edge=False)
        for f in findings:
            mark = f"[{colours[f['status']]}]{f['status']}[/]"
            shown.add_row(mark, *(escape(f[key]) for key in ("name", "detail", "fix")))
        out.print(shown)
        fine = "\nThis machine can measure. Next: harness evaluate"
        out.print(fine if not failed else "\nThis machine cannot measure: mend what failed first.")
    if failed:
        raise typer.Exit(1)


def answered(name: str, question: str, *about: Any) -> Any:
    """What a node says; on another machine it is installed for that, and removed again."""
    target = named(name)
    if target.name == Local.name:
        return target.ask(question, *about)  # without root too
    with reached(target):
        return target.ask(question, *about)
