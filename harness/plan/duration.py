"""How long an evaluation takes, as people say it: `3m`, `--quick`, so many blocks; for `cli`.

Time is spent on blocks first, up to MANY, since only several tell what processes differ by, then on
longer trials. Where there is little, up to FEW blocks have shorter ones, but never less than two of
SHORTEST.
"""

from __future__ import annotations

import re
from dataclasses import replace

from harness.errors import InputError
from harness.plan import allotment
from harness.plan.experiment import Experiment

QUICK_SECONDS = 60.0  # a service
FEWEST, FEW, MANY = 2, 4, 12
SHORTEST = 4.0  # seconds of switching in a trial that are worth its start
ENOUGH = 28.0  # likewise, before there are more than FEW blocks: as `quick` has them
RIGOROUS = {"blocks": 12, "min_blocks": 4, "precision_percent": 0.3}  # those of `standard`
RIGOROUS_SECONDS = 104.0

_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """`90s`, `3m`, `1h30m` in seconds; InputError if it is none of that."""
    parts = _PART.findall(text)
    found = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not found:
        raise InputError(
            f"{text!r} is no duration.",
            "A number alone could be of minutes or of seconds.",
            "Write it as in 90s, 3m or 1h30m.",
        )
    return found


def lasting(e: Experiment, whole: float) -> Experiment:
    """The experiment made to take about so many seconds; InputError if that is too little.

    With a precision it still ends as soon as that is reached. A pilot divides the time, if that is
    twice what the pilot takes; if not, there is none.
    """
    if e.pilot_blocks:
        plain = allotment.without(e)
        if whole >= 2 * _takes(plain, e.pilot_blocks):
            return replace(e, budget_seconds=whole)
        e = plain
    for blocks in range(MANY, FEWEST - 1, -1):
        enough = SHORTEST if blocks <= FEW else min(e.switched_seconds, ENOUGH)
        if (found := _filled(e, blocks, whole, enough)) is not None:
            return found
    least = _takes(_switching(e, SHORTEST), FEWEST)
    raise InputError(
        f"{whole:g} s are too little for {_count(len(e.workloads), 'service')} and "
        f"{_count(len(e.trial_arms), 'trial')} in each block.",
        f"Two blocks of the shortest trials take about {least:.0f} s, starts of services included.",
        "Give more time, or fewer services (--workload) or arms (--arm).",
    )


def quick(e: Experiment) -> Experiment:
    """The same in about a minute a service, or the least that is possible."""
    e = allotment.without(e)
    e = replace(e, saturated_seconds=0.0, low_rate_fraction=0.0, idle_seconds=0.0)
    least = _takes(_switching(e, SHORTEST), FEWEST)
    return lasting(e, max(QUICK_SECONDS * len(e.workloads), least))


def rigorous(e: Experiment) -> Experiment:
    """The same as long and as exact as the experiment `standard`."""
    e = allotment.without(e)
    of_trials = RIGOROUS_SECONDS / (1 if e.has_shared else max(1, len(e.trial_arms) - 1))
    longer = max(e.switched_seconds, round(of_trials, 1))
    return replace(e, **RIGOROUS, switched_seconds=longer)  # type: ignore[arg-type]


def in_blocks(e: Experiment, blocks: int) -> Experiment:
    """The same with so many blocks."""
    fewest = min(e.min_blocks, max(1, blocks))
    return replace(allotment.without(e), blocks=blocks, min_blocks=fewest)


def _filled(e: Experiment, blocks: int, whole: float, enough: float) -> Experiment | None:
    """So many blocks with trials that fill the time; None if those would be too short."""
    trials = len(e.trial_arms) * blocks * len(e.workloads)
    longer = e.switched_seconds + (whole - _takes(e, blocks)) / trials
    shortest = max(enough, 16 * e.window_seconds)
    return in_blocks(_switching(e, longer), blocks) if longer >= shortest - 1e-6 else None


def _switching(e: Experiment, switched: float) -> Experiment:
    return replace(e, switched_seconds=round(switched, 1))


def _takes(e: Experiment, blocks: int) -> float:
    return replace(in_blocks(e, blocks), budget_seconds=None).expected_seconds()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
