"""All commands, put together; `main` runs them, and tests do."""

from __future__ import annotations

from typing import Annotated

import typer

from harness import __version__
from harness.cli import (
    calibrate,
    claims,
    collector,
    evaluation,
    export,
    gate,
    images,
    machine,
    opening,
    ramp,
    rollout,
    runs,
    tuning,
)
from harness.cli.screen import out

app = typer.Typer(
    help="What does an eBPF collector cost my service, and what do I get for it? Measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("evaluate")(evaluation.evaluate_command)
app.command("report")(evaluation.report_command)
app.command("calibrate")(calibrate.calibrate_command)
app.command("runs")(runs.runs_command)
app.command("export")(export.export_command)
app.command("gate")(gate.gate_command)
app.command("claims")(claims.claims_command)
app.command("submit")(claims.submit_command)
app.command("clean")(machine.clean_command)
app.command("doctor")(machine.doctor_command)
app.command("tune")(tuning.tune_command)
app.command("restore")(tuning.restore_command)
app.command("up")(rollout.up_command)
app.command("status")(rollout.status_command)
app.command("open")(opening.open_command)
app.command("down")(rollout.down_command)
app.command("bundle")(images.bundle_command)
app.command("ramp")(ramp.ramp_command)
app.add_typer(collector.app, name="collector")
app.add_typer(images.app, name="images")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options that stand before the command."""
    if version:
        out.print(__version__)
        raise typer.Exit
