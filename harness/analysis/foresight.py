"""What cost would be seen, by what earlier runs on a machine saw; `foretold` says it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.model import Arm, Comparison
from harness.plan.experiment import Experiment

_SHARE = "workload_cpu_percent"


@dataclass(frozen=True)
class Past:
    """An earlier run: what was planned, and the rows of its report by workload, arm and metric."""

    name: str
    experiment: Experiment
    rows: Mapping[tuple[str, str, str], Comparison]


@dataclass(frozen=True)
class Foreseen:
    """The smallest cost of one collector that a method would see, in percent of a request's CPU.

    `run` is the one that this follows from; without one `percent` is NaN.
    """

    workload: str
    method: str
    percent: float = math.nan
    run: str = ""


def foreseen(e: Experiment, past: Sequence[Past]) -> Iterator[Foreseen]:
    """For each workload and method, by the first of `past` that measured it so, under its load.

    The squared error is a part that shrinks with the number of processes (blocks) and a part that
    shrinks with the time measured. It is divided by how much there is more of whichever grew
    less, so that it is not foreseen too small; how noisy the machine is may differ.
    """
    for workload in e.workloads:
        for method in dict.fromkeys(arm.method for arm in e.arms if arm.collectors):
            known = (_by(e, each, workload, method) for each in past)
            yield next(filter(None, known), Foreseen(workload, method))


def _by(e: Experiment, past: Past, workload: str, method: str) -> Foreseen | None:
    then = past.experiment
    if workload not in then.workloads or then.load(workload) != e.load(workload):
        return None
    single = [arm for arm in then.arms if arm.method == method and len(arm.collectors) == 1]
    rows = [past.rows.get((workload, arm.name, _SHARE)) for arm in single]
    seen = [row.mde for row in rows if row is not None and math.isfinite(row.mde)]
    ours = [arm for arm in e.arms if arm.method == method and arm.collectors]
    time = _seconds(then, workload, single)
    if not seen or not time or not ours:
        return None
    more = [e.blocks_of(workload) / then.blocks_of(workload), _seconds(e, workload, ours) / time]
    if e.awaits_pilot:  # which decides both, within the same time as a whole
        more = [_share(e) / _share(then)]
    return Foreseen(workload, method, median(seen) / math.sqrt(min(more)), past.name)


def _seconds(e: Experiment, workload: str, arms: Sequence[Arm]) -> float:
    """How long an arm of these is measured in all blocks: of those that differ, the shortest."""
    if workload in e.allotted:
        given = e.allotted[workload].seconds
        each = [given.get(e.trial_arm(arm.name), e.switched_seconds) for arm in arms]
    else:
        each = [e.switched_seconds for _ in arms]
    return e.blocks_of(workload) * min(each, default=0.0)


def _share(e: Experiment) -> float:
    """The seconds that there are for the trials of an arm of a workload."""
    return e.expected_seconds() / (len(e.workloads) * len(e.trial_arms))
