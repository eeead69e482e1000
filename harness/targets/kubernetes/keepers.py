"""Who keeps each signal in a cluster, where that is for a person to choose; for `meant` and others.

What was chosen once stays: a later `harness up` that says nothing of it loses no data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from harness.errors import InputError, NeedError
from harness.stack import catalog
from harness.stack.catalog import Component
from harness.stack.config.description import KEEPS

NONE = "none"
"""Nobody, of a signal that need not be kept."""

Keepers = Mapping[str, str]
"""Signal -> the name of a component, or NONE."""


def check(asked: Keepers) -> None:
    """InputError unless each of these can keep its signal."""
    for signal, name in asked.items():
        names = choices(signal)
        if name not in names:
            raise InputError(
                f"There is nothing called {name!r} that keeps {signal}.",
                next_step=f"Take --{signal} {' or '.join(names)}, or leave it out.",
            )


def choices(signal: str) -> list[str]:
    """What may be said of a signal; NONE if it need not be kept."""
    names = [component.name for component in catalog.keepers(signal)]
    return names if signal in KEEPS else [NONE, *names]


def settled(
    asked: Keepers,
    release: Mapping[str, Any] | None = None,
    images: Collection[str] | None = None,
) -> dict[str, str]:
    """Who keeps each signal that is kept: as `asked`, else as in the `release` that is there.

    Else as a bundle with these `images` has it, if one is taken. NeedError if that lacks one.
    """
    there = _by_signal(_known((release or {}).get("components", ())))
    if there:  # nobody was chosen, too: a bundle brings no more
        there = whole(there)
    packed = carried(images or ())
    found = {**KEEPS, **packed, **there, **asked}
    keeps = {signal: name for signal, name in found.items() if name != NONE}
    if images is not None:
        require_carried(keeps, images)
    return keeps


def whole(keeps: Keepers) -> dict[str, str]:
    """The same, with NONE for what could be kept and is not: as if all of it were asked for."""
    signals = (component.signal for component in catalog.known().values())
    return {**{each: NONE for each in signals if each and each not in KEEPS}, **keeps}


def carried(images: Collection[str]) -> dict[str, str]:
    """Who of those that keep a signal has its image among these."""
    return _by_signal(each for each in catalog.known().values() if each.image in images)


def said(asked: Keepers) -> dict[str, str]:
    """By which options they are asked for: of a signal that one alone can keep, as required."""
    return {
        signal if len(choices(signal)) > 1 else "require": name for signal, name in asked.items()
    }


def option(component: Component) -> str:
    """What asks for a component that keeps a signal, and is chosen among several; else empty."""
    (name,) = said({component.signal: component.name})
    return f"--{name} {component.name}" if name == component.signal else ""


def told(keeps: Keepers) -> str:
    """Who keeps what, as a sentence."""
    known = catalog.known()
    said = ", ".join(f"{signal} by {known[name].title}" for signal, name in keeps.items())
    return f"Kept are {said}."


def require_no_data(keeps: Keepers, release: Mapping[str, Any] | None) -> None:
    """NeedError if the volume of a component that is there would go: another one takes its place.

    What is in no volume goes with each upgrade anyway.
    """
    if not release or not release["storage"]:
        return
    for component in _known(release["components"]):
        if component.signal and not component.in_memory and component.name not in keeps.values():
            instead = catalog.known().get(keeps.get(component.signal, NONE))
            raise NeedError(
                f"The stack that is there keeps its {component.signal} in a volume of "
                f"{component.title}, which would be deleted.",
                f"{instead.title if instead else 'Nobody'} would keep them then.",
                "Take another --namespace; or give the data up with harness down, and run this "
                "again.",
            )


def require_carried(keeps: Keepers, images: Collection[str]) -> None:
    """NeedError if one of these has no image among those of a bundle."""
    packed = carried(images)
    for signal, name in keeps.items():
        component = catalog.known().get(name)
        if component and component.image not in images:
            raise NeedError(
                f"The bundle has no image of {component.title} ({component.image}).",
                f"Who wrote it chose otherwise, and the {signal} are to be kept by it.",
                f"Write it anew: harness bundle FILE --{signal} {name}; or take what it has: "
                f"--{signal} {packed.get(signal, NONE)}.",
            )


def _known(names: Iterable[str]) -> list[Component]:
    known = catalog.known()
    return [known[name] for name in names if name in known]


def _by_signal(components: Iterable[Component]) -> dict[str, str]:
    return {component.signal: component.name for component in components if component.signal}
