"""`harness evaluate` and `harness report`."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness import evaluate, experiment, workloads
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
from harness.errors import InputError
from harness.experiment import Experiment
from harness.report import build, wording
from harness.store import Run
from harness.targets import local
from harness.workloads import Workload

if TYPE_CHECKING:
    from harness.analysis.summary import Summary

REPORTS = Path("reports")


@errors
def evaluate_command(
    name: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="A file, or the name of one that ships.")
    ] = "quick",
    command: Annotated[
        str, typer.Option(help="Measure your own program: the command that starts it.")
    ] = "",
    url: Annotated[str, typer.Option(help="Where your program answers, once it runs.")] = "",
    locustfile: Annotated[
        Path | None, typer.Option(help="How your program is driven; default: GET the URL.")
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
    """Measure what collectors cost services on this machine; ends in a report.

    Examples:

      harness evaluate                 the quick experiment: Go, Flask, Java; about 10 minutes

      harness evaluate standard        one workload, 30 minutes, finer

      harness evaluate --command './server --port 8080' --url http://127.0.0.1:8080/
    """
    if resume is not None:
        run, own = _resumed(resume)
        chosen = run.experiment()
    else:
        own = workloads.own(command, url, locustfile) if command or url else None
        if locustfile is not None and own is None:
            raise InputError(
                "--locustfile drives a program of your own.",
                next_step="Give --command and --url too.",
            )
        chosen = _chosen(name, own)
    resolved = evaluate.check(chosen, own)
    if plan:
        _show_plan(chosen)
        return
    if resume is None:
        path = reports / (run_name or f"{datetime.now():%Y%m%d-%H%M%S}-{_slug(chosen.name)}")
        local.Local(path.name, run_dir=path).check()
        run = evaluate.create(path, chosen, _repeatable(sys.argv[1:]), resolved)
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
    """Make the report of a run again from its measurements; needs no root and no network."""
    _finish(Run.open(run), as_json)


def _chosen(name: str, own: Workload | None) -> Experiment:
    chosen = experiment.load(Path(name))
    if own is None:
        return chosen
    loads = {own.name: chosen.loads["own"]} if "own" in chosen.loads else {}
    return replace(chosen, name=own.name, workloads=(own.name,), loads=loads)


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
        out.print(f"\nReport: {built.html}\nNext: open it in a browser.", soft_wrap=True)
    return any(judged.usable for judged in built.summary.trials)


def _headline(summary: Summary) -> Table:
    from harness.report import terminal

    shown = Table(*terminal.COLUMNS, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for cells in terminal.rows(summary):
        shown.add_row(*(escape(cell) for cell in cells))
    return shown


def _show_plan(chosen: Experiment) -> None:
    trials = experiment.plan(chosen)
    out.print(
        f"Experiment {chosen.name}: {len(chosen.workloads)} workloads, {len(chosen.arms)} arms, "
        f"{chosen.blocks} blocks, {len(trials)} trials, seed {chosen.seed}; "
        f"about {chosen.expected_seconds() / 60:.0f} minutes. Nothing has been started."
    )
    for trial in trials:
        out.print(f"  {trial.name}")
    out.print("Next: the same command without --plan.")


def _repeatable(arguments: list[str]) -> list[str]:
    """The command without the name of its run, which can be used only once."""
    kept = ["harness"]
    for previous, word in zip(["", *arguments], arguments, strict=False):
        if "--run" not in (previous, word) and not word.startswith("--run="):
            kept.append(word)
    return kept


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
