"""`harness ramp`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from harness.cli.options import run_folder
from harness.cli.screen import INTERRUPTED, err, errors, out

if TYPE_CHECKING:
    from harness.benchmarks.ramp import Asked

REPORTS = Path("reports")


@errors
def ramp_command(
    signal: Annotated[
        Literal["spans", "points", "logs", "all"],
        typer.Option(help="What is sent; all is one after the other."),
    ] = "all",
    start: Annotated[
        float,
        typer.Option(
            help="The first rate, records a second; 0: 2,000 spans, 4,000 points or lines."
        ),
    ] = 0.0,
    factor: Annotated[float, typer.Option(help="From one rate to the next.")] = 1.5,
    step_seconds: Annotated[float, typer.Option(help="How long each rate is held.")] = 10.0,
    limit_lag: Annotated[
        float,
        typer.Option(
            help="A rate is not held if a record can be queried only after more seconds than this."
        ),
    ] = 5.0,
    run_name: Annotated[str, typer.Option("--run", help="The name of the run's folder.")] = "",
    reports: Annotated[Path, typer.Option(help="Where runs are kept.")] = REPORTS,
    report: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Write a report again; needs no root.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print ramp.json.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing of single steps.")
    ] = False,
) -> None:
    """Find out how much telemetry a second the stack on this machine takes, and what ends it.

    Uses the stack that is up, or starts one and takes it down again. Needs root.

    Examples:

      harness ramp --signal spans

      harness ramp --report reports/RUN
    """
    # scipy and matplotlib, which other commands need not wait for
    from harness.benchmarks import ramp
    from harness.cli import choice

    if report is not None:
        _show(report, ramp.write(report), as_json)
        return
    signals = ("spans", "points", "logs") if signal == "all" else (signal,)
    command = tuple(choice.repeatable(sys.argv[1:]))
    asked = ramp.Asked(signals, start, factor, step_seconds, limit_lag, command)
    path = run_folder(reports, run_name, "ramp")
    if plan:
        _show_plan(asked)
        return
    ramp.check()
    ramp.create(path, asked)
    again = f"What was measured: harness ramp --report {shlex.quote(str(path))}"
    try:
        found = ramp.ramp(
            path, asked, lambda line: None if quiet else err.print(escape(line), soft_wrap=True)
        )
    except KeyboardInterrupt:
        err.print(
            f"[yellow]Interrupted.[/] What was started has been ended.\n{again}", soft_wrap=True
        )
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        err.print(again, soft_wrap=True)
        raise
    _show(path, found, as_json)


def _show(path: Path, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.print_json((path / "ramp.json").read_text())
        return
    for own in found["signals"].values():
        out.print(escape(own["verdict"]), soft_wrap=True)
    out.print(
        f"\nReport: {path / 'ramp.md'}\nFigure: {path / 'ramp.png'}\n"
        "Next: look at the curve; harness down takes down a stack that was up before.",
        soft_wrap=True,
    )


def _show_plan(asked: Asked) -> None:
    from harness.stack import ledger, lifecycle

    up = ledger.state() is not None
    stack = "the stack that is up" if up else "a stack that is started for it and taken down again"
    out.print(f"A ramp on {stack}. Nothing has been started.", soft_wrap=True)
    for each in asked.signals:
        first = asked.first(each)
        rates = ", ".join(f"{first * asked.factor**n:,.0f}" for n in range(5))
        out.print(f"  {each}: {rates} ... a second, {asked.step_seconds:g} s each")
    out.print(
        f"It goes up until a record can be queried only after {asked.limit_lag:g} s, or is refused "
        "or lost, or waits ever longer;\nthen two rates between. About five minutes a signal.\n"
        f"Stack: {lifecycle.home()}\nNext: the same command without --plan.",
        soft_wrap=True,
    )
