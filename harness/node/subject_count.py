"""What somebody else's collector says that it saw, in its log or on its page; `subject_process`."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from harness.node.limited_log import LimitedLog
from harness.wire.subject import Subject

LOOK_SECONDS = 0.05
CALM_SECONDS = 0.1  # the lines of one interval are written together


def counted(subject: Subject, text: str) -> float | None:
    """The events that this text tells of; None if it tells of none, or nothing is looked for.

    Without a number each match of `events` is one. Numbers are added up on a page, which has a line
    of each series, and where each counts anew; else the last one is of all. ValueError if what
    stands for it is no number.
    """
    if not subject.events:
        return None
    pattern = re.compile(subject.events, re.MULTILINE)
    found = pattern.findall(text)
    if not pattern.groups:
        return float(len(found))
    if not found:
        return None
    if subject.page or _adds_up(subject):
        return math.fsum(map(_number, found))
    return _number(found[-1])


def of_page(subject: Subject, text: str) -> dict[str, float]:
    """The `events` that a page tells of, and what it says that was `lost`; what it tells of alone.

    A page without a counter of what was lost does not say that nothing was. ValueError if what
    stands for one is no number.
    """
    events = counted(subject, text)
    lost = re.findall(subject.lost, text, re.MULTILINE) if subject.lost else []
    if events is None or not lost:
        return {} if events is None else {"events": events}
    gone = math.fsum(map(_number, lost))
    return {"events": events - gone if subject.lost_among else events, "lost": gone}


def of_log(subject: Subject, log: LimitedLog, start: int) -> float | None:
    """What it counted since it was started, when its log was `start` bytes long; None if unknown.

    One number of all is looked for in the last megabyte: what it counted before may be of another
    time. What is added up has to be there as a whole.
    """
    if not subject.events or not _adds_up(subject):
        return counted(subject, log.said_since(start))
    said = log.said()
    whole = said[: said.rfind("\n") + 1]  # its last line may be half written
    return counted(subject, whole) if log.is_whole else None


def await_word(
    subject: Subject, log: LimitedLog, seconds: float, attend: Callable[[], bool]
) -> bool:
    """Wait for what it says next, three times its interval of `seconds` at most; whether it did.

    An earlier word is of another time. One that tells each event for itself has said all once it
    was calm for its interval, and one that tells what is new, where there is nothing new, after all
    three: it may print no empty table. `attend` is called meanwhile, and says whether it lives.
    """
    told, begun = log.size(), time.monotonic()
    events = re.compile(subject.events, re.MULTILINE)
    each = not events.groups
    calm = seconds if each else CALM_SECONDS if _adds_up(subject) else 0.0
    last, grew, has_said = told, begun, each
    while (now := time.monotonic()) - begun < 3 * seconds:
        has_said = has_said or bool(events.search(log.said_since(told)))
        if (size := log.size()) != last:
            last, grew = size, now
        if has_said and now - grew >= calm:
            return True
        if not attend():
            return True
        time.sleep(LOOK_SECONDS)
    return has_said or subject.temporality == "delta"


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{text!r} is no number")
    return found


def _adds_up(subject: Subject) -> bool:
    return subject.temporality == "delta" or not re.compile(subject.events).groups
