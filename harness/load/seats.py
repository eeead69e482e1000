"""Who is idle and what waits: the state that the driver keeps of its users."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent

from harness.errors import LoadError
from harness.load.phase import Phase
from harness.load.schedule import interleave

READY_SECONDS = 30.0


@dataclass(eq=False)
class Line:
    """The users of one class on one side: who is idle, and the slots that found nobody idle."""

    twin: bool = False
    idle: deque[Seat] = field(default_factory=deque)
    backlog: deque[int] = field(default_factory=deque)


class Side:
    """The users of one service: a line a class, and whose turn it is, by the classes' weights."""

    def __init__(self, url: str, twin: bool, weights: Sequence[int], seed: int) -> None:
        self.url = url
        self.lines = [Line(twin) for _ in weights]
        self.order: Iterator[Line] = (self.lines[i] for i in interleave(weights, seed))


@dataclass(eq=False)
class Seat:
    """A user and the slot they hold: `due_ns` until its first request was recorded, then 0.

    `nested`: the slot was given for a TaskSet, whose first task takes it over.
    """

    line: Line
    greenlet: Any = None
    phase: Phase | None = None
    due_ns: int = 0
    failed: bool = False
    nested: bool = False


def shares(kinds: Sequence[tuple[float, int]], connections: int) -> list[int]:
    """What share of the users and slots each class gets, of its (weight, fixed_count); 0: none.

    As Locust spawns that many users: first `fixed_count` of each class that has one, whatever its
    weight; the rest by weight.
    """
    weights = [
        max(1, round(1000 * weight)) if weight > 0 and not fixed else 0 for weight, fixed in kinds
    ]
    rest = max(0, connections - sum(fixed for _, fixed in kinds))
    return [
        fixed * max(1, sum(weights)) or rest * weight
        for (_, fixed), weight in zip(kinds, weights, strict=True)
    ]


def crew(weights: Sequence[int], connections: int) -> list[int]:
    """Which class each user is of: in proportion to the weights, one at least of each above 0."""
    kinds = interleave(weights)
    first = [index for index, weight in enumerate(weights) if weight]
    others = [next(kinds) for _ in range(connections)]
    for index in set(first) & set(others):
        others.remove(index)
    return (first + others)[: max(connections, len(first))]


def await_idle(sides: Sequence[Side], seats: Mapping[Any, Seat], failed: Callable[[], str]) -> None:
    """Wait until every user asked for a slot; LoadError if some never do.

    `failed` tells the first request that failed meanwhile, if one did: `POST /login -> 401 ...`.
    """
    lines, wanted = [line for side in sides for line in side.lines], len(seats)
    users = list(seats)  # who ends is taken out
    with gevent.Timeout(READY_SECONDS, False):
        while sum(len(line.idle) for line in lines) < wanted == len(seats):
            gevent.sleep(0.005)
    idle = sum(len(line.idle) for line in lines)
    if idle < wanted:
        request = failed()
        raise LoadError(
            f"{wanted - idle} of {wanted} users did not get past on_start.",
            " ".join(filter(None, (request and f"{request}.", _first_error(users)))),
            "Try the locustfile with `locust --headless`; *-load.log in the run's logs has more.",
        )


def _first_error(users: Sequence[Any]) -> str:
    """What ended the first of them, as Locust keeps it; or that nothing did."""
    for user in users:
        if (error := getattr(user._greenlet, "exception", None)) is not None:
            return f"{type(error).__name__}: {error}."
    return f"They were given {READY_SECONDS:.0f} s."
