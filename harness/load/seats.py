"""Who is idle and what waits: the state that the driver keeps of its users."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from harness.load.phase import Phase


@dataclass(eq=False)
class Line:
    """The users of one class: who is idle, and the slots that found nobody idle."""

    idle: deque[Seat] = field(default_factory=deque)
    backlog: deque[int] = field(default_factory=deque)


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
