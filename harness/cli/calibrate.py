"""`harness calibrate`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness import targets
from harness.cli.options import run_folder
from harness.cli.reaching import reached
from harness.cli.screen import ERROR, INTERRUPTED, complain, err, errors, out, progress
from harness.errors import HarnessError, InputError
from harness.targets.local import Local

if TYPE_CHECKING:
    from harness.plan.calibration import Asked

REPORTS = Path("reports")


@errors
def calibrate_command(
    minutes: Annotated[float, typer.Option(help="How long it may take; 2 is the least.")] = 35.0,
    workload: Annotated[str, typer.Option(help="The service that is driven.")] = "plain",
    seed: Annotated[int, typer.Option(help="Seed of every order and coin.")] = 20254,
    target: Annotated[
        str, typer.Option(metavar="local|ssh:HOST", help="What is calibrated: here, or a machine.")
    ] = Local.name,
    reports: Annotated[Path, typer.Option(help="Where runs are kept.")] = REPORTS,
    run_name: Annotated[str, typer.Option("--run", help="The name of the run's folder.")] = "",
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with one that was interrupted.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Write a certificate again; needs no root.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print certificate.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Find out what a machine can resolve: noise, entry cost, known effects recovered.

    Ends in a certificate; evaluations on that machine then use the windows that it chose. Needs
    root there, except for --plan and --report.

    Examples:

      harness calibrate

      harness calibrate --minutes 10 --plan

      harness calibrate --resume reports/RUN
    """
    # scipy and matplotlib, which other commands need not wait for
    from harness.cli import choice
    from harness.controller import calibrate
    from harness.plan import calibration
    from harness.results import certificates

    if report is not None:
        certificate = calibrate.certify(report)
        certificates.publish(report.parent, certificate)
        _show(report, certificate, as_json)
        return
    if resume is None:
        asked = calibration.Asked(minutes, workload, seed, choice.repeatable(sys.argv[1:]), target)
        path = run_folder(reports, run_name, "calibrate")
    else:
        asked, path = calibrate.asked_of(resume), resume
    place = targets.target(asked.target)
    if plan:
        _show_plan(asked)
        return
    if resume is not None and target not in (Local.name, asked.target):
        raise InputError(
            f"{resume} calibrates {asked.target}, not {target}.",
            next_step="Give --resume without --target, or begin a new one without --resume.",
        )
    calibrate.check(asked)
    with reached(place):
        if resume is None:
            calibrate.create(path, asked)
        certificate = _calibrated(path, place, quiet, is_new=resume is None)
    _show(path, certificate, as_json)


def _calibrated(path: Path, place: targets.Target, quiet: bool, is_new: bool) -> dict[str, Any]:
    """The certificate; if there is none, how to go on is said, once there is something to."""
    from harness.controller import calibrate

    try:
        with progress(quiet) as tell:
            return calibrate.calibrate(path, place, tell)
    except KeyboardInterrupt:
        err.print("[yellow]Interrupted.[/] What was started has been ended.")
        code, is_over = INTERRUPTED, False
    except HarnessError as error:
        complain(error)
        code, is_over = ERROR, isinstance(error, InputError)
    if not (is_new and calibrate.withdraw(path)) and not is_over:
        again = f"harness calibrate --resume {shlex.quote(str(path))}"
        err.print(f"What was measured is kept. Go on with: {escape(again)}", soft_wrap=True)
    raise typer.Exit(code)


def _show(path: Path, certificate: dict[str, Any], as_json: bool) -> None:
    from harness.report import certificate as report
    from harness.results import certificates

    if as_json:
        out.print_json(json.dumps(certificate))
        return
    shown = Table("wish", "limit", "found", "", box=None, pad_edge=False)
    for row in report.wishes(certificate):
        shown.add_row(*map(escape, row))
    out.print(shown)
    machine = certificate["machine"]
    if (used := certificates.run(path.parent, machine)) not in ("", certificate["run"]):
        kept = certificates.path_of(path.parent, machine)
        out.print(f"\n{kept} is that of {used}.", soft_wrap=True)
    out.print(
        f"\nWindows of {1e3 * certificate['window_seconds']:g} ms, "
        f"guard {1e3 * certificate['guard_seconds']:g} ms.\n"
        f"Certificate: {path / 'certificate.md'}\nNext: harness evaluate",
        soft_wrap=True,
    )


def _show_plan(asked: Asked) -> None:
    from harness.plan import calibration

    quiet = calibration.noise_experiment(asked)
    injected = calibration.injected_experiment(asked, {})
    out.print(
        f"Calibration with {asked.workload}, seed {asked.seed}; "
        f"about {calibration.expected_seconds(asked) / 60:.0f} minutes. "
        "Nothing has been started."
    )
    out.print(f"  noise: {quiet.blocks} x {quiet.switched_seconds:g} s, nothing installed")
    out.print(f"  cost of entry, by hook: about {asked.entry_seconds:g} s")
    out.print(
        f"  known effects: {injected.blocks} blocks of {injected.switched_seconds:g} s an arm"
    )
    for arm in injected.arms:
        out.print(f"    {arm.name}  {escape(' '.join(arm.collectors))}")
    nulls = calibration.nulls(asked)
    each = ", ".join(f"{source} {n}" for source, n in nulls.items())
    out.print(f"  false alarms: about {sum(nulls.values())} comparisons ({each})")
    out.print(
        f"Nanoseconds are for {calibration.TYPICAL_US:g} us of CPU a request; "
        "the noise run tells the true level.\nNext: the same command without --plan."
    )
