"""Who posted what to the small sink, and what of it is no use; `coverage` asks.

A sender that is refused, or that missed an answer, tries again: a batch that comes twice is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from harness.meters import intake, otlp
from harness.model import Posted
from harness.wire.spool import BROKEN, TAKEN, Record, read_all

# of what is not what its path says
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)


class Repeats:
    """What came before: of two equal batches the second is the first, sent again."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def is_one(self, record: Record) -> bool:
        """Whether this came before; ValueError if it cannot be decompressed.

        Compressed again it may differ, by the time that gzip notes.
        """
        content = record.content()
        if not content:
            return False
        key, before = hash((record.path, record.sender, content)), len(self._known)
        self._known.add(key)
        return len(self._known) == before


def items(record: Record) -> Iterator[otlp.Point | otlp.Event]:
    """What a post holds, whoever's it is; ValueError if it is not what its path says."""
    return chain(otlp.items(record), intake.items(record))


def posted(spool: Path, mark: int) -> Counter[Posted]:
    """How many posts came since `mark`, by sender and by what became of them."""
    found: Counter[Posted] = Counter()
    repeats = Repeats()
    for record in read_all(spool, mark):
        instance, outcome = _judged(record, repeats)
        said = "" if record.status == TAKEN else f"{record.status} {record.path}"
        if outcome == "broken":
            said = record.path
        found[Posted(outcome, record.sender, instance, said.strip())] += 1
    return found


def _judged(record: Record, repeats: Repeats) -> tuple[str, str]:
    """The instance that it is of, as far as it says, and what became of it."""
    outcome = {TAKEN: "taken", BROKEN: "broken"}.get(record.status, "refused")
    instance = ""
    try:
        resources = dict.fromkeys(item.resource for item in items(record))
        instance = next(filter(None, map(otlp.instance_of, resources)), "")
        # what holds nothing is alike each time
        if outcome == "taken" and resources and repeats.is_one(record):
            outcome = "repeated"
    except UNREADABLE:
        outcome = "malformed" if outcome == "taken" else outcome
    return instance, outcome
