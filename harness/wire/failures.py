"""How many requests failed, by kind, as a phrase; for whoever tells of them on either side."""

from __future__ import annotations

from collections.abc import Mapping

_TOLD = 4  # kinds that a phrase names
WAITING = "connections were waiting for answers"  # so a driver tells of a service that is too slow


def told(failures: Mapping[str, int]) -> str:
    """The kinds, most frequent first: `1,204 x 429 Too Many Requests, 3 x timed out`."""
    ordered = sorted(failures.items(), key=lambda each: -each[1])
    more = sum(count for _, count in ordered[_TOLD:])
    words = [f"{count:,} x {name}" for name, count in ordered[:_TOLD]]
    return ", ".join(words + [f"{more:,} others"] * bool(more))
