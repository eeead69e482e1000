"""What cost would be seen, by what earlier runs on a machine saw; `foretold` says it."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import stats

from harness.analysis import compare, ranks, stretches
from harness.model import Arm, Comparison, WindowRow
from harness.plan import parts
from harness.plan.experiment import Experiment

_SHARE = "workload_cpu_percent"


def _none(_workload: str) -> Iterable[Sequence[WindowRow]]:
    return ()


@dataclass(frozen=True)
class Past:
    """An earlier run: what was planned, and the rows of its report by workload, arm and metric.

    `in_halves`: its trials by `block` had two parts, whose difference holds more of a drift.
    `windows` gives those of trials of a workload in which collectors were switched, `parts` those
    of trials in which a collector alone came and went, by how it is written.
    """

    name: str
    experiment: Experiment
    rows: Mapping[tuple[str, str, str], Comparison]
    in_halves: bool = False
    windows: Callable[[str], Iterable[Sequence[WindowRow]]] = _none
    parts: Callable[[str], Iterable[Sequence[WindowRow]]] = _none


@dataclass(frozen=True)
class Foreseen:
    """The smallest cost of one collector that a method would see, in percent of a request's CPU.

    `run` is the one that this follows from; without one `percent` is NaN. `at_most`: that run would
    have seen less, had it been one of today; `at_least`: it follows from windows in which nothing
    came or went. `lacking`: what more of is needed for an interval: blocks, or time for them.
    """

    workload: str
    method: str
    percent: float = math.nan
    run: str = ""
    at_most: bool = False
    at_least: bool = False
    lacking: str = ""


@dataclass(frozen=True)
class Moving:
    """How long a DaemonSet took to come and to go, in seconds, in a run of this name.

    `more` is how much longer all of a plan takes than it reckons with.
    """

    spec: str
    coming: float
    going: float
    run: str
    more: float


def moving(e: Experiment, past: Sequence[Past], skipped: Collection[str] = ()) -> Iterator[Moving]:
    """For each DaemonSet that is moved alone, by the first of `past` that moved it.

    Nothing for an arm that is `skipped`.
    """
    times = sum(map(e.blocks_of, e.workloads)) * (parts.TIMES + 1) * _in_budget(e)  # and metered
    for arm in e.arms:
        if arm.name in skipped or not parts.is_moved(arm) or len(arm.collectors) > 1:
            continue
        (spec,) = arm.collectors
        for each in past:
            if found := _moved(each.parts(spec), each.experiment.settle_seconds):
                yield Moving(spec, *found, each.name, (sum(found) - parts.MOVE_SECONDS) * times)
                break


def _moved(trials: Iterable[Sequence[WindowRow]], settle: float) -> tuple[float, float] | None:
    """The medians of coming and going: what is between two parts but for settling."""
    took: dict[bool, list[float]] = {True: [], False: []}
    for rows in trials:
        for before, after in itertools.pairwise(row.window for row in rows):
            took[after.on].append((after.start_ns - before.end_ns) / 1e9 - settle)
    if not all(took.values()):
        return None
    return statistics.median(took[True]), statistics.median(took[False])


def foreseen(
    e: Experiment, past: Sequence[Past], skipped: Collection[str] = ()
) -> Iterator[Foreseen]:
    """For each workload and method, by the first of `past` that measured it so, under its load.

    Nothing for a method whose arms are all `skipped`.
    The squared error is taken to shrink with the number of processes (blocks) or with the time that
    is measured, whichever is more cautious; it is that of the worst arm, held to the level of as
    many comparisons as are planned now. How noisy the machine is may differ.
    """
    coming = [arm for arm in e.arms if arm.collectors and arm.name not in skipped]
    for workload in e.workloads:
        for method in dict.fromkeys(arm.method for arm in coming):
            if lacking := _lacking(e, workload, method):
                yield Foreseen(workload, method, lacking=lacking)
                continue
            known = (way(e, each, workload, method) for way in _WAYS for each in past)
            yield next(filter(None, known), Foreseen(workload, method))


def _lacking(e: Experiment, workload: str, method: str) -> str:
    """What there is too little of for an interval over trials by `block`, which has no pilot."""
    if method != "block":
        return ""
    if e.blocks_of(workload) < ranks.LEAST:
        return "blocks"
    return "time" if e.blocks_of(workload) * _in_budget(e) < ranks.LEAST else ""


def _by(e: Experiment, past: Past, workload: str, method: str) -> Foreseen | None:
    then = past.experiment
    if workload not in then.workloads or _conditions(then, workload) != _conditions(e, workload):
        return None
    single = [arm for arm in then.arms if arm.method == method and len(arm.collectors) == 1]
    rows = [past.rows.get((workload, arm.name, _SHARE)) for arm in single]
    seen = [row.mde for row in rows if row is not None and math.isfinite(row.mde)]
    ours = [arm for arm in e.arms if arm.method == method and arm.collectors]
    if not seen or not ours:
        return None
    blocks = e.blocks_of(workload) * _in_budget(e)
    time = max(_seconds(then, workload, single)) * then.blocks_of(workload)
    more = [
        blocks / then.blocks_of(workload),
        min(_seconds(e, workload, ours)) * blocks / time,
    ]
    if e.awaits_pilot:  # which decides both, within the same time as a whole
        more = [_share(e) / _share(then)]
    stricter = compare.z_detect(_comparisons(e)) / compare.z_detect(_comparisons(then))
    percent = max(seen) * stricter / math.sqrt(min(more))
    at_most = past.in_halves and method == "block"
    return Foreseen(workload, method, _until_stopped(e, percent), past.name, at_most)


def _by_windows(e: Experiment, past: Past, workload: str, method: str) -> Foreseen | None:
    """What trials by `block` would see, where no run has some: by windows that follow each other.

    Of as many trials as are planned, with Student's quantile, as an interval over them has it.
    """
    if method != "block" or _conditions(past.experiment, workload) != _conditions(e, workload):
        return None
    ours = [arm for arm in e.arms if arm.method == method and arm.collectors]
    blocks = e.blocks_of(workload) * _in_budget(e)
    spread = stretches.spread_percent(past.windows(workload), min(_seconds(e, workload, ours)))
    if math.isnan(spread):
        return None
    wider = float(stats.t.ppf((1 + compare.CONFIDENCE) / 2, blocks - 1)) / compare.Z_CONFIDENCE
    percent = compare.z_detect(_comparisons(e)) * wider * spread / math.sqrt(blocks)
    return Foreseen(workload, method, _until_stopped(e, percent), past.name, at_least=True)


_WAYS = (_by, _by_windows)


def _until_stopped(e: Experiment, percent: float) -> float:
    """The same, or what is left to be seen where it stops at a precision."""
    if e.precision_percent is None:
        return percent
    return max(percent, e.precision_percent * compare.Z_DETECT / compare.Z_CONFIDENCE)


def _conditions(e: Experiment, workload: str) -> tuple[object, ...]:
    """What decides how noisy it is, of what is planned."""
    return e.load(workload), e.stack, e.service_cpus, e.load_workers


def _comparisons(e: Experiment) -> int:
    return len(e.workloads) * sum(bool(arm.collectors) for arm in e.arms)


def _seconds(e: Experiment, workload: str, arms: Sequence[Arm]) -> list[float]:
    """How long each arm is measured in a block."""
    given = e.allotted[workload].seconds if workload in e.allotted else {}
    return [given.get(e.trial_arm(arm.name), e.switched_seconds) for arm in arms]


def _in_budget(e: Experiment) -> float:
    """Which part of the blocks there is time for; what a pilot gives is within its time."""
    if e.pilot_blocks or e.budget_seconds is None:
        return 1.0
    whole = replace(e, budget_seconds=None).expected_seconds()
    return e.expected_seconds() / whole


def _share(e: Experiment) -> float:
    """The seconds that there are for the trials of an arm of a workload."""
    return e.expected_seconds() / (len(e.workloads) * len(e.trial_arms))
