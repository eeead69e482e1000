"""`harness evaluate` and `harness report`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli import live
from harness.cli.options import Options, taking
from harness.cli.screen import (
    ERROR,
    INCONCLUSIVE,
    INTERRUPTED,
    complain,
    err,
    errors,
    out,
)
from harness.errors import HarnessError, InputError
from harness.results.folder import holder
from harness.results.run import Run

if TYPE_CHECKING:
    from harness.analysis.summary import Summary
    from harness.cli.asked import Asked
    from harness.controller.evaluate import Outcome
    from harness.controller.resolved import Resolved


@errors
@taking(Options)
def evaluate_command(options: Options) -> None:
    """Measure what collectors cost services on this machine; ends in a report. Needs root.

    Examples:

      harness evaluate quick           Go, Flask, Java, four collectors; about 10 minutes

      harness evaluate standard        one workload, 30 minutes, finer

      harness evaluate --workload go --duration 3m

      harness evaluate --command './server --port 8080' --url http://127.0.0.1:8080/

      harness evaluate --workload go --arm http=http --arm fast=profile:frequency=99

      harness evaluate --workload go --arm old=http --arm new=http:sample=1

      harness evaluate --workload go --stack full
    """
    # scipy and what else evaluates, which other commands need not wait for
    from harness.cli.asked import asked, names_something

    if not names_something(options):
        _nothing_named()
        raise typer.Exit(ERROR)
    with ExitStack() as ends:
        outcome = _measured(asked(options, ends), options)
    if outcome is not None and (code := _told(outcome, options)):
        raise typer.Exit(code)


def _nothing_named() -> None:
    """Say what could be measured, to who named nothing; nothing has been begun."""
    from harness.cli import choice

    for line in choice.offers():
        out.print(escape(line), soft_wrap=True)


def _measured(asked: Asked, options: Options) -> Outcome | None:
    """How it ended; None where only the plan was wanted. Nothing else here calls the controller."""
    from harness.cli import choice
    from harness.controller import beginning, due, evaluate, resolved

    found = resolved.check(asked.experiment, asked.own, asked.definitions())
    if options.plan:
        _plan(asked, found)
        return None
    if asked.run is not None and due.is_done(asked.run):
        err.print(f"Nothing is left to measure in {escape(str(asked.path))}.", soft_wrap=True)
        return evaluate.Outcome(asked.run)
    begin = beginning.beginning(
        asked.path, asked.experiment, found, asked.run, anyway=asked.anyway,
        command=choice.repeatable(sys.argv[1:]), instrument=asked.certificate,
        target=asked.target.name,
    )  # fmt: skip
    if not options.quiet:
        err.print(escape(choice.promise(asked.experiment)), soft_wrap=not err.is_terminal)
    try:
        with live.told(options.quiet) as told:
            return evaluate.evaluate(
                asked.target, asked.path.name, asked.experiment, found, begin, told.tell,
                asked.path, asked.load, told.show,
            )  # fmt: skip
    except KeyboardInterrupt:
        _interrupted(asked.path, options)
        raise typer.Exit(INTERRUPTED) from None


def _interrupted(path: Path, options: Options) -> None:
    """Report what is known by then, and how to go on; whoever interrupts that too has neither."""
    err.print("[yellow]Interrupted.[/] What was started has been ended.")
    if not (path / "run.json").exists():
        return
    run = Run.open(path)
    if any(record.status == "ok" for record in run.records()):
        err.print("What was measured is kept. This is what is known by now:\n")
        try:
            _finish(run, options.as_json, options.verbose)
        except HarnessError as error:
            complain(error)
    else:
        err.print("No trial was finished.")
    _advise_resuming(path)


def _plan(asked: Asked, found: Resolved) -> None:
    """What would be done, and which arms would be skipped; NeedError if none could run."""
    from harness.cli import choice, foretold
    from harness.controller import due, skipping

    skipped = None
    if asked.described is not None:  # there is a node that can be asked
        skipped = skipping.skipped(asked.target, asked.experiment, found.definitions)
    load = asked.load.described() if asked.load else ""
    left = due.left(asked.run) if asked.run is not None else None
    seen: Iterator[str] = iter(())
    if asked.described is not None and left is None:
        seen = foretold.lines(
            asked.experiment, asked.path.parent, asked.described["facts"], asked.target.name,
            skipped or {},
        )  # fmt: skip
    for line in choice.plan(asked.experiment, asked.described, skipped, load, left, seen):
        out.print(escape(line))
    skipping.require_some(asked.experiment, skipped or {})


def _told(outcome: Outcome, options: Options) -> int:
    """The exit code of an evaluation that ended, after its report and what there is to say."""
    for warning in outcome.warnings:
        told = f"[yellow]Warning:[/] {escape(warning)}"
        err.print(told, soft_wrap=not err.is_terminal)  # a terminal breaks lines within words
    records = outcome.run.records()
    statuses = [record.status for record in records]
    usable = _finish(outcome.run, options.as_json, options.verbose) if "ok" in statuses else False
    if outcome.error is not None:
        complain(outcome.error)
    elif outcome.left_out or "failed" in statuses or "ok" not in statuses:
        failed = sum(status != "ok" for status in statuses) + outcome.left_out
        due = len(statuses) + outcome.left_out
        err.print(f"[red]Error:[/] {failed} of {due} trials were not measured.")
        reasons = (record.reason for record in records if record.status == "failed")
        if (first := next(reasons, "")) and not any(first in said for said in outcome.warnings):
            err.print(f"  The first failed: {escape(first)}", soft_wrap=True)
    elif usable:
        return 0
    else:
        err.print(
            "[yellow]Inconclusive:[/] no trial of a collector is usable; the report says why."
        )
        return INCONCLUSIVE
    if not isinstance(outcome.error, InputError):  # a run that goes on asks for the same again
        _advise_resuming(outcome.run.path, is_begun=bool(records))
    return ERROR


def _advise_resuming(path: Path, is_begun: bool = True) -> None:
    """How to go on; with a run of which no trial was begun that helps only if it was named well."""
    again = f"Go on with: harness evaluate --resume {shlex.quote(str(path))}"
    if not is_begun:
        err.print("Nothing was measured. A command, URL or option that is wrong takes a new run.")
        again = f"What is wrong with the service itself, mend there. {again}"
    err.print(escape(again), soft_wrap=True)


@errors
def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Where the files go.", show_default="RUN"),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say too what the columns mean.")
    ] = False,
) -> None:
    """Make the report of a run again from its folder (trials/); needs no root and no network.

    Examples:

      harness report reports/RUN

      harness report reports/RUN -v

      harness report reports/RUN --json

      harness report reports/RUN --to /tmp/report     where you may not write into the run

    Of published runs only the report is kept: they have no trials.
    """
    opened = Run.open(run)
    if who := holder(run):
        told = f"{run} is being measured by {who}: the report is of what is stored by now."
        err.print(f"[yellow]Note:[/] {escape(told)}", soft_wrap=True)
    _finish(opened, as_json, verbose, to)


def _finish(run: Run, as_json: bool, verbose: bool = False, to: Path | None = None) -> bool:
    """Build and print the report; whether it tells of a collector."""
    from harness.report import build

    made = build.made(run)
    page = made.write(to).html if to or os.access(run.path, os.W_OK) else None
    if as_json:
        out.print_json(made.json)
    else:
        _print(made.summary, verbose)
    if page is None:
        _advise_elsewhere(run.path)
    elif not as_json:
        out.print(f"\nReport: {page}\nNext: open it in a browser.", soft_wrap=True)
    return _tells(made.summary)


def _print(summary: Summary, verbose: bool) -> None:
    """The report in the terminal."""
    from harness.report import headline, saturation, terminal

    for line in terminal.lines(summary, out.width):
        out.print(escape(line), soft_wrap=True)
    out.print(escape(headline.verdict(summary)))
    for text in (*headline.notes(summary), *saturation.sentences(summary)):
        out.print(escape(text))
    for text in terminal.LEGEND if verbose else ():
        out.print(escape(text), style="dim")
    for shown in _tables(summary):
        out.print()
        out.print(shown)


def _advise_elsewhere(run: Path) -> None:
    """The run is somebody else's: what was printed is all, and where the page could be had."""
    told = f"You may not write into {run}: the report is printed, and no file of it was written."
    err.print(f"\n[yellow]Note:[/] {escape(told)}", soft_wrap=True)
    err.print(f"Next: harness report {escape(shlex.quote(str(run)))} --to FOLDER", soft_wrap=True)


def _tells(summary: Summary) -> bool:
    """Whether a trial is usable; one with collectors, unless the experiment has none."""
    experiment, usable = summary.experiment, summary.usable
    with_collectors = any(
        arm.collectors for judged in usable for arm in experiment.arms_of(judged.record.trial)
    )
    wanted = any(arm.collectors for arm in experiment.arms)
    return with_collectors if wanted else bool(usable)


def _tables(summary: Summary) -> Iterator[Table]:
    """What only some runs tell: instructions, growth of memory, what the full stack found."""
    from harness.report import terminal

    for title, (head, *rows) in terminal.tables(summary):
        shown = Table(
            *head, title=escape(title), title_justify="left", box=None, padding=(0, 1, 0, 0)
        )
        for cells in rows:
            shown.add_row(*(escape(cell) for cell in cells))
        yield shown
