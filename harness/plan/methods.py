"""By which method an arm is compared that names none; `experiment` and the CLI ask."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.collectors import subject
from harness.collectors.spec import is_placed
from harness.model import BASELINE, FACTORIAL, Arm
from harness.plan import design, saturation

if TYPE_CHECKING:
    from harness.plan.experiment import Experiment


def chosen(arms: Sequence[Arm], named: Collection[str] = (), stack: str = "sink") -> list[Arm]:
    """The arms, those that are not `named` (which say it themselves) with the method of choice.

    What a cluster runs on its nodes is installed and removed: nothing switches it. Somebody else's
    collector says itself how it is compared.
    Two or more arms whose collectors can be switched share their windows. Not so versions of one
    collector, of which nobody runs two at once, nor the same collectors twice, and not where
    backends are asked what each arm's telemetry costs them.
    """
    arms = [a if a.name in named else _unswitched(a) for a in arms]
    free = [
        a
        for a in arms
        if a.name not in named and a.collectors and not a.against and a.method == "switch"
    ]
    told = [a for a in arms if a.name in named and a.method == FACTORIAL]
    versions = _versions([*free, *told])
    sets = Counter(frozenset(a.collectors) for a in (*free, *told))
    shared = {
        a.name
        for a in free
        if not versions.intersection(a.collectors) and sets[frozenset(a.collectors)] == 1
    }
    if stack == "full" or len(shared) + len(told) < 2:
        shared = set()
    if (shared or told) and BASELINE not in named:
        shared.add(BASELINE)
    return [replace(a, method=FACTORIAL) if a.name in shared else a for a in arms]


def _unswitched(arm: Arm) -> Arm:
    """The same, by another method where nothing can switch its collectors."""
    if any(map(is_placed, arm.collectors)):
        return replace(arm, method="block")
    return replace(arm, method=subject.method(arm.collectors) or arm.method)


def _versions(arms: Sequence[Arm]) -> set[str]:
    """The collectors, as they are written, of which there is another version in these arms."""
    found: dict[str, set[str]] = defaultdict(set)
    for arm in arms:
        for spec in arm.collectors:
            found[spec.partition(":")[0]].add(spec)
    return {spec for specs in found.values() if len(specs) > 1 for spec in specs}


def apart(experiment: Experiment) -> Experiment:
    """The same with its factorial arms switched one after the other, in about the same time."""
    arms = [arm for arm in experiment.arms if arm.method == FACTORIAL]
    if not arms:
        return experiment
    least = 16 * experiment.window_seconds
    full, each = experiment.saturated_seconds, 16 * saturation.window_seconds(experiment)
    return replace(
        experiment,
        arms=tuple(replace(a, method="switch") if a in arms else a for a in experiment.arms),
        switched_seconds=max(least, round(experiment.switched_seconds / len(arms), 1)),
        saturated_seconds=full and max(each, round(full / len(arms), 1)),
    )


def problems(e: Experiment) -> Iterator[str]:
    """What is wrong with its factorial arms."""
    arms = [arm for arm in e.arms if arm.method == FACTORIAL]
    sets = [frozenset(arm.collectors) for arm in arms]
    if not e.has_shared:
        if arms:
            yield f"arm {arms[0].name!r} is factorial, and no arm with collectors is."
        return
    if any(arm.name == FACTORIAL for arm in e.arms):
        yield f"no arm can be named {FACTORIAL!r}: the trial is that factorial arms share."
    if len(set(sets)) < len(sets):
        yield 'two factorial arms have the same collectors: give one of them method = "switch".'
    if e.stack == "full":
        yield 'with stack = "full" arms are compared one by one: give them method = "switch".'
    if design.cycles(e) < 4:
        windows = design.cycle(len(design.factors(e)))
        yield f"switched_seconds must hold at least 4 cycles of {windows} windows."
