"""Share of what happened whose telemetry arrived, with its exact interval; `cell` calls it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from harness.analysis.compare import CONFIDENCE, Estimate
from harness.results.run import TrialRecord
from harness.wire.telemetry import SIGNALS

POOLED = "pooled over trials, exact 95 % interval"
ENOUGH = 100  # fewer expected samples do not make a percentage


@dataclass(frozen=True)
class Count:
    """How many arrived of how many were made; `made` is an expectation for samples."""

    seen: float
    made: float


def pooled(records: Sequence[TrialRecord]) -> Mapping[str, Count]:
    """The sums over trials and collectors, by signal; a signal of which none was made is absent."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for record in records:
        for value in record.values:
            if value.metric in ("signal_seen", "signal_made"):
                sums[value.labels.get("signal", "requests")][value.metric] += value.value
    return {
        signal: Count(each["signal_seen"], each["signal_made"])
        for signal, each in sorted(sums.items())
        if each["signal_made"] > 0
    }


def share(count: Count, signal: str) -> Estimate:
    """seen / made in percent with its 95 % interval; above 100 it stays there.

    Clopper and Pearson's interval for a count out of a count, Garwood's for a Poisson count over
    its expectation (Biometrika 26, 1934; 28, 1936).
    """
    return exact(count, CONFIDENCE, poisson=_is_poisson(count, signal))


def exact(count: Count, level: float, *, poisson: bool) -> Estimate:
    """The same at any level: of a Poisson count over its expectation, or of a count of a count."""
    low, high = (_poisson if poisson else _binomial)(count, (1 - level) / 2)
    return Estimate(100 * count.seen / count.made, 100 * low, 100 * high, max(1, round(count.made)))


def method(count: Count, signal: str) -> str:
    """How `share` obtained the interval."""
    name = "Garwood, Poisson" if _is_poisson(count, signal) else "Clopper-Pearson"
    return f"{POOLED} ({name})"


def _is_poisson(count: Count, signal: str) -> bool:
    told = SIGNALS.get(signal)  # events that a collector counts itself are none
    return bool(told and told.is_expected) or count.seen > count.made


def _binomial(count: Count, tail: float) -> tuple[float, float]:
    seen, missed = count.seen, max(0.0, count.made - count.seen)
    low = float(stats.beta.ppf(tail, seen, missed + 1)) if seen > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, seen + 1, missed)) if missed > 0 else 1.0
    return low, high


def _poisson(count: Count, tail: float) -> tuple[float, float]:
    low = float(stats.chi2.ppf(tail, 2 * count.seen)) / 2 if count.seen > 0 else 0.0
    high = float(stats.chi2.ppf(1 - tail, 2 * count.seen + 2)) / 2
    return low / count.made, high / count.made
