"""What a calibration has shown, and how much that is: for `calibration` and `proof`.

A bound on the bias, the power of a coverage, the smallest effects within the time measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis import hierarchy, trust
from harness.analysis.compare import CONFIDENCE, POWER, Z_CONFIDENCE
from harness.analysis.summary import Summary
from harness.model import Comparison

ONE_SIDED = 0.05


def bias(arms: Sequence[Mapping[str, Any]], counted: Sequence[str], metric: str) -> dict[str, Any]:
    """How far off what came back can be, in per cent of the level: of each arm, and of their mean.

    `bound_percent` is the smallest margin within which two one-sided tests at 5 % would hold the
    bias (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15); `arms` are those of
    a certificate, of which those `counted` have a truth that the service pays.
    """
    rows = [each for arm in arms if arm["arm"] in counted for each in _bias(arm, metric)]
    if not rows:
        return {}
    errors = np.array([row["error_percent"] for row in rows])
    spread = math.hypot(*(row["standard_error_percent"] for row in rows)) / len(rows)
    mean = float(errors.mean())
    return {
        "arms": rows,
        "error_percent": mean,
        "standard_error_percent": spread,
        "bound_percent": margin(mean, spread),
        "worst_percent": max(row["bound_percent"] for row in rows),
    }


def _bias(arm: Mapping[str, Any], metric: str) -> Iterator[dict[str, Any]]:
    truth = arm["truth_us"] if metric.startswith("workload") else arm["latency_us"]
    for row in arm["recovered"]:
        if row["metric"] == metric and row["level"] > 0 and math.isfinite(row["low"]):
            scale = 100 / row["level"]
            error = scale * (row["estimate"] - truth)
            spread = scale * (row["high"] - row["low"]) / 2 / Z_CONFIDENCE
            yield {
                "arm": arm["arm"], "error_percent": error, "standard_error_percent": spread,
                "bound_percent": margin(error, spread),
            }  # fmt: skip


def margin(error: float, standard_error: float) -> float:
    """The smallest margin that both one-sided tests at 5 % hold."""
    return abs(error) + float(stats.norm.isf(ONE_SIDED)) * standard_error


def noticed(n: int) -> float:
    """The greatest coverage that `n` comparisons would tell from 95 %, with 80 % power at 5 %.

    NaN if they are too few for any.
    """
    counts = np.arange(n + 1)
    refused = counts[stats.binom.cdf(counts, n, CONFIDENCE) <= ONE_SIDED]
    if not len(refused):
        return math.nan
    shares = np.arange(0.0, CONFIDENCE, 0.001)
    seen = shares[np.asarray(stats.binom.cdf(refused.max(), n, shares)) >= POWER]
    return float(seen.max()) if len(seen) else math.nan


def coverage(share: trust.Share) -> dict[str, float]:
    """By how much chance so few intervals hold the truth if 95 % do, and what would be noticed."""
    p = float(stats.binom.cdf(share.k, share.n, CONFIDENCE)) if share.n else math.nan
    return {"p": p, "noticed_percent": 100 * noticed(share.n) if share.n else math.nan}


def alarms(share: trust.Share) -> dict[str, float]:
    """By how much chance so many are false alarms if 5 % are, and what rate would be noticed."""
    p = float(stats.binom.sf(share.k - 1, share.n, 1 - CONFIDENCE)) if share.n else math.nan
    return {"p": p, "noticed_percent": 100 * noticed_alarms(share.n)}


def noticed_alarms(n: int) -> float:
    """The least rate of false alarms that `n` comparisons tell from 5 %, with 80 % power at 5 %.

    NaN if they are too few for any.
    """
    counts = np.arange(n + 1)
    refused = counts[stats.binom.sf(counts - 1, n, 1 - CONFIDENCE) <= ONE_SIDED]
    if not len(refused):
        return math.nan
    shares = np.arange(1 - CONFIDENCE, 1.0, 0.001)
    seen = shares[np.asarray(stats.binom.sf(refused.min() - 1, n, shares)) >= POWER]
    return float(seen.min()) if len(seen) else math.nan


def detectable(found: Summary, metric: str, words: str) -> dict[str, Any] | None:
    """The smallest effects after the time that was measured, and after twice that; None if unknown.

    Of each arm, from its own interval, and of the worst of them. Not of arms whose effect is large:
    processes differ in it by a share of it, which says nothing of small ones. Not beyond twice the
    time: what differs between processes does not fall with it, and is known from these only.
    """
    e = found.experiment
    arms: list[dict[str, Any]] = []
    for arm in e.arms:
        row = found.row(e.workloads[0], arm.name, metric)
        seconds = e.switched_seconds * sum(
            t.usable and (t.record.trial.arm, t.record.trial.kind) == (arm.name, "switched")
            for t in found.trials
        )
        if row is not None and seconds and math.isfinite(row.low) and _is_small(row):
            arms.append({"arm": arm.name, "seconds": seconds, **_effect(row, 1.0)})
    if not arms:
        return None
    worst = max(arms, key=lambda arm: arm["percent"])
    row = found.row(e.workloads[0], worst["arm"], metric)
    effects = [
        {"minutes": worst["seconds"] * times / 60, **_effect(row, times)}
        for times in (1.0, trust.FARTHEST)
        if row is not None
    ]
    return {
        "metric": metric, "what": words, "worst": worst["arm"], "arms": arms, "effects": effects,
    }  # fmt: skip


def _is_small(row: Comparison) -> bool:
    return abs(row.estimate) <= hierarchy.LARGE * row.level


def _effect(row: Comparison, times: float) -> dict[str, float]:
    error = (row.high - row.low) / 2 / Z_CONFIDENCE
    us = trust.detectable(error, 1.0, times)
    return {"us": us, "percent": 100 * us / row.level}
