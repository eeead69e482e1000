"""How often intervals are right: coverage, false alarms, power; `calibration` calls it.

A comparison is what a short evaluation would have been: consecutive quadruples of one trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis import compare
from harness.analysis.compare import CONFIDENCE, Z_DETECT, Estimate, Quadruples
from harness.analysis.hierarchy import combine
from harness.model import WindowRow
from harness.plan.calibration import COMPARISON_SECONDS, LEAST_NULLS

FARTHEST = 2.0  # times what was measured: farther a bootstrap repeats its pieces
DRAWS = {10.0: 200, 30.0: 100, 60.0: 100, 300.0: 40}  # comparisons drawn for a power, by seconds

Estimator = Callable[[Quadruples], Estimate]


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
    """A trial whose effect is known: its quadruples, and the truth in us a request."""

    sample: Quadruples
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


def pick(sample: Quadruples, which: slice) -> Quadruples:
    """Some of the quadruples."""
    return Quadruples(
        sample.on[which], sample.off[which], sample.on_requests[which],
        sample.off_requests[which], sample.block[which],
    )  # fmt: skip


def cut(sample: Quadruples, n: int) -> list[Quadruples]:
    """Consecutive comparisons of `n` quadruples; what is left over at the end is not used."""
    return [pick(sample, slice(i, i + n)) for i in range(0, len(sample.on) - n + 1, n)]


def covered(trials: Sequence[Known], n: int, estimate: Estimator = combine) -> Share:
    """Comparisons of `n` quadruples whose 95 % interval contains the truth of their trial."""
    hits = [
        (value := estimate(part)).low <= trial.truth_us <= value.high
        for trial in trials
        for part in cut(trial.sample, n)
    ]
    return share(sum(hits), len(hits))


def false_alarms(
    nulls: Sequence[Quadruples],
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
    usable = [trial for trial in nulls if len(trial.on) >= n]
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


def _redraw(nulls: Sequence[Quadruples], n: int, random: np.random.Generator) -> Quadruples:
    weights = np.array([len(trial.on) for trial in nulls], dtype=float)
    trial = nulls[random.choice(len(nulls), p=weights / weights.sum())]
    begin = int(random.integers(len(trial.on) - n + 1))
    part = pick(trial, slice(begin, begin + n))
    swap = random.random(n) < 0.5
    return Quadruples(
        np.where(swap, part.off, part.on), np.where(swap, part.on, part.off),
        np.where(swap, part.off_requests, part.on_requests),
        np.where(swap, part.on_requests, part.off_requests), part.block,
    )  # fmt: skip


def of_off_windows(rows: Sequence[WindowRow], seed: int, block: int) -> Quadruples:
    """A/A quadruples made of a trial's off windows alone, in their order, relabelled.

    Nothing was attached in any of them, so that their true difference is zero, while everything
    else was as in the trial. Each four become off-on-on-off or its mirror by a coin of the seed.
    They span twice the time of the trial's own quadruples, so that drift disturbs them more.
    """
    return relabelled([row for row in rows if not row.window.on], seed, block)


def relabelled(rows: Sequence[WindowRow], seed: int, block: int) -> Quadruples:
    """Windows in which nothing was attached as A/A quadruples."""
    n = len(rows) // 4
    shape = (n, 4)
    cpu = np.array([row.meters["cpu.workload"] for row in rows[: 4 * n]]).reshape(shape)
    requests = np.array([row.meters["requests"] for row in rows[: 4 * n]]).reshape(shape)
    swap = np.random.default_rng(seed).random(n) < 0.5
    sides = []
    for inner in (~swap, swap):
        columns = np.where(inner[:, None], [[1, 2]], [[0, 3]])
        sides.append([np.take_along_axis(a, columns, 1).sum(axis=1) for a in (cpu, requests)])
    (on_cpu, on_requests), (off_cpu, off_requests) = sides
    good = (on_requests > 0) & (off_requests > 0)
    on, off = 1e6 * on_cpu[good] / on_requests[good], 1e6 * off_cpu[good] / off_requests[good]
    blocks = np.full(int(good.sum()), block, dtype=np.int64)
    return Quadruples(on, off, on_requests[good], off_requests[good], blocks)


def power(
    trials: Sequence[Quadruples],
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
    usable = [trial for trial in trials if len(trial.on) >= piece]
    measured = quadruple_seconds * sum(len(trial.on) for trial in usable)
    if not usable or seconds > FARTHEST * measured:
        return share(0, 0)
    pieces = max(1, round(seconds / COMPARISON_SECONDS))
    random = np.random.default_rng(seed)
    draws = DRAWS.get(seconds, 100)
    found = 0
    for _ in range(draws):
        parts = []
        for _ in range(pieces):
            trial = usable[int(random.integers(len(usable)))]
            begin = int(random.integers(len(trial.on) - piece + 1))
            parts.append(pick(trial, slice(begin, begin + piece)))
        value = estimate(compare.join(parts))
        found += value.low > 0
    return share(found, draws)


def detectable(standard_error: float, seconds: float, after_seconds: float) -> float:
    """The smallest effect seen with 80 % power after so long, in the unit of the error.

    `standard_error` is that of `seconds` of alternation; it falls with the root of time.
    """
    return Z_DETECT * standard_error * math.sqrt(seconds / after_seconds)
