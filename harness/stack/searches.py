"""What dashboards ask of log lines and traces, whoever keeps them; each in `config` says it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Match = tuple[str, Literal["=", "=~"], str]
"""An attribute, whether its value is told or a pattern, and which."""


@dataclass(frozen=True)
class Lines:
    """Log lines whose attributes match; the first match is of their resource.

    With `window`, a time as Grafana fills it in, they are counted over it, by the attributes `by`,
    and only the `most` frequent are told. Else they are shown, by these attributes.
    """

    where: tuple[Match, ...]
    window: str = ""
    by: tuple[str, ...] = ()
    most: int = 0
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spans:
    """Traces with a span whose resource has an attribute that matches; only failed ones."""

    where: Match
    failed: bool = False


@dataclass(frozen=True)
class Calls:
    """Who calls whom, of the services whose names match."""

    service: str


Search = Lines | Spans | Calls
