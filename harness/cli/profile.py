"""Options for the profile, and what only production knows; for `rollout`, `images`, `opening`."""

from __future__ import annotations

from typing import Annotated

import typer

Profile = Annotated[
    str,
    typer.Option(
        "--profile", metavar="poc|production", help="In a cluster: to try it, or to stay."
    ),
]
Charts = Annotated[
    str,
    typer.Option(
        "--charts", metavar="DIR", help="production: the charts' archives, without a network."
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--values",
        metavar="RELEASE=FILE",
        help="production: further values of a chart; may be repeated.",
    ),
]
