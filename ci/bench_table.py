"""The table of bench_collectors: figures of rounds, and how they compare with ours."""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from questions import Question

LEAST_SEEN = 95.0  # percent of the events that were made; cheap because it saw less is no result
GOAL = 10.0  # times as much as ours
LEAST_ROUNDS, REDRAWN = 5, 2000
NOBODY = "nobody"  # a round of events that no collector sees
Found = Mapping[tuple[str, str], Sequence["Figures"]]


class Failed(Exception):
    """What a tool says, where it cannot run."""


@dataclass(frozen=True)
class Figures:
    """Of one round; CPU time for each event that was made.

    `maker_us` is what who makes the events took for one, with all hooks in it; nan if not known.
    """

    made: float
    seen: float
    kernel_us: float
    runs: float
    agent_us: float
    idle_ms: float
    pss_mb: float
    maps_mb: float
    maker_us: float = math.nan

    @property
    def whole_us(self) -> float:
        """In the kernel and in its processes."""
        return self.kernel_us + self.agent_us


def sees(rounds: Sequence[Figures]) -> bool:
    """Whether it saw enough of the events to be compared."""
    return _seen_percent(rounds) >= LEAST_SEEN


def _seen_percent(rounds: Sequence[Figures]) -> float:
    return statistics.median(100 * each.seen / each.made for each in rounds)


def text(
    questions: Sequence[Question],
    found: Found,
    failed: Mapping[tuple[str, str], Failed],
    options: argparse.Namespace,
) -> str:
    """All of it, as Markdown."""
    return "\n".join(
        [
            "# What collectors cost an event, ours and others, in one run",
            "",
            *_head(options),
            "",
            *(line for each in questions for line in _question(each, found, failed)),
            _foot(),
        ]
    )


def _head(options: argparse.Namespace) -> Iterator[str]:
    yield f"Linux {platform.release()}, {os.cpu_count()} CPUs, {time.strftime('%Y-%m-%d')};"
    yield f"load when it began: {options.load:.1f}. {'; '.join(options.versions)}."
    yield "Idle CPUs " + ("polled." if options.polling else "halted: what is idle wakes up cold.")
    yield f"Rounds: {options.rounds}, in random order; each was alone in its turn, for"
    yield f"{options.seconds:g} s without events and as long with them; no more than"
    yield f"{options.rate:g} events a second were made. Figures are medians of rounds."
    if options.note:
        yield options.note


def _foot() -> str:
    return f"""\
*kernel*: the time in its BPF programs, by the kernel's own statistics (which add some 20 ns a run),
for each event that was made, less that of the idle stretch; *runs*: how often they ran for it, less
the same. Tracepoints run for everybody's events, whatever the scope. fanotify is no BPF program:
what it costs who opens a file is in *maker* alone. *processes*: CPU time of its processes for each
event, less that of the idle stretch, which may be below zero where it is less than what idling
varies by; with threads and children that have ended. *maker*: CPU time of who makes the events for
one, less what it took in the same round while nobody watched: programs and what is called around
them, fanotify's, uprobes' and perf events' own cost in it; the other end of connections, and
interrupts, are not; it may be below zero, too. It holds most of *kernel* once more, and so is in no
sum. Who burns CPU until it has burnt so much cannot tell it. All three: the median (least to most).
*both, to ours*: kernel and processes together, of all rounds, as a multiple of ours, with its 95 %
interval by redrawing rounds; the goal is {GOAL:g} and more. What is done by the clock is in *idle*
alone: at low rates it is what counts. Who saw less than {LEAST_SEEN:g} % is not compared. *idle*:
processes and programs together, while nothing was made. *PSS*: memory of its processes at the end;
*maps*: what the kernel is charged with for its BPF maps, without the buffers of perf events. What
is counted alone, as by bpftrace, is less than `flows` tells of a connection (bytes both ways,
round-trip time, retransmits, how it ended)."""


def _question(
    question: Question, found: Found, failed: Mapping[tuple[str, str], Failed]
) -> Iterator[str]:
    yield f"## {question.name}"
    yield ""
    yield (
        f"| collector | scope | {question.unit}s made | seen | kernel, µs | runs | processes, µs "
        "| maker, µs | both, to ours | idle, ms/s | PSS, MB | maps, MB |"
    )
    yield f"| --- | --- |{' ---: |' * 10}"
    ours = f"harness {question.collector}"
    base = found.get((question.name, ours), ())
    bare = found.get((question.name, NOBODY), ())
    scopes = {ours: "the cgroup", **{each.name: each.scope for each in question.tools}}
    for name, scope in scopes.items():
        if rounds := found.get((question.name, name)):
            yield f"| {name} | {scope} | {_cells(rounds, base, bare)} |"
    yield ""
    for name in scopes:
        if why := failed.get((question.name, name)):
            yield f"- {name} does not run here: `{why}`"
    if any((question.name, name) in failed for name in scopes):
        yield ""


def _cells(rounds: Sequence[Figures], base: Sequence[Figures], bare: Sequence[Figures] = ()) -> str:
    of = {
        each.name: statistics.median(getattr(some, each.name) for some in rounds)
        for each in fields(Figures)
    }
    cells = [
        *(f"{of['made']:,.0f}", f"{of['seen']:,.0f}"),
        *(_spread([each.kernel_us for each in rounds], 2), f"{of['runs']:.1f}"),
        *(_spread([each.agent_us for each in rounds], 1), _in_maker(rounds, bare)),
        _ratio(rounds, base),
        *(f"{of['idle_ms']:.2f}", f"{of['pss_mb']:.1f}", f"{of['maps_mb']:.2f}"),
    ]
    return " | ".join(cells)


def _in_maker(rounds: Sequence[Figures], bare: Sequence[Figures]) -> str:
    """What the maker of events took more than with nobody, in the rounds that both have."""
    more = [each.maker_us - none.maker_us for each, none in zip(rounds, bare, strict=False)]
    return _spread(more, 1) if more and not any(map(math.isnan, more)) else "not told"


def _ratio(rounds: Sequence[Figures], base: Sequence[Figures]) -> str:
    """Theirs to ours in the rounds that both have, with its 95 % interval, if both saw enough.

    The rounds are redrawn, theirs and ours of a round together (percentile bootstrap).
    """
    if not sees(rounds):
        return f"none: it saw {_seen_percent(rounds):.0f} %"
    if base and not sees(base):
        return "none: ours saw too few"
    if rounds is base or not base:
        return "1" if base else ""
    both = [(each.whole_us, ours.whole_us) for each, ours in zip(rounds, base, strict=False)]
    if len(both) < LEAST_ROUNDS:
        return f"none: {len(both)} rounds, and an interval takes {LEAST_ROUNDS}"
    draw = random.Random(len(both))
    drawn = [_divided(draw.choices(both, k=len(both))) for _ in range(REDRAWN)]
    low, *_, high = statistics.quantiles(drawn, n=40)
    if not math.isfinite(high):
        return "none: ours is not told from an idle machine"
    return f"{_divided(both):.2g} [{low:.2g}, {high:.2g}]"


def _divided(both: Sequence[tuple[float, float]]) -> float:
    theirs, ours = (sum(each) for each in zip(*both, strict=True))
    return theirs / ours if ours > 0 else math.inf


def _spread(values: Sequence[float], digits: int) -> str:
    told = f"{statistics.median(values):.{digits}f}"
    return f"{told} ({min(values):.{digits}f} to {max(values):.{digits}f})"
