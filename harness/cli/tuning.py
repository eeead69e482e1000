"""`harness tune` and `harness restore`: a machine set for measuring, and given back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from harness.cli.machine import TargetName, answered
from harness.cli.screen import ERROR, err, errors, out
from harness.errors import InputError
from harness.targets.local import Local

_TARGETS = ("local", "ssh")

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@errors
def tune_command(
    target: TargetName = Local.name,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be set; set nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set what disturbs a measurement on this machine, or on another; `harness restore` undoes it.

    That is frequency, boost, SMT siblings, interrupts, huge pages, NUMA balancing, ASLR, swap,
    timers in the background. What was is noted there before. It lasts until `harness restore` or
    the machine's next start. Needs root, except for --plan.

    Examples:

      harness tune --plan

      harness tune --target ssh:HOST
    """
    _require_machine(target)
    if plan:
        rows = answered(target, "tuning")
        if as_json:
            out.print_json(json.dumps(rows))
        else:
            _print_plan(rows, target)
        return
    found = answered(target, "tune")
    _print(found, as_json, "Nothing had to be set.")
    if not as_json and found["done"]:
        out.print(f"\nNext: harness evaluate{_on(target)}; then harness restore{_on(target)}.")


@errors
def restore_command(target: TargetName = Local.name, as_json: AsJson = False) -> None:
    """Give back what `harness tune` set; what others set since is left, and said.

    Examples:

      harness restore

      harness restore --target ssh:HOST
    """
    _require_machine(target)
    found = answered(target, "restore")
    _print(found, as_json, "Nothing had been set.")
    if found["refused"]:
        raise typer.Exit(ERROR)


def _require_machine(target: str) -> None:
    kind, _, rest = target.partition(",")
    bare = kind == "vm" and any(word.startswith("host=") for word in rest.split(","))
    if kind.partition(":")[0] not in _TARGETS and not bare:
        raise InputError(
            f"{target} is not tuned from within.",
            "A pod sees the files of a machine, but neither its systemd nor what outlives a node.",
            "Tune the machine: --target ssh:HOST, or run it there.",
        )


def _print(found: Mapping[str, list[str]], as_json: bool, nothing: str) -> None:
    if as_json:
        out.print_json(json.dumps(found))
        return
    for line in found["done"]:
        out.print(escape(line), soft_wrap=True)
    for line in found["refused"]:
        err.print(f"[yellow]Not set:[/] {escape(line)}", soft_wrap=True)
    if not found["done"] and not found["refused"]:
        out.print(nothing)


def _print_plan(rows: list[dict[str, Any]], target: str) -> None:
    for row in rows:
        out.print(escape(f"{row['name']}: {row['now']}"), soft_wrap=True)
        for line in _todo(row):
            out.print(escape(f"  {line}"), soft_wrap=True)
    if any(row["set"] for row in rows):
        out.print(f"\nNext: harness tune{_on(target)}")
    else:
        out.print("\nThere is nothing that harness tune would set.")


def _todo(row: Mapping[str, Any]) -> Iterator[str]:
    """What would be set of it, or what one can do by hand, and what for."""
    for wish in row["set"]:
        yield f"would set {wish['what']} to {wish['wanted']} (is {wish['before']})"
    if not row["good"] and not row["set"]:
        yield row["advice"]
    if row["set"] or not row["good"]:
        yield row["why"]


def _on(target: str) -> str:
    return "" if target == Local.name else f" --target {target}"
