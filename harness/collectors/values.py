"""What the options of included collectors may be, so that a wrong one is refused before a run.

An agent refuses the same when it starts; by then there is a service, and a run with failed trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import InputError


@dataclass(frozen=True)
class Range:
    """A number, `least` to `most`; a `whole` one, or any."""

    what: str
    least: float
    most: float
    example: str
    whole: bool = True

    def holds(self, text: str) -> bool:
        """Whether an agent would take it."""
        try:
            return self.least <= (int if self.whole else float)(text) <= self.most
        except ValueError:
            return False


_SECONDS = Range("a number of seconds", 0.001, 3600, "0.5", whole=False)
RANGES = {
    "interval": _SECONDS,
    "drain": _SECONDS,
    "sample": Range("a whole number of requests", 1, 1_000_000_000, "100"),
    "frequency": Range("a whole number of samples a second", 1, 1000, "99"),
    "ns": Range("a whole number of nanoseconds", 0, 1_000_000, "500"),
    "peers": Range("a whole number of peers", 1, 2000, "256"),
    "peer-age": Range("a number of seconds", 0, 86_400, "300", whole=False),
    "agent-percent": Range("a percentage of one CPU", 0, 100, "0.5", whole=False),
}
CHOICES = {
    "at": ("response", "getsockopt"),
    "udp": ("off", "on"),
    "drops": ("off", "on"),
    "open-hook": ("best", "lsm", "fentry", "fanotify"),
    "unwind": ("frame_pointers", "eh_frame", "auto"),
}


def check(options: Mapping[str, str], spec: str) -> None:
    """InputError for the first option of the collector `spec` that cannot be what it is."""
    for option, value in options.items():
        limits, words = RANGES.get(option), CHOICES.get(option)
        if limits is not None and not limits.holds(value):
            raise InputError(
                f"The collector {spec!r} cannot be run: {option} is {limits.what}, not {value!r}.",
                next_step=f"It lies between {limits.least:,} and {limits.most:,}, "
                f"as in {limits.example}.",
            )
        if words is not None and value not in words:
            raise InputError(
                f"The collector {spec!r} cannot be run: there is no {option} {value!r}.",
                next_step=f"It is one of: {', '.join(words)}.",
            )
