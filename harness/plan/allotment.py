"""How long each service is measured where a pilot decides it, and in which order; for `experiment`.

The pilot is the first blocks of every service. What was decided from them is kept in run.json, and
read from there: an experiment that has been decided is one like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.plan.experiment import Experiment


@dataclass(frozen=True)
class Allotment:
    """What a service got: its blocks with those of the pilot, and the seconds of windows that each
    arm's trials have in the blocks after the pilot.
    """

    blocks: int
    seconds: Mapping[str, float] = field(default_factory=dict)


def told(decision: Mapping[str, Any]) -> dict[str, Allotment]:
    """The services' shares of a decision as run.json keeps it; empty before one."""
    return {
        workload: Allotment(int(each["blocks"]), dict(each["seconds"]))
        for workload, each in decision.get("workloads", {}).items()
    }


def order(e: Experiment) -> Iterator[tuple[str, int]]:
    """Service and number of each block: a pilot's by turns, then the others', evenly spread.

    So what the clock cuts off is not all of one service, nor does one have the machine's worst
    quarter of an hour. Without a pilot one service comes after the other.
    """
    first = e.pilot_blocks
    if not first:
        yield from ((workload, block) for workload in e.workloads for block in range(e.blocks))
        return
    yield from ((workload, block) for block in range(first) for workload in e.workloads)
    more = {workload: e.blocks_of(workload) - first for workload in e.workloads}
    turns = sorted(
        ((i + 0.5) / number, e.workloads.index(workload), i)
        for workload, number in more.items()
        for i in range(number)
    )
    yield from ((e.workloads[place], first + i) for _, place, i in turns)


def without(e: Experiment) -> Experiment:
    """The same with `blocks` of every service, all of them whole, and no clock that divides."""
    if not e.pilot_blocks:
        return e
    return replace(e, pilot_blocks=0, metered_blocks=0, budget_seconds=None, allotted={})


def of(e: Experiment, workloads: int) -> Experiment:
    """The same with the time of so many of its services, where a pilot divides it."""
    if not e.pilot_blocks or e.budget_seconds is None:
        return e
    return replace(e, budget_seconds=round(e.budget_seconds * workloads / len(e.workloads), 1))


def plan(e: Experiment) -> Iterator[str]:
    """What is fixed and what the pilot decides, a line each; none without a pilot."""
    if not e.pilot_blocks or e.budget_seconds is None:
        return
    yield (
        f"  pilot: {e.pilot_blocks} blocks of each workload, {e.switched_seconds:g} s of windows a "
        "trial"
    )
    if e.metered_blocks:
        yield (
            f"  each workload has at least {e.metered_blocks} blocks; steady and metered parts are "
            "in those, windows alone in further ones"
        )
    if e.allotted:
        yield f"  the pilot has decided: {shares(e)}"
        return
    yield (
        f"  the pilot decides how many more blocks of what length each workload gets in "
        f"{e.budget_seconds / 60:.3g} minutes: by variances alone, so that the widest interval "
        "becomes as narrow as it can; seeds, arms and windows are fixed"
    )


def shares(e: Experiment) -> str:
    """What every service got after the pilot, in a phrase."""
    return ", ".join(
        f"{workload} {given.blocks - e.pilot_blocks} more of {_lengths(given)}"
        if given.blocks > e.pilot_blocks
        else f"{workload} none"
        for workload, given in e.allotted.items()
    )


def _lengths(given: Allotment) -> str:
    found = sorted(given.seconds.values())
    if not found or found[-1] - found[0] < 0.05:
        return f"{found[0] if found else 0:.1f} s"
    return f"{found[0]:.1f} to {found[-1]:.1f} s an arm"


def problems(e: Experiment) -> Iterator[str]:
    """What is wrong with its pilot."""
    if e.metered_blocks < 0:
        yield "metered_blocks must not be negative."
    if not e.pilot_blocks:
        return
    if e.pilot_blocks < 2:
        yield "pilot_blocks must be at least 2: one process does not tell how much they differ."
    if e.budget_seconds is None:
        yield "a pilot needs budget_seconds: the time that it divides."
    if any(arm.method == "block" for arm in e.arms):
        yield (
            "a pilot needs arms that compare within a trial: with method block a trial is one "
            "difference. Set pilot_blocks = 0."
        )
