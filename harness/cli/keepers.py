"""Options for who keeps each signal, and what `--require` says of it; for `rollout`, `images`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from harness.errors import InputError
from harness.stack import catalog, selection
from harness.targets.kubernetes import keepers
from harness.targets.kubernetes.keepers import NONE

Traces = Annotated[
    str,
    typer.Option(
        "--traces",
        metavar="tempo|jaeger",
        help="Who keeps traces; here what can be had, in a cluster what does already, else jaeger.",
    ),
]
Logs = Annotated[
    str,
    typer.Option(
        "--logs",
        metavar="loki|victorialogs",
        help="Who keeps log lines, likewise; else victorialogs.",
    ),
]
Profiles = Annotated[
    str,
    typer.Option(
        "--profiles",
        metavar="none|parca",
        help="Who keeps the stacks that profilers send: nobody, or Parca; none if it is left out, "
        "in a cluster what there is already.",
    ),
]


def wanted(traces: str, logs: str, profiles: str, require: Sequence[str] = ()) -> dict[str, str]:
    """Who is to keep each signal of which that is said; InputError if it makes no sense."""
    selection.select(require)  # what is there by this name, and one of it for each signal
    given = {"traces": traces, "logs": logs, "profiles": profiles}
    found = {signal: name for signal, name in given.items() if name}
    if found.get("profiles") == "pyroscope":
        names = " or ".join(keepers.choices("profiles"))
        raise InputError(
            "Pyroscope is not started here.",
            "It is under the AGPL, and no released program of it is known to this stack.",
            f"Take --profiles {names}, or leave it out.",
        )
    keepers.check(found)
    known = catalog.known()
    for name in require:
        signal = known[name].signal
        if signal and found.setdefault(signal, name) != name:
            raise InputError(
                f"--require {name} does not go with --{signal} {found[signal]}.",
                next_step="Leave one out.",
            )
    return found


def required(asked: Mapping[str, str], require: Sequence[str]) -> list[str]:
    """All components that are required on this machine, those that keep a signal among them."""
    return list(dict.fromkeys([*require, *(name for name in asked.values() if name != NONE)]))
