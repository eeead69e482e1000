"""The option for dashboards, and what `--require` says of them; for `rollout` and `images`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from harness.errors import InputError
from harness.targets.kubernetes.dashboards import GRAFANA, NONE, check

Dashboards = Annotated[
    str,
    typer.Option(
        "--dashboards",
        metavar="grafana|none",
        help="Grafana or none, not in the profile production; Grafana where it can be had, if this "
        "is left out.",
    ),
]


def wanted(dashboards: str, require: Sequence[str]) -> str:
    """What is asked for: `grafana`, `none` or nothing; InputError if both are."""
    check(dashboards)
    if GRAFANA not in require:
        return dashboards
    if dashboards == NONE:
        raise InputError(
            "--require grafana does not go with --dashboards none.", next_step="Leave one out."
        )
    return GRAFANA
