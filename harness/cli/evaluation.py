"""`harness evaluate` and `harness report`."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli import choice
from harness.cli.screen import (
    ERROR,
    INCONCLUSIVE,
    INTERRUPTED,
    complain,
    err,
    errors,
    out,
    progress,
)
from harness.controller import evaluate
from harness.errors import InputError
from harness.node import machine
from harness.plan import workloads
from harness.plan.workloads import Workload
from harness.report import build, wording
from harness.results.run import Run

if TYPE_CHECKING:
    from harness.analysis.summary import Summary

REPORTS = Path("reports")
DEFAULT = "quick"  # experiment


@errors
def evaluate_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="A file, or the name of one that ships.",
            show_default=DEFAULT,
        ),
    ] = None,
    command: Annotated[
        str, typer.Option(help="Measure your own program: the command that starts it.")
    ] = "",
    url: Annotated[str, typer.Option(help="Where your program answers, once it runs.")] = "",
    locustfile: Annotated[
        Path | None, typer.Option(help="How your program is driven; default: GET the URL.")
    ] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME=COLLECTORS",
            help="Compare these collectors (joined with +) instead; repeat for more arms. An arm "
            "named old is what every other arm is compared against.",
        ),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option("--workload", metavar="NAME", help="Measure this service; repeat for more."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="End early: begin no block after so many minutes. It makes nothing longer; take "
            "standard or more blocks for that."
        ),
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="sink|full",
            help="What takes the telemetry: a small sink, or the stack of `harness up`, in which "
            "it is then found again.",
            show_default="sink",
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was interrupted.")
    ] = None,
    run_name: Annotated[str, typer.Option("--run", help="The name of the run's folder.")] = "",
    reports: Annotated[Path, typer.Option(help="Where runs are kept.")] = REPORTS,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Measure what collectors cost services on this machine; ends in a report. Needs root.

    Examples:

      harness evaluate                 the quick experiment: Go, Flask, Java; about 10 minutes

      harness evaluate standard        one workload, 30 minutes, finer

      harness evaluate --command './server --port 8080' --url http://127.0.0.1:8080/

      harness evaluate --workload go --arm http=http --arm fast=profile:frequency=99

      harness evaluate --workload go --arm old=http --arm new=http:sample=1

      harness evaluate --workload go --stack full
    """
    certificate: dict[str, Any] = {}
    if resume is not None:
        given = {
            "EXPERIMENT": name, "--command": command, "--url": url, "--locustfile": locustfile,
            "--arm": arms, "--workload": workload, "--minutes": minutes is not None,
            "--run": run_name, "--stack": stack,
        }  # fmt: skip
        if extra := [option for option, value in given.items() if value]:
            raise InputError(
                f"A run that is resumed goes on as it was asked for: {', '.join(extra)} cannot be "
                "given with --resume.",
                next_step="Leave them out, or begin a new run without --resume.",
            )
        run, own = _resumed(resume)
        wanted = run.experiment()
    else:
        own = workloads.own(command, url, locustfile) if command or url else None
        if locustfile is not None and own is None:
            raise InputError(
                "--locustfile drives a program of your own.",
                next_step="Give --command and --url too.",
            )
        certificate = choice.certified(reports)
        wanted = choice.chosen(
            name or DEFAULT, own=own, arms=arms or (), workloads=workload or (), minutes=minutes,
            stack=stack, defaults=certificate,
        )  # fmt: skip
    resolved = evaluate.check(wanted, own)
    if plan:
        for line in choice.plan(wanted):
            out.print(escape(line))
        return
    if resume is None:
        path = reports / (run_name or f"{datetime.now():%Y%m%d-%H%M%S}-{_slug(wanted.name)}")
        machine.Machine(path.name, path).check()
        run = evaluate.create(path, wanted, choice.repeatable(sys.argv[1:]), resolved, certificate)
    try:
        with progress(quiet) as tell:
            outcome = evaluate.evaluate(run, resolved, tell)
    except KeyboardInterrupt:
        err.print(
            "[yellow]Interrupted.[/] What was measured is kept, what was started has been ended.\n"
            f"Go on with: harness evaluate --resume {shlex.quote(str(run.path))}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    for warning in outcome.warnings:
        err.print(f"[yellow]Warning:[/] {escape(warning)}", soft_wrap=True)
    statuses = [record.status for record in run.records()]
    usable = _finish(run, as_json) if "ok" in statuses else False
    if outcome.error is not None:
        complain(outcome.error)
    elif "failed" in statuses or "ok" not in statuses:
        failed = sum(status != "ok" for status in statuses)
        err.print(f"[red]Error:[/] {failed} of {len(statuses)} trials were not measured.")
    elif not usable:
        err.print("[yellow]Inconclusive:[/] no trial is usable; the report says why.")
        raise typer.Exit(INCONCLUSIVE)
    else:
        return
    err.print(f"Go on with: harness evaluate --resume {shlex.quote(str(run.path))}", soft_wrap=True)
    raise typer.Exit(ERROR)


@errors
def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Make the report of a run again from its folder (trials/); needs no root and no network.

    Of published runs only the report is kept: they have no trials.
    """
    _finish(Run.open(run), as_json)


def _resumed(path: Path) -> tuple[Run, Workload | None]:
    run = Run.open(path)
    own = run.about().get("own_workload")
    return run, Workload.from_dict(own) if own else None


def _finish(run: Run, as_json: bool) -> bool:
    """Build and print the report; whether any of its trials is usable."""

    built = build.build(run)
    if as_json:
        out.print_json(built.json.read_text())
    else:
        out.print(_headline(built.summary))
        out.print()
        out.print(escape(wording.verdict(built.summary)))
        for shown in _stack(built.summary):
            out.print()
            out.print(shown)
        out.print(f"\nReport: {built.html}\nNext: open it in a browser.", soft_wrap=True)
    return any(judged.usable for judged in built.summary.trials)


def _headline(summary: Summary) -> Table:
    from harness.report import terminal

    shown = Table(*terminal.COLUMNS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for cells in terminal.rows(summary):
        shown.add_row(*(escape(cell) for cell in cells))
    return shown


def _stack(summary: Summary) -> Iterator[Table]:
    """What was found in the full stack, and what that costs; none for the small sink."""
    from harness.report import terminal

    for title, (head, *rows) in terminal.stack(summary):
        shown = Table(
            *head, title=escape(title), title_justify="left", box=None, padding=(0, 1, 0, 0)
        )
        for cells in rows:
            shown.add_row(*(escape(cell) for cell in cells))
        yield shown


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
