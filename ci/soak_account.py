"""What was made against what was told and what was said to be lost, and growth; for soak."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from receiver import Receiver
from soak_load import Load

from harness.analysis import growth
from harness.analysis.compare import Array

FLOOR_SECONDS = 30.0  # in which the queue is empty at least once, mostly
GROWN, TOLD = ("anonymous_mb", "maps_mb"), ("pss_mb",)
MOST_UNCERTAIN = 1.0  # percent
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Account:
    """Events of a kind: `uncertain` may have been made or not, `seen` arrived at the receiver.

    `said` are those said to be lost: `exact`, or `at most` so many, because one may be said more
    than once, or `shared`, because those of another account are in it.
    """

    what: str
    made: int
    uncertain: int
    seen: int
    said: int
    reckoned: Literal["exact", "at most", "shared"] = "exact"

    @property
    def unsaid(self) -> int:
        """Neither seen nor said to be lost."""
        return max(0, self.made - self.seen - self.said)

    @property
    def invented(self) -> int:
        """Seen, or said to be lost, though nobody made them."""
        told = self.seen + (self.said if self.reckoned == "exact" else 0)
        return max(0, told - self.made - self.uncertain)

    @property
    def balances(self) -> bool:
        """Whether all are accounted for."""
        return not self.unsaid and not self.invented

    def loses(self, most: float) -> bool:
        """Whether more than so many percent are said to be lost."""
        return self.reckoned != "shared" and 100 * self.said > most * self.made


@dataclass(frozen=True)
class Growth:
    """Of one kind of memory, warm: MB an hour with its interval, or not known."""

    what: str
    mb_hour: float
    low: float
    high: float

    def verdict(self, most: float) -> str:
        """Whether it stays below so many MB an hour."""
        if math.isnan(self.low):
            return "too short to tell"
        if self.low > most:
            return "grows"
        return "does not grow" if self.high <= most else "not resolved"


def accounts(
    load: Load, receiver: Receiver, stats: Mapping[str, Mapping[str, Any]]
) -> list[Account]:
    """One for each kind of events; `stats` are those of each collector at the end."""
    http, flows, guard = (stats[name] for name in ("http", "flows", "guard"))
    uncounted = sum(int(http[f"lost_{why}"]) for why in ("socket", "series", "pipeline", "unseen"))
    spans_gone = int(http["lost_span"]) + sum(http["dropped"].get("spans", {}).values())
    born, read = load.made["executions"], load.made["opens"]
    executed, opens = receiver.logs["process.exec"], receiver.logs["file.open"]
    untold = int(guard["lost"])  # of both
    requests, connections = load.made["requests"], load.made["connections"]
    vague, tried = load.uncertain["requests"], load.uncertain["connections"]
    lost = int(flows["lost"])
    counted = int(http["events"])  # by itself: series that have long been idle begin anew
    opened, closed = (
        int(receiver.sums.get(f"tcp.connections.{each}", 0)) for each in ("opened", "closed")
    )
    return [
        Account("requests", requests, vague, counted, uncounted),
        Account("spans", requests, vague, receiver.spans, uncounted + spans_gone),
        Account("connections opened", connections, tried, opened, lost, "at most"),
        Account("connections closed", connections, tried, closed, lost, "at most"),
        Account("executions", born, 0, executed, untold, "shared"),
        Account("opened files", read, 0, opens, untold, "shared"),
        Account("both of these", born + read, 0, executed + opens, untold),
    ]


def remarks(stats: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What went another way than usual, and what may be the cause of it."""
    if late := int(stats["flows"]["closed_late"]):
        yield f"{late:,} closes were told by the end of their socket alone."
    if unseen := int(stats["flows"]["closed_unseen"]):
        yield f"{unseen:,} closes were seen by no program, and are said to be lost."
    for name, of in stats.items():
        for program in of["programs"]:
            if misses := int(program["recursion_misses"]):
                what = f"{name}: {program['name']}"
                yield f"{what} was running already {misses:,} times, and missed what happened."


def unfit(found: Sequence[Account], *, ended: bool) -> Iterator[str]:
    """Why accounts say nothing of the collectors: what should have been traced did not happen."""
    if ended:
        yield "The service ended before the load did."
    for each in found:
        if not each.made:
            yield f"No {each.what} were made."
        elif 100 * each.uncertain > MOST_UNCERTAIN * (each.made + each.uncertain):
            yield (
                f"Of {each.what}, {each.uncertain:,} may have been made or not, beside "
                f"{each.made:,}: more than {MOST_UNCERTAIN:g} %."
            )


def grown(samples: Sequence[Sample]) -> Iterator[Growth]:
    """After what evaluations leave out at the beginning, if enough is left for a slope.

    Of what no file backs: how much of files a process is charged with (PSS) goes by who else maps
    them, and is less by half a MB as soon as two more programs in Python run.
    """
    at = np.array([each["seconds"] for each in samples])
    warm = growth.warm_seconds(float(at[-1])) if len(at) else 0.0
    kept = at >= warm
    long = kept.any() and at[-1] - warm >= growth.STRETCHES * growth.LEAST_SECONDS
    for name in GROWN:
        if not long:
            yield Growth(name, math.nan, math.nan, math.nan)
            continue
        value = np.array([each[name] for each in samples])
        found = growth.slope(*_floor(at[kept], value[kept]))
        yield Growth(name, found.estimate, found.low, found.high)


def _floor(at: Array, value: Array) -> tuple[Array, Array]:
    """Hours, and the lowest value of each stretch: what waits for a receiver comes and goes."""
    place = ((at - at[0]) // FLOOR_SECONDS).astype(int)
    parts = [place == i for i in np.unique(place)]
    hours = np.array([at[part].mean() for part in parts]) / 3600
    return hours, np.array([value[part].min() for part in parts])


def text(
    found: Sequence[Account], growths: Sequence[Growth], samples: Sequence[Sample], most: float
) -> Iterator[str]:
    """All of it, as Markdown."""
    yield "| events | made | perhaps made | told | said to be lost | unsaid | invented |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for each in found:
        cells = (each.made, each.uncertain, each.seen, each.said, each.unsaid, each.invented)
        yield f"| {each.what} | {' | '.join(f'{cell:,}' for cell in cells)} |"
    yield ""
    yield "| memory | at the beginning | at half-time | at the end | MB/h, once warm | |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for of in growths:
        slope = f"{of.mb_hour:+.2f} [{of.low:+.2f}, {of.high:+.2f}]"
        told = "" if math.isnan(of.low) else slope
        yield f"| {of.what} | {_levels(samples, of.what)} | {told} | {of.verdict(most)} |"
    for name in TOLD:
        yield f"| {name} | {_levels(samples, name)} | | |"
    if samples:
        waiting = max(each["waiting"] for each in samples)
        yield ""
        yield f"At most {waiting:,.0f} spans and log records waited for a receiver."


def _levels(samples: Sequence[Sample], name: str) -> str:
    some = [samples[i][name] for i in (0, len(samples) // 2, -1)] if samples else []
    return " | ".join(f"{value:.2f}" for value in some)
