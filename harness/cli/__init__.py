"""The command line: parse, call, print, exit code. A module for each kind of command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness import __version__
from harness.cli import calibrate, evaluation, gate, machine, ramp, rollout, streams
from harness.cli.screen import ERROR, INTERRUPTED, complain, defect, out
from harness.errors import HarnessError

_ELSEWHERE = "Make room, or print it somewhere else; what was measured is in the run's folder."

app = typer.Typer(
    help="What does an eBPF collector cost my service, and what do I get for it? Measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("evaluate")(evaluation.evaluate_command)
app.command("report")(evaluation.report_command)
app.command("calibrate")(calibrate.calibrate_command)
app.command("gate")(gate.gate_command)
app.command("clean")(machine.clean_command)
app.command("doctor")(machine.doctor_command)
app.command("up")(rollout.up_command)
app.command("down")(rollout.down_command)
app.command("ramp")(ramp.ramp_command)


def main() -> None:
    """The entry point `harness`: the process ends with the command's code, whoever reads it."""
    output = streams.keep()
    code = _run()
    sys.stdout.flush()
    if output.lost:
        complain(HarnessError(f"What was printed is lost: {output.lost}.", next_step=_ELSEWHERE))
        code = code if code in (ERROR, INTERRUPTED) else ERROR
    sys.stderr.flush()
    sys.exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as ended:  # as typer leaves, with whatever code
        return ended.code if isinstance(ended.code, int) else ERROR
    except Exception:  # outside of a command, where `errors` does not catch it
        defect()
        return ERROR
    return 0


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options that stand before the command."""
    if version:
        out.print(__version__)
        raise typer.Exit
