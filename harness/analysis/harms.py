"""What happened to a service only with the collectors on: failures, a missed rate, a death.

These are outcomes of a collector, so trials that a rule of validity leaves out are looked at too.
`summary` calls it. Harms: as trials of medicines report them (CONSORT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from harness.analysis import tallies
from harness.analysis.compare import Array
from harness.analysis.tallies import Tally
from harness.analysis.validity import MAX_ERROR_SHARE, MIN_RATE_SHARE
from harness.model import Arm
from harness.plan.experiment import Experiment
from harness.results.run import TrialRecord

UNLIKELY = 0.001  # chance explains a harm that is told less often than this
DIED = "service_died"  # key of a trial's `extra`


@dataclass(frozen=True)
class Harm:
    """`on` and `off`: share of requests failed, share of the rate achieved, or trials and deaths.

    `p` is the one-sided probability of it by chance, None of a death. What is not `certain` may
    be chance, and is no failure, but nothing passes beside it.
    """

    workload: str
    arm: str
    kind: Literal["errors", "rate", "death"]
    on: float
    off: float
    p: float | None
    sentence: str
    certain: bool = True


def found(
    experiment: Experiment,
    counted: Mapping[tuple[str, str], Sequence[Tally]],
    every: Sequence[TrialRecord],
) -> Iterator[Harm]:
    """The harms of every workload and arm; `every` are all trials, also those measured again."""
    for workload in experiment.workloads:
        for arm in experiment.arms:
            if not arm.collectors:
                continue
            tally = tallies.join(counted.get((workload, arm.name), ()))
            if tally is not None:
                yield from _errors(workload, arm, tally)
                yield from _rate(workload, arm, tally)
            yield from _deaths(experiment, workload, arm, every)


def _errors(workload: str, arm: Arm, tally: Tally) -> Iterator[Harm]:
    on, off = tally.failed_share(True), tally.failed_share(False)
    p = _chance(tally, lambda t: t.failed / np.maximum(t.due, 1), MAX_ERROR_SHARE)
    if on - off > MAX_ERROR_SHARE and p < UNLIKELY:
        told = (
            f"{workload}, {arm.name}: {on:.2%} of {tally.due[:, 1].sum():,.0f} requests failed "
            f"{_with(arm)}, {off:.2%} {_without(arm)} (p {_p(p)})."
        )
        yield Harm(workload, arm.name, "errors", on, off, p, told)


def _rate(workload: str, arm: Arm, tally: Tally) -> Iterator[Harm]:
    on, off = tally.rate_share(True), tally.rate_share(False)
    p = _chance(tally, lambda t: 1 - t.answered / np.maximum(t.asked, 1e-9), 1 - MIN_RATE_SHARE)
    if on < MIN_RATE_SHARE and on < MIN_RATE_SHARE * off and p < UNLIKELY:
        told = (
            f"{workload}, {arm.name}: {on:.1%} of the rate was achieved {_with(arm)}, {off:.1%} "
            f"{_without(arm)} (p {_p(p)})."
        )
        yield Harm(workload, arm.name, "rate", on, off, p, told)


def _chance(tally: Tally, badness: Callable[[Tally], Array], limit: float) -> float:
    """One-sided p that on is no worse than off.

    Within groups that have both states (not every cycle of a fraction has a window with all of an
    arm's collectors on): a sign test, for which of them comes first is a coin. Of
    `block`: Fisher's exact test over seconds that are worse than `limit`.
    """
    worse, there = badness(tally), (tally.asked > 0) | (tally.due > 0)
    if tally.paired:
        worse = worse[there.all(axis=1)]
        differ = worse[:, 1] != worse[:, 0]
        more, n = int((worse[:, 1] > worse[:, 0]).sum()), int(differ.sum())
        return float(stats.binom.sf(more - 1, n, 0.5)) if n else 1.0
    bad = [int((worse[:, s] > limit)[there[:, s]].sum()) for s in (1, 0)]
    good = [int(there[:, s].sum()) - count for s, count in zip((1, 0), bad, strict=True)]
    return float(stats.fisher_exact(np.array([bad, good]), alternative="greater").pvalue)


def _deaths(
    experiment: Experiment, workload: str, arm: Arm, every: Sequence[TrialRecord]
) -> Iterator[Harm]:
    """Those in trials of the arm, unless the service also died in one with nothing installed.

    A service may die once by itself, and most trials have collectors: certain is only what comes
    again, in another block or in the trial that takes its place when the run is resumed. Nothing is
    where arms share their trials: no other collector was away, and no trial had none.
    """
    bare = {each.name for each in experiment.arms if not each.collectors}
    here = [r for r in every if r.trial.workload == workload]
    mine = [r for r in here if r.trial.arm == experiment.trial_arm(arm.name)]
    died = [r for r in mine if r.extra.get(DIED)]
    if not died or any(r.extra.get(DIED) for r in here if r.trial.arm in bare):
        return
    without = sum(r.trial.arm in bare for r in here)
    bare_too = f"in none of {without}" if without else "and there were none"
    told = (
        f"{workload}, {arm.name}: the service died in {len(died)} of {len(mine)} trials of this "
        f"arm, {bare_too} with nothing installed. {died[0].extra[DIED]}"
    )
    if len(died) == 1:
        told += " Once may be chance: `harness evaluate --resume` tries it again."
    if shared := mine[0].trial.arm != arm.name:
        others = ", ".join(experiment.arm(mine[0].trial.arm).collectors)
        told += f" Which of {others}, that share these trials, or whether any did it, is not known."
    certain = len(died) > 1 and not shared
    yield Harm(workload, arm.name, "death", len(mine), len(died), None, told, certain)


def _with(arm: Arm) -> str:
    return f"with {' and '.join(arm.collectors)} on" if arm.against else "with the collectors on"


def _without(arm: Arm) -> str:
    return f"with {' and '.join(arm.against)} on" if arm.against else "with them off"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
