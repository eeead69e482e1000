"""Simulates what the statistics of CPU promise: bias, coverage, false alarms; prints tables.

python ci/prove_statistics.py [REPETITIONS]: some minutes for 1,000. docs/adr/0019 has the tables.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from harness.analysis import effects, hierarchy, ranks
from harness.analysis.compare import Estimate
from harness.analysis.effects import Windows
from harness.analysis.hierarchy import Within
from harness.plan.experiment import pattern

Array = NDArray[np.float64]
Random = np.random.Generator

LEVEL, NOISE, SECONDS = 100.0, 6.0, 0.05  # us a request, per cent of a window, length of one
QUADRUPLES = 48
EFFECT = 2.0


def normal(random: Random, n: int) -> Array:
    """White noise."""
    return NOISE * random.standard_normal(n)


def heavy(random: Random, n: int) -> Array:
    """White noise of Student's t with 3 degrees of freedom."""
    return NOISE / math.sqrt(3) * random.standard_t(3, n)


def autoregressive(random: Random, n: int) -> Array:
    """Noise that resembles its neighbour by 0.9."""
    found, white = np.empty(n), NOISE * random.standard_normal(n)
    found[0] = white[0]
    for i in range(1, n):
        found[i] = 0.9 * found[i - 1] + math.sqrt(1 - 0.81) * white[i]
    return found


def spikes(random: Random, n: int) -> Array:
    """One window in ten costs up to half as much again."""
    return normal(random, n) + (random.random(n) < 0.1) * 50 * random.random(n)


def collections(random: Random, n: int) -> Array:
    """A collection of garbage each nine windows lasts two and costs up to five requests."""
    found = normal(random, n)
    at = np.cumsum(random.poisson(9, n))
    for place in at[at < n - 1]:
        found[place : place + 2] += 500 * random.random()
    return found


def steps(random: Random, n: int) -> Array:
    """The level jumps by a third, five times."""
    found = normal(random, n)
    for place in random.integers(0, n, 5):
        found[place:] += 33 * random.choice([-1, 1])
    return found


def swing(random: Random, n: int) -> Array:
    """A slow swing of 15 %, period 3 s."""
    found = normal(random, n)
    found += 15 * np.sin(2 * np.pi * (np.arange(n) * SECONDS / 3 + random.random()))
    return found


def periodic(random: Random, n: int) -> Array:
    """A disturbance in step with the quadruples: a tenth of a request each 0.2 s."""
    found = normal(random, n)
    found += 10 * (np.arange(n) % 4 == 1)
    return found


MACHINES = (normal, heavy, autoregressive, spikes, collections, steps, swing, periodic)


def switched(random: Random, quadruples: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """States and groups of one collector."""
    states = np.array(pattern(quadruples, int(random.integers(1 << 31))))
    return states[:, None], np.arange(4 * quadruples) // 4


def factorial(
    random: Random, factors: int, windows: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """States and groups of several: every combination once a cycle, in random order."""
    size = 2**factors
    every = (np.arange(size)[:, None] >> np.arange(factors)) % 2 == 1
    cycles = max(1, windows // size)
    states = np.concatenate([every[random.permutation(size)] for _ in range(cycles)])
    return states, np.arange(cycles * size) // size


def windows(random: Random, machine: Callable[[Random, int], Array], factors: int) -> Windows:
    """One process whose factors each cost EFFECT, the last none."""
    design = switched(random, QUADRUPLES) if factors == 1 else factorial(
        random, factors, 4 * QUADRUPLES
    )  # fmt: skip
    states, group = design
    n = len(states)
    costs = np.full(factors, EFFECT)
    costs[-1] = 0.0
    value = LEVEL + machine(random, n) + states @ costs
    zeros = np.zeros(n, dtype=np.int64)
    time = SECONDS * np.arange(n, dtype=np.float64)
    return Windows(value, np.ones(n), states, group, zeros, time)


def quadruples(found: Windows) -> Within:
    """Hodges-Lehmann over the same windows."""
    signed = np.where(found.states[:, 0], found.value, -found.value).reshape(-1, 4).sum(axis=1) / 2
    whole = ranks.hodges_lehmann(signed)
    return Within(whole, (whole,), (1.0,), ranks.signed_rank_p(signed))


def machines(reps: int) -> Iterator[str]:
    """Tables of one process: of the factor that costs nothing, by machine and number of factors."""
    yield (
        "| machine | factors | bias, SE | coverage % | p < 5 % | p < 0.33 % | SE / true "
        "| width / HL | HL coverage % |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for machine in MACHINES:
        for factors in (1, 2, 4):
            random = np.random.default_rng([factors, len(machine.__name__)])
            found, other = [], []
            for _ in range(reps):
                made = windows(random, machine, factors)
                contrast = np.eye(factors)[-1]
                found.append(effects.fit(made, [contrast])[0])
                if factors == 1:
                    other.append(quadruples(made).whole)
            yield _line(machine.__name__, factors, found, other)


def _line(name: str, factors: int, found: list[effects.Effect], other: list[Estimate]) -> str:
    errors = np.array([e.estimate for e in found])
    told = np.array([e.standard_error for e in found])
    p = np.array([e.p for e in found])
    covered = 100 * np.mean([e.interval.low <= 0 <= e.interval.high for e in found])
    width = np.median([e.interval.high - e.interval.low for e in found])
    ratio, theirs = "", ""
    if other:
        ratio = f"{width / np.median([e.high - e.low for e in other]):.2f}"
        theirs = f"{100 * np.mean([e.low <= 0 <= e.high for e in other]):.1f}"
    return (
        f"| {name} | {factors} | {errors.mean() / errors.std():+.2f} | {covered:.1f} "
        f"| {100 * np.mean(p < 0.05):.1f} | {100 * np.mean(p < 0.0033):.2f} "
        f"| {told.mean() / errors.std():.2f} | {ratio} | {theirs} |"
    )


def processes(reps: int) -> Iterator[str]:
    """Tables of heterogeneity: normal blocks of unit error, apart by tau, alone and together."""
    yield "| arms | blocks | tau / s | all move | coverage % (width), one pool | each arm alone |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for arms in (1, 5):
        for blocks in (2, 3, 4, 6):
            for tau in (0.0, 0.5, 1.0, 2.0):
                for together in (False, True) if tau and arms > 1 else (False,):
                    random = np.random.default_rng([arms, blocks, int(10 * tau), together])
                    yield _processes(random, reps, arms, blocks, tau, together)


def sums(reps: int) -> Iterator[str]:
    """Table of arms of four collectors in shared windows, and of their sum: twice the error."""
    yield (
        "| blocks | tau / s | all move "
        "| coverage %: each of four | their sum, alone | in one pool |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for blocks in (2, 4, 12):
        for tau in (0.0, 0.5, 1.0, 2.0):
            for together in (False, True) if tau else (False,):
                random = np.random.default_rng([blocks, int(10 * tau), together])
                yield _sums(random, reps, blocks, tau, together)


def _sums(random: Random, reps: int, blocks: int, tau: float, together: bool) -> str:
    hits = np.zeros(3)
    for _ in range(reps):
        values = tau * random.standard_normal((1 if together else 4, blocks))
        values = values + random.standard_normal((4, blocks))
        four = [_within(each, np.ones(blocks)) for each in values]
        whole = _within(values.sum(axis=0), 2 * np.ones(blocks))
        for which, (arm, pool) in enumerate(
            ((four[0], four), (whole, [whole]), (whole, [*four, whole]))
        ):
            e = hierarchy.widened(arm, hierarchy.pooled(pool))
            hits[which] += e.low <= 0 <= e.high
    each = " | ".join(f"{share:.1f}" for share in 100 * hits / reps)
    return f"| {blocks} | {tau:g} | {'yes' if together else 'no'} | {each} |"


SIZES = (0.3, 0.5, 1.0, 3.0, 50.0, 130.0, 330.0, 670.0)  # per cent of the level


def sizes(reps: int) -> Iterator[str]:
    """Table of arms of very different size, whose processes differ by tau and by a share of each.

    Of each kind of pool: the coverage and, in brackets, the width against equal blocks.
    """
    yield (
        "| blocks | tau / s | share % | pool | "
        + " | ".join(f"{size:g} %" for size in SIZES)
        + " |\n|"
        + " --- |" * (len(SIZES) + 4)
    )
    for blocks in (3, 5):
        for tau, share in ((0.0, 0.0), (0.0, 2.0), (1.0, 0.0), (1.0, 2.0)):
            yield from _sizes(
                np.random.default_rng([blocks, int(tau), 7]), reps, blocks, tau, share
            )


def _sizes(random: Random, reps: int, blocks: int, tau: float, share: float) -> Iterator[str]:
    effects = np.array(SIZES)[:, None]
    hits, widths = np.zeros((2, len(effects))), np.zeros((2, len(effects)))
    for _ in range(reps):
        own = np.hypot(tau, share / 100 * effects) * random.standard_normal((len(effects), blocks))
        errors = np.exp(0.3 * random.standard_normal(own.shape))
        values = effects + own + errors * random.standard_normal(own.shape)
        mine = [_within(v, e) for v, e in zip(values, errors, strict=True)]
        pools = [hierarchy.pooled(mine)] * len(mine), hierarchy.by_size(mine, [LEVEL] * len(mine))
        for which, pool in enumerate(pools):
            for i, (arm, between) in enumerate(zip(mine, pool, strict=True)):
                e = hierarchy.widened(arm, between)
                hits[which, i] += e.low <= SIZES[i] <= e.high
                widths[which, i] += (e.high - e.low) / (arm.whole.high - arm.whole.low)
    for which, name in enumerate(("one", "by size")):
        cells = [
            f"{100 * h / reps:.1f} ({w / reps:.2f})"
            for h, w in zip(hits[which], widths[which], strict=True)
        ]
        yield f"| {blocks} | {tau:g} | {share:g} | {name} | {' | '.join(cells)} |"


def _processes(
    random: Random, reps: int, arms: int, blocks: int, tau: float, together: bool
) -> str:
    hits = np.zeros(2)
    widths = np.zeros(2)
    for _ in range(reps):
        own = tau * random.standard_normal((1 if together else arms, blocks))
        errors = np.exp(0.3 * random.standard_normal((arms, blocks)))
        values = own + errors * random.standard_normal((arms, blocks))
        mine = [_within(v, e) for v, e in zip(values, errors, strict=True)]
        pool = hierarchy.pooled(mine)
        for arm in mine:
            for which, between in enumerate((pool, hierarchy.pooled([arm]))):
                e = hierarchy.widened(arm, between)
                hits[which] += e.low <= 0 <= e.high
                widths[which] += (e.high - e.low) / (arm.whole.high - arm.whole.low)
    share, width = 100 * hits / reps / arms, widths / reps / arms
    return (
        f"| {arms} | {blocks} | {tau:g} | {'yes' if together else 'no'} "
        f"| {share[0]:.1f} ({width[0]:.2f}) | {share[1]:.1f} ({width[1]:.2f}) |"
    )


def _within(values: Array, errors: Array) -> Within:
    shares = errors**-2 / np.sum(errors**-2)
    centre, error = float(shares @ values), float(np.sum(errors**-2)) ** -0.5
    each = [_estimate(v, e) for v, e in zip(values, errors, strict=True)]
    return Within(_estimate(centre, error), tuple(each), tuple(shares.tolist()), math.nan)


def _estimate(value: float, error: float) -> Estimate:
    return Estimate(value, value - 1.96 * error, value + 1.96 * error, 50)


def main(arguments: list[str]) -> None:
    """Print the tables."""
    reps = int(arguments[0]) if arguments else 1000
    for lines in (machines, processes, sums, sizes):
        print(*lines(reps), sep="\n", end="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
