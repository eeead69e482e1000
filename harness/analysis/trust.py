"""How often intervals are right: coverage, false alarms, power; `proof` calls it.

A comparison is what a short evaluation would have been: consecutive quadruples of one trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from harness.analysis import redraw, switched
from harness.analysis.compare import CONFIDENCE, Z_DETECT, Estimate
from harness.analysis.effects import Windows
from harness.analysis.switched import combine
from harness.model import WindowRow
from harness.plan.calibration import COMPARISON_SECONDS, LEAST_NULLS

FARTHEST = 2.0  # times what was measured: farther a bootstrap repeats its pieces
DRAWS = {10.0: 200, 30.0: 100, 60.0: 100, 300.0: 40}  # comparisons drawn for a power, by seconds
APART_SECONDS, APART_GROUPS = 1e6, 1_000_000  # of pieces that are put together

Estimator = Callable[[Windows], Estimate]


@dataclass(frozen=True)
class Share:
    """`k` of `n`, with the exact 95 % interval of the probability behind it."""

    k: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """k / n; NaN of nothing."""
        return self.k / self.n if self.n else math.nan


@dataclass(frozen=True)
class Known:
    """A trial whose effect is known: its windows, and the truth in us a request."""

    sample: Windows
    truth_us: float


@dataclass(frozen=True)
class Alarms:
    """Comparisons of nothing with nothing: those called an effect, real ones and redrawn ones."""

    real: Share
    redrawn: Share
    both: Share


def share(k: int, n: int) -> Share:
    """Clopper and Pearson's interval; 0 to 1 of nothing."""
    if not n:
        return Share(0, 0, 0.0, 1.0)
    interval = stats.binomtest(k, n).proportion_ci(CONFIDENCE, method="exact")
    return Share(k, n, float(interval.low), float(interval.high))


def quadruples(sample: Windows) -> int:
    """How many there are of one trial's."""
    return len(np.unique(sample.group))


def pick(sample: Windows, which: slice) -> Windows:
    """Some of the quadruples of one trial, in their order."""
    return sample.pick(np.isin(sample.group, np.unique(sample.group)[which]))


def cut(sample: Windows, n: int) -> list[Windows]:
    """Consecutive comparisons of `n` quadruples; what is left over at the end is not used."""
    return [pick(sample, slice(i, i + n)) for i in range(0, quadruples(sample) - n + 1, n)]


def covered(trials: Sequence[Known], n: int, estimate: Estimator = combine) -> Share:
    """Comparisons of `n` quadruples whose 95 % interval contains the truth of their trial."""
    hits = [
        (value := estimate(part)).low <= trial.truth_us <= value.high
        for trial in trials
        for part in cut(trial.sample, n)
    ]
    return share(sum(hits), len(hits))


def false_alarms(
    nulls: Sequence[Windows],
    n: int,
    seed: int,
    least: int = LEAST_NULLS,
    estimate: Estimator = combine,
) -> Alarms:
    """Comparisons of `n` quadruples of A/A trials that exclude zero.

    Where there are fewer than `least`, more are drawn: consecutive quadruples of a random trial
    from a random place, each with its states exchanged by a fair coin, which under no effect is
    as likely as what happened.
    """
    real = [alarm(estimate(part)) for trial in nulls for part in cut(trial, n)]
    random = np.random.default_rng(seed)
    usable = [trial for trial in nulls if quadruples(trial) >= n]
    missing = max(0, least - len(real)) if usable else 0
    redrawn = [alarm(estimate(_redraw(usable, n, random))) for _ in range(missing)]
    return Alarms(
        share(sum(real), len(real)),
        share(sum(redrawn), len(redrawn)),
        share(sum(real) + sum(redrawn), len(real) + len(redrawn)),
    )


def alarm(value: Estimate) -> bool:
    """Whether the interval excludes zero."""
    return value.low > 0 or value.high < 0


def _redraw(nulls: Sequence[Windows], n: int, random: np.random.Generator) -> Windows:
    weights = np.array([quadruples(trial) for trial in nulls], dtype=float)
    trial = nulls[random.choice(len(nulls), p=weights / weights.sum())]
    begin = int(random.integers(quadruples(trial) - n + 1))
    part = pick(trial, slice(begin, begin + n))
    return replace(part, states=redraw.redrawn(part, random))


def of_off_windows(rows: Sequence[WindowRow], seed: int, block: int) -> Windows:
    """A/A quadruples made of a trial's off windows alone, in their order, relabelled.

    Nothing was attached in any of them, so that their true difference is zero, while everything
    else was as in the trial. Each four become off-on-on-off or its mirror by a coin of the seed.
    They span twice the time of the trial's own quadruples, so that drift disturbs them more.
    """
    return relabelled([row for row in rows if not row.window.on], seed, block)


def relabelled(rows: Sequence[WindowRow], seed: int, block: int) -> Windows:
    """Windows in which nothing was attached as A/A quadruples."""
    n = len(rows) // 4
    first = np.random.default_rng(seed).random(n) < 0.5
    states = np.column_stack([first, ~first, ~first, first]).ravel()
    return switched.windows(
        [
            WindowRow(replace(row.window, quadruple=i // 4, on=bool(on)), row.meters)
            for i, (row, on) in enumerate(zip(rows, states, strict=False))
        ],
        ("cpu.workload",),
        block=block,
    )


def power(
    trials: Sequence[Windows],
    quadruple_seconds: float,
    seconds: float,
    seed: int,
    estimate: Estimator = combine,
) -> Share:
    """Comparisons of this length that find the arm's effect, drawn again from its trials.

    Each is put together of pieces of COMPARISON_SECONDS, consecutive quadruples from a random
    place of a random trial: a block bootstrap (Kuensch 1989), which keeps what neighbours share.
    0 of 0 for more than FARTHEST times what was measured.
    """
    piece = max(6, round(COMPARISON_SECONDS / quadruple_seconds))
    usable = [trial for trial in trials if quadruples(trial) >= piece]
    measured = quadruple_seconds * sum(quadruples(trial) for trial in usable)
    if not usable or seconds > FARTHEST * measured:
        return share(0, 0)
    pieces = max(1, round(seconds / COMPARISON_SECONDS))
    random = np.random.default_rng(seed)
    draws = DRAWS.get(seconds, 100)
    found = 0
    for _ in range(draws):
        parts = []
        for number in range(pieces):
            trial = usable[int(random.integers(len(usable)))]
            begin = int(random.integers(quadruples(trial) - piece + 1))
            part = pick(trial, slice(begin, begin + piece))
            parts.append(_later(part, number))
        value = estimate(switched.join(parts))
        found += value.low > 0
    return share(found, draws)


def _later(part: Windows, number: int) -> Windows:
    """A piece as if it had been measured long after the one before."""
    return replace(
        part, time=part.time - part.time[0] + number * APART_SECONDS,
        group=part.group + number * APART_GROUPS,
    )  # fmt: skip


def detectable(standard_error: float, seconds: float, after_seconds: float) -> float:
    """The smallest effect seen with 80 % power after so long, in the unit of the error.

    `standard_error` is that of `seconds` of alternation; it falls with the root of time.
    """
    return Z_DETECT * standard_error * math.sqrt(seconds / after_seconds)
