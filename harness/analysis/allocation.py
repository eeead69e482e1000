"""Time given to services and arms so that the widest interval becomes as narrow as it can.

A pilot's variances are known (`precision`). More windows narrow what windows leave open, more
blocks what processes differ by; a block costs its start and warm-up. For each width that might be
reached the cheapest way is found for every service, and of the widths the least that the time is
enough for is taken: the time goes where the variance is, as in Neyman's allocation (1934, Journal
of the Royal Statistical Society 97), for the widest of several intervals instead of one sum. How
many blocks of what length is Kalibera and Jones' question (2013, ISMM, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis import precision
from harness.analysis.compare import Array
from harness.analysis.precision import Spread

STEPS = 60  # lengths of a block that are looked at
MOST_BLOCKS = 200
CLOSE = 1e-3  # widths nearer than this share of themselves are the same


@dataclass(frozen=True)
class Service:
    """A service that time is given to; times in seconds.

    `spreads`: by whose trials tell them, of each arm. `piloted`: how long the windows of those
    trials were in each block so far. `overhead` is a block's time beside windows, of which those
    from the `metered_blocks`-th on save `saved`. A trial has `least` to `longest` of windows, and
    the service `fewest` more blocks or more.
    """

    spreads: Mapping[str, Mapping[str, Spread]]
    piloted: Mapping[str, Sequence[float]]
    overhead: float
    least: float
    longest: float
    saved: float = 0.0
    metered_blocks: int = 0
    fewest: int = 1

    @property
    def blocks(self) -> int:
        """Those that the pilot had."""
        return max(len(each) for each in self.piloted.values())

    def beside(self, more: int) -> float:
        """What so many more blocks take beside windows."""
        plain = max(0, self.blocks + more - max(self.metered_blocks, self.blocks))
        return more * self.overhead - (plain * self.saved if self.metered_blocks else 0.0)

    def takes(self, more: int, seconds: float) -> float:
        """So many more blocks, with windows of these seconds for all its trials' arms together."""
        return self.beside(more) + more * seconds

    @property
    def at_least(self) -> float:
        """The time of the fewest blocks of the least length."""
        return self.takes(self.fewest, len(self.piloted) * self.least)


@dataclass(frozen=True)
class Share:
    """What a service gets after the pilot: `more` blocks, and by the arm of its trials the seconds
    of windows in each; `width` is half the widest interval that is expected then (%).
    """

    more: int
    seconds: Mapping[str, float]
    width: float


@dataclass(frozen=True)
class _Option:
    """One number of blocks more: the widths by lengths of each trial arm, the lengths (n,)."""

    more: int
    lengths: Array
    widths: Mapping[str, Array]


def allot(services: Mapping[str, Service], seconds: float) -> dict[str, Share]:
    """Give so many seconds to services: all of them, and to each what it is to have at least.

    Where there is not that much nobody gets any.
    """
    options = {name: _options(service, seconds) for name, service in services.items()}
    if not services or sum(each.at_least for each in services.values()) > seconds:
        return {name: Share(0, {}, _width(each, 0, {})) for name, each in services.items()}
    low, high = 0.0, max(_highest(each) for each in options.values())
    best = _cheapest(services, options, high)
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        found = _cheapest(services, options, middle)
        if found is not None and _cost(services, found) <= seconds:
            high, best = middle, found
        else:
            low = middle
    assert best is not None, "the widest of all can be reached by blocks of the least length"
    return _filled(services, best, seconds)


def _options(service: Service, seconds: float) -> list[_Option]:
    lengths = np.linspace(service.least, service.longest, STEPS)
    found = []
    for more in range(service.fewest, service.fewest + MOST_BLOCKS):
        shortest = service.takes(more, len(service.piloted) * service.least)
        if more > service.fewest and shortest > seconds:
            break
        widths = {
            arm: precision.widest(service.spreads[arm], piloted, more, lengths)
            for arm, piloted in service.piloted.items()
        }
        found.append(_Option(more, lengths, widths))
    return found


def _highest(options: Sequence[_Option]) -> float:
    """What the fewest blocks of the least length reach."""
    return max(float(widths[0]) for widths in options[0].widths.values())


Plan = dict[str, tuple[int, dict[str, float]]]


def _cheapest(
    services: Mapping[str, Service], options: Mapping[str, Sequence[_Option]], width: float
) -> Plan | None:
    """For each service the blocks and lengths of least time that reach this width; None if none."""
    plan: Plan = {}
    for name, service in services.items():
        best, least = None, math.inf
        for option in options[name]:
            lengths = _reaching(option, width)
            if lengths is None:
                continue
            cost = service.takes(option.more, sum(lengths.values()))
            if cost < least:
                best, least = (option.more, lengths), cost
        if best is None:
            return None
        plan[name] = best
    return plan


def _reaching(option: _Option, width: float) -> dict[str, float] | None:
    found = {}
    for arm, widths in option.widths.items():
        enough = np.flatnonzero(widths <= width)
        if not len(enough):
            return None
        found[arm] = float(option.lengths[enough[0]])
    return found


def _cost(services: Mapping[str, Service], plan: Plan) -> float:
    return sum(
        services[name].takes(more, sum(lengths.values())) for name, (more, lengths) in plan.items()
    )


def _filled(services: Mapping[str, Service], plan: Plan, seconds: float) -> dict[str, Share]:
    """The plan with what is left of the time given to all windows in proportion."""
    beside = sum(services[name].beside(more) for name, (more, _) in plan.items())
    windows = sum(more * sum(lengths.values()) for more, lengths in plan.values())
    by = (seconds - beside) / windows
    shares = {}
    for name, (more, lengths) in plan.items():
        longer = {arm: by * length for arm, length in lengths.items()}
        shares[name] = Share(more, longer, _width(services[name], more, longer))
    return shares


def _width(service: Service, more: int, seconds: Mapping[str, float]) -> float:
    each = [
        precision.widest(service.spreads[arm], piloted, more, np.array([seconds.get(arm, 0.0)]))
        for arm, piloted in service.piloted.items()
    ]
    return float(np.max(each))
