"""What collectors cost by the second and by the request, from trials at several rates; `account`.

A line a + b x rate through two rates: with `idle_seconds` through none and the whole one, and the
low rate in between is held against it; else through the low one and the whole one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.analysis import hierarchy, value
from harness.analysis.bill import Found, Metered
from harness.results.run import TrialRecord

PARTS = ("idle", "low_rate", "full_rate")
TENTH = 10.0
LINE = "line through {} and {} requests a second; mean over trials, Student's t interval"
BESIDE = "metered at {} requests a second, less the {}"


@dataclass(frozen=True)
class Point:
    """CPU of the agents and time in their programs at a rate (1/s), in thousandths of a CPU."""

    rate: float
    mcpu: float


@dataclass(frozen=True)
class Line:
    """Of one trial: mCPU at no request, us that a request adds, and the `rate` (1/s) it ends at.

    `beside`: how much more was metered at the rate in between, in mCPU; NaN where none was.
    """

    mcpu: float
    us: float
    rate: float
    beside: float

    def us_at(self, rate: float) -> float:
        """What a request costs at another rate, its share of the cost by the second included."""
        return self.us + 1e3 * self.mcpu / rate


def points(record: TrialRecord) -> list[Point]:
    """What a metered trial tells, by rate."""
    found = [_point(record, part) for part in PARTS]
    return sorted((each for each in found if each), key=lambda point: point.rate)


def line(at: Sequence[Point]) -> Line | None:
    """Through the lowest and the highest rate; None where only one is known."""
    if len(at) < 2 or not at[-1].rate > at[0].rate:
        return None
    first, last = at[0], at[-1]
    slope = (last.mcpu - first.mcpu) / (last.rate - first.rate)
    start = first.mcpu - slope * first.rate
    beside = at[1].mcpu - start - slope * at[1].rate if len(at) > 2 else math.nan
    return Line(start, 1e3 * slope, last.rate, beside)


def split(trials: Sequence[Metered]) -> Iterator[tuple[str, Found]]:
    """The parts of the cost, and what a request costs where there are ten times fewer."""
    known = [(at, found) for trial in trials if (found := line(at := points(trial.record)))]
    if not known:
        return
    through = LINE.format(*(_mean([at[end] for at, _ in known]) for end in (0, -1)))
    lines = [found for _, found in known]
    for metric, values in (
        ("per_second_mcpu", [each.mcpu for each in lines]),
        ("per_request_us", [each.us for each in lines]),
        ("tenth_rate_us", [each.us_at(each.rate / TENTH) for each in lines]),
    ):
        yield metric, Found(hierarchy.mean_interval(values), through)
    between = [(at[1], found.beside) for at, found in known if len(at) > 2]
    if between:
        method = BESIDE.format(_mean([point for point, _ in between]), through)
        yield (
            "line_residual_mcpu",
            Found(hierarchy.mean_interval([left for _, left in between]), method),
        )


def _point(record: TrialRecord, part: str) -> Point | None:
    seconds = f"{part}_seconds"
    each = [
        value.per(record, f"{part}_{what}", seconds, 1e3)
        for what in ("agent_cpu_seconds", "bpf_seconds")
    ]
    rate = 0.0 if part == "idle" else value.per(record, f"{part}_requests", seconds)
    known = [number for number in each if number is not None]
    return None if rate is None or len(known) < len(each) else Point(rate, math.fsum(known))


def _mean(at: Sequence[Point]) -> str:
    return f"{math.fsum(point.rate for point in at) / len(at):,.0f}"
