"""The machine's own noise by window length, and the window that hears least; for `calibration`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from harness.analysis import effects, ranks, switched, trust
from harness.analysis.compare import Array
from harness.analysis.latency import LEAST_KEPT
from harness.model import Window, WindowRow
from harness.plan.experiment import Experiment

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)  # rows in a window
REFERENCE_SECONDS = 60.0  # errors are those of so long a comparison
SHORTEST_SECONDS = 0.02  # below, reading the meters and switching fill the window
LONGEST_SECONDS = 0.1  # above, the trials of the shipped experiments hold too few quadruples
MIN_REQUESTS = 5  # in the metered part of a window
MIN_QUADRUPLES = 20  # or the error itself is not known
SWITCH_SECONDS = 0.001  # taken off each window beside the guard: attaching and detaching
MIN_FOR_INTERVAL = 6  # quadruples, for any interval at all
ALIKE = 1.05  # errors within this factor are a tie
FROM_MAD = 1.4826  # makes the median absolute deviation of normal values their SD
MAX_GUARD_SHARE = 0.25


@dataclass(frozen=True)
class Noise:
    """How well windows of one length compare: A/A errors in percent of CPU per request.

    Each is the standard error that `REFERENCE_SECONDS` of off-on-on-off quadruples have:
    `window_error_percent` of the regression on windows, by which switched arms are estimated,
    `error_percent` of the Hodges-Lehmann estimate, `sd_percent` of the mean, `mad_percent` of a
    mean without outliers. `autocorrelation` is that of neighbouring quadruples' differences.
    """

    window_seconds: float
    guard_seconds: float
    quadruples: int
    requests: float
    error_percent: float
    sd_percent: float
    mad_percent: float
    autocorrelation: float
    window_error_percent: float


@dataclass(frozen=True)
class Power:
    """Welch's power spectrum of CPU per request: (percent of the level)^2 per Hz."""

    frequency_hz: Array
    percent2_per_hz: Array


def level_us(trials: Sequence[Sequence[WindowRow]]) -> float:
    """CPU per request over all rows, in us."""
    rows = [row for trial in trials for row in trial]
    requests = sum(row.meters["requests"] for row in rows)
    return 1e6 * sum(row.meters["cpu.workload"] for row in rows) / max(requests, 1.0)


def by_window(trials: Sequence[Sequence[WindowRow]], p99_seconds: float) -> list[Noise]:
    """The noise of windows that are sums of 1 to 100 rows; trials are rows without gaps.

    The guard of a window is what requests in flight need, `p99_seconds` in whole ms, but at most a
    quarter of the window. What it takes away makes the error greater by the root of the share, as
    it does for noise that is white within a window.
    """
    row_seconds = float(np.median([row.meters["seconds"] for trial in trials for row in trial]))
    row_seconds = round(row_seconds, 3)
    found = [_noise(trials, steps, row_seconds, p99_seconds) for steps in STEPS]
    return [noise for noise in found if noise is not None]


def _noise(
    trials: Sequence[Sequence[WindowRow]], steps: int, row_seconds: float, p99_seconds: float
) -> Noise | None:
    window = steps * row_seconds
    guard = min(math.ceil(1e3 * p99_seconds) / 1e3, MAX_GUARD_SHARE * window)
    parts = [differences(trial, steps) for trial in trials]
    sample = np.concatenate([d for d, _ in parts])
    if len(sample) < MIN_FOR_INTERVAL:
        return None
    level = level_us(trials)
    kept = max(window - guard - SWITCH_SECONDS, row_seconds / 10) / window
    scale = 100 / level * math.sqrt(4 * window / REFERENCE_SECONDS / kept)
    error = ranks.hodges_lehmann(sample).standard_error * math.sqrt(len(sample))
    mad = FROM_MAD * float(np.median(np.abs(sample - np.median(sample))))
    requests = float(np.mean(np.concatenate([r for _, r in parts]))) * kept
    return Noise(
        round(window, 6), round(guard, 6), len(sample), requests,
        scale * error, scale * float(np.std(sample, ddof=1)), scale * mad, _lag1(parts),
        scale * _of_windows(trials, window) * math.sqrt(len(sample)),
    )  # fmt: skip


def _of_windows(trials: Sequence[Sequence[WindowRow]], window_seconds: float) -> float:
    """Standard error of no effect of all trials together, us, as switched arms are estimated.

    The states are drawn; which, the error hardly knows. NaN of too few windows.
    """
    parts = [
        trust.relabelled(merged(trial, window_seconds), number, number)
        for number, trial in enumerate(trials)
    ]
    (effect,) = effects.fit(switched.join(parts), [[1.0]])
    return effect.standard_error if math.isfinite(effect.df) else math.nan


def differences(rows: Sequence[WindowRow], steps: int) -> tuple[Array, Array]:
    """A/A differences of windows of `steps` rows in us, (quadruples,), and requests a window.

    The middle two windows of each four less the outer two. No coin is drawn: a sign that flips at
    random changes no spread, and none is needed to see the autocorrelation.
    """
    n = len(rows) // (4 * steps)
    used = rows[: n * 4 * steps]
    shape = (n, 4, steps)
    cpu = np.array([r.meters["cpu.workload"] for r in used]).reshape(shape).sum(axis=2)
    requests = np.array([r.meters["requests"] for r in used]).reshape(shape).sum(axis=2)
    inner, outer = requests[:, 1] + requests[:, 2], requests[:, 0] + requests[:, 3]
    good = (inner > 0) & (outer > 0)
    on = (cpu[:, 1] + cpu[:, 2])[good] / inner[good]
    off = (cpu[:, 0] + cpu[:, 3])[good] / outer[good]
    return 1e6 * (on - off), requests.ravel()


def _lag1(parts: Sequence[tuple[Array, Array]]) -> float:
    """Pooled rank correlation of neighbours: outliers do not decide it."""
    pairs = [(d[:-1], d[1:]) for d, _ in parts if len(d) > 2]
    if not pairs:
        return math.nan
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    ranks = np.argsort(np.argsort(np.concatenate([first, second])))
    return float(np.corrcoef(ranks[: len(first)], ranks[len(first) :])[0, 1])


def choose(found: Sequence[Noise], slow_seconds: float = 0.0) -> Noise:
    """The window in which the estimator in use errs least; of those that are alike, the longest.

    Windows that are too short for the meters or too long for an experiment, or of which too few
    were seen, are not asked, nor those in which requests of `slow_seconds` end in time only if they
    are due in less than latency.LEAST_KEPT of what is metered: of the latency of such requests a
    window could tell nothing. If that leaves none, the longest that was seen often enough is taken.
    """
    found = [noise for noise in found if noise.window_seconds <= LONGEST_SECONDS]
    fit = [
        noise
        for noise in found
        if noise.window_seconds >= SHORTEST_SECONDS
        and noise.requests >= MIN_REQUESTS
        and noise.quadruples >= MIN_QUADRUPLES
        and math.isfinite(noise.window_error_percent)
        and slow_seconds <= (1 - LEAST_KEPT) * metered_seconds(noise)
    ]
    if not fit:
        return max(found, key=lambda n: (n.quadruples >= MIN_QUADRUPLES, n.window_seconds))
    least = min(noise.window_error_percent for noise in fit)
    return max(
        (noise for noise in fit if noise.window_error_percent <= ALIKE * least),
        key=lambda noise: noise.window_seconds,
    )


def metered_seconds(noise: Noise) -> float:
    """What an evaluation would meter of such a window: its guard is never shorter than usual."""
    guard = max(noise.guard_seconds, Experiment.guard_seconds)
    return noise.window_seconds - guard


def spectrum(trials: Sequence[Sequence[WindowRow]]) -> Power:
    """Welch's spectrum of CPU per request, averaged over the trials; segments of up to 10 s.

    Source: Welch 1967; segments are averaged by their median, which single disturbances do not
    move. Rows without a request take their neighbours' value.
    """
    level = level_us(trials)
    seconds = float(np.median([row.meters["seconds"] for trial in trials for row in trial]))
    length = min(int(10 / seconds), min(len(trial) for trial in trials))
    found = [
        signal.welch(_percent(trial, level), 1 / seconds, nperseg=length, average="median")
        for trial in trials
    ]
    power = np.mean([density for _, density in found], axis=0)
    return Power(np.asarray(found[0][0][1:], dtype=float), np.asarray(power[1:], dtype=float))


def _percent(rows: Sequence[WindowRow], level: float) -> Array:
    cpu = np.array([row.meters["cpu.workload"] for row in rows])
    requests = np.array([row.meters["requests"] for row in rows])
    seen = np.flatnonzero(requests > 0)
    values = np.interp(np.arange(len(rows)), seen, 1e6 * cpu[seen] / requests[seen])
    result: Array = 100 * (values / level - 1)
    return result


def merged(rows: Sequence[WindowRow], window_seconds: float) -> list[WindowRow]:
    """Windows of this length made of shorter ones that follow each other."""
    if not rows:
        return []
    one = float(np.median([row.meters["seconds"] for row in rows]))
    steps = max(1, round(window_seconds / one))
    found = []
    for i in range(0, len(rows) - steps + 1, steps):
        part = rows[i : i + steps]
        meters = {m: sum(r.meters[m] for r in part) for m in ("cpu.workload", "requests")}
        window = Window(i // steps, i // steps // 4, False,
                        part[0].window.start_ns, part[-1].window.end_ns)  # fmt: skip
        found.append(WindowRow(window, meters))
    return found
