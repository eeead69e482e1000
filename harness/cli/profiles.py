"""The option for who keeps profiles, and what it requires; for `rollout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from harness.errors import InputError
from harness.stack import catalog

NONE = "none"

Profiles = Annotated[
    str,
    typer.Option(
        "--profiles",
        metavar="none|parca",
        help="Who keeps the stacks that profilers send: nobody, or Parca.",
    ),
]


def required(asked: str, require: Sequence[str]) -> list[str]:
    """All components that are required, with the one for profiles; InputError if there is none."""
    names = [component.name for component in catalog.keepers("profiles")]
    if asked == NONE:
        return list(require)
    if asked == "pyroscope":
        raise InputError(
            "Pyroscope is not started here.",
            "It is under the AGPL, and no released program of it is known to this stack.",
            f"Take --profiles {' or '.join(names)}, or leave it out.",
        )
    if asked not in names:
        raise InputError(
            f"There is nothing called {asked!r} that keeps profiles.",
            next_step=f"Take --profiles {' or '.join([NONE, *names])}, or leave it out.",
        )
    return [*require, *([] if asked in require else [asked])]
