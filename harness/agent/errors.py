"""The errors of the agent, whose sentences are told in its `ready` line."""

from __future__ import annotations


class AgentError(Exception):
    """What went wrong, why, and what to do next, each a plain sentence."""

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        self.what, self.why, self.next_step = what, why, next_step
        super().__init__(" ".join(part for part in (what, why, next_step) if part))


class FullError(AgentError):
    """A map has no room for one more entry."""


class RefusedError(AgentError):
    """A receiver does not take telemetry, and will not at another time."""


class UnansweredError(AgentError):
    """Nobody answered: whoever asks the same receiver for something else waits as long."""


class LaterError(AgentError):
    """A receiver takes nothing now; `seconds` is how long it asks to be left alone, or 0."""

    def __init__(self, what: str, why: str, next_step: str, seconds: float = 0.0) -> None:
        self.seconds = seconds
        super().__init__(what, why, next_step)
