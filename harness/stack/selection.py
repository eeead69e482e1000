"""Which components are wanted, and how each would be got; for `lifecycle` and the commands.

`python -m harness.stack.selection [NAME ...]` only gets their programs into the cache.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, NeedError
from harness.stack import catalog, supply
from harness.stack.catalog import Component
from harness.stack.supply import Offer


@dataclass(frozen=True)
class Role:
    """What the stack needs once: a component by its name, or one of those that keep a signal.

    The first of the `candidates` that can be had takes it, those that are there already first.
    Without an `optional` one, `up` goes on and says so.
    """

    name: str
    candidates: tuple[Component, ...]
    optional: bool = False


@dataclass(frozen=True)
class Choice:
    """Who takes a role by `offer`; None if nobody can, and then `component` is the first asked."""

    role: Role
    component: Component
    offer: Offer | None


def select(require: Sequence[str]) -> list[Role]:
    """The roles of the stack; InputError if a component in `require` is unknown or one too many.

    A required component is not optional, and the only candidate for its role. Some are candidates
    for none if they are not required.
    """
    known = catalog.known()
    for name in require:
        if name not in known:
            raise InputError(
                f"There is no component {name!r}.", next_step=f"Choose from {', '.join(known)}."
            )
    roles: dict[str, list[Component]] = {}
    for component in known.values():
        if component.on_request and component.name not in require:
            continue
        roles.setdefault(component.signal or component.name, []).append(component)
    return [_role(name, candidates, require) for name, candidates in roles.items()]


def _role(name: str, candidates: Sequence[Component], require: Sequence[str]) -> Role:
    wanted = [component for component in candidates if component.name in require]
    if len(wanted) > 1:
        raise InputError(
            f"One component keeps the {name}, and {len(wanted)} are required: "
            f"{', '.join(component.name for component in wanted)}.",
            next_step="Require one of them.",
        )
    optional = all(component.optional for component in candidates) and not wanted
    return Role(name, tuple(wanted or candidates), optional)


def plan(roles: Iterable[Role], folder: Path) -> list[Choice]:
    """Who would take each role, and how it would be got; changes nothing."""
    return [next(iter(ranked(role, folder)), Choice(role, role.candidates[0], None))
            for role in roles]  # fmt: skip


def ranked(role: Role, folder: Path) -> list[Choice]:
    """The candidates that may be had, who is there already before who is to be got."""
    found = [Choice(role, c, supply.choose(c, folder)) for c in role.candidates]
    able = [choice for choice in found if choice.offer is not None]
    return sorted(able, key=lambda choice: choice.offer is not None and not choice.offer.ready)


def require_all(roles: Iterable[Role]) -> None:
    """NeedError, with the reasons, if a role that is not optional can be taken by nobody."""
    for choice in plan(roles, supply.cache()):
        if choice.offer is None and not choice.role.optional:
            raise _nobody(choice.role, why_not(choice.role.candidates))


def why_not(components: Sequence[Component]) -> str:
    """Why none of these can be had: what each way lacks."""
    several = len(list(components)) > 1
    return " ".join(
        f"{component.title + ', ' if several else ''}{offer.how}: {offer.refusal}"
        for component in components
        for offer in supply.offers(component, supply.cache())
        if offer.refusal
    )


def get(role: Role, folder: Path, tell: supply.Tell) -> tuple[Component, Path] | None:
    """Who takes the role, and its program; None if nobody takes an optional one.

    A candidate that cannot be got after all gives way to the next; `tell` hears why.
    """
    reasons = list[str]()
    for choice in ranked(role, folder):
        try:
            program = supply.get(choice.component, folder, tell)
        except NeedError as error:
            reasons.append(str(error))
            continue
        if before := role.candidates[: role.candidates.index(choice.component)]:
            why = why_not(before) or " ".join(reasons)
            tell(f"{choice.component.title} keeps the {role.name}. {why}".strip())
        return choice.component, program
    if role.optional:
        return None
    raise _nobody(role, " ".join(reasons) or why_not(role.candidates))


def _nobody(role: Role, why: str) -> NeedError:
    if len(role.candidates) == 1:
        return NeedError(
            f"{role.candidates[0].title} cannot be had on this machine.",
            why,
            "Put the program on PATH, or make one of these ways possible.",
        )
    titles = " and no ".join(component.title for component in role.candidates)
    return NeedError(
        f"Nothing can keep the {role.name} on this machine: no {titles}.",
        why,
        "Put one of the programs on PATH, or make one of these ways possible.",
    )


def main(require: Sequence[str]) -> None:
    """Get the programs of the whole stack, as `up` would; what only builds need is removed."""
    for role in select(require):
        if (taken := get(role, supply.cache(), print)) is not None:
            print(f"{taken[0].title} {taken[0].version}: {taken[1]}")
    supply.tidy(supply.cache())


if __name__ == "__main__":
    main(sys.argv[1:])
