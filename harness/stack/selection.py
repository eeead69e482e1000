"""Which components are wanted, and how each would be got; for `rollout` and the commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import InputError
from harness.stack import catalog, supply
from harness.stack.catalog import Component
from harness.stack.supply import Offer


def plan(components: Sequence[Component], folder: Path) -> list[tuple[Component, Offer | None]]:
    """How each component would be got; changes nothing."""
    return [(component, supply.choose(component, folder)) for component in components]


def select(require: Sequence[str]) -> list[Component]:
    """The catalog's components, those in `require` not optional; InputError if one is unknown."""
    known = catalog.load()
    for name in require:
        if name not in known:
            raise InputError(
                f"There is no component {name!r}.", next_step=f"Choose from {', '.join(known)}."
            )
    return [
        replace(component, optional=component.optional and name not in require)
        for name, component in known.items()
    ]


def require_all(components: Sequence[Component]) -> None:
    """NeedError, with the reasons, if one that is not optional can be had in no way."""
    for component, offer in plan(components, supply.cache()):
        if offer is None and not component.optional:
            supply.get(component, supply.cache())  # which says why not
