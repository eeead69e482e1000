"""A machine's certificate, computed from its noise run and its injected run; `calibrate` calls it.

Every key of the result is explained in docs/calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis import injection, latency, noise, summary, trust, validity
from harness.analysis.compare import Z_CONFIDENCE, Quadruples
from harness.analysis.injection import InjectedTrial
from harness.analysis.latency import NEVER_NS, Requests
from harness.analysis.metrics import PERCENTILES
from harness.analysis.summary import Summary
from harness.analysis.trust import COMPARISON_SECONDS, Known
from harness.model import BASELINE
from harness.store import Run, WindowRow

HOOK = "cgroup_skb"  # of the program that injects
MINUTES = (5, 10, 30)
POINTS = 60  # of the spectrum that are kept
DETECTABLE = {"workload_cpu_us": "CPU per request", "latency_p50_us": "latency p50"}
LIMITS = {
    "coverage": 90.0,
    "false alarms": 5.0,
    "CPU per request, smallest effect in 30 minutes": 1.0,
    "latency p50, smallest effect in 30 minutes": 2.0,
    "residual": 10.0,
}  # in percent: at least for the coverage, at most for the others

Rows = Sequence[WindowRow]


def quiet(run: Run) -> tuple[list[Rows], float, float]:
    """The rows of each usable trial of a noise run, and p50 and p99 of latency in seconds."""
    found: list[Rows] = []
    latencies: list[NDArray[np.int64]] = []
    e = run.experiment()
    for record in run.records():
        rows = run.windows(record.trial)
        if validity.judge(record, rows, e.quadruples, summary.least(e)).usable:
            found.append(rows)
            path = run.path / "trials" / record.trial.name / "requests.npz"
            latencies.append(Requests.load(path).latency_ns)
    values = np.concatenate([*latencies, np.empty(0, dtype=np.int64)])
    values = values[values < NEVER_NS]
    if not len(values):
        return found, math.nan, math.nan
    p50, p99 = np.quantile(values, [0.5, 0.99]) / 1e9
    return found, float(p50), float(p99)


def of_noise(run: Run) -> dict[str, Any]:
    """The part of a certificate that a noise run tells: the level, the noise, the window chosen."""
    trials, p50, p99 = quiet(run)
    if not trials:
        return {}
    found = noise.by_window(trials, p99)
    best, spectrum = noise.choose(found), noise.spectrum(trials)
    n = len(spectrum.frequency_hz)
    kept = np.unique(np.geomspace(1, n, min(POINTS, n)).astype(int)) - 1
    return {
        "window_seconds": best.window_seconds,
        "guard_seconds": best.guard_seconds,
        "level_us": noise.level_us(trials),
        "latency_p50_us": 1e6 * p50,
        "latency_p99_us": 1e6 * p99,
        "noise": {
            "seconds": sum(row.meters["seconds"] for trial in trials for row in trial),
            "trials": len(trials),
            "windows": [asdict(each) for each in found],
            "spectrum": {
                "frequency_hz": spectrum.frequency_hz[kept].tolist(),
                "percent2_per_hz": spectrum.percent2_per_hz[kept].tolist(),
            },
        },
    }


def certify(quiet_run: Run, injected_run: Run, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The whole certificate; what could not be measured is missing or an empty list."""
    about, found = quiet_run.about(), summary.summarize(injected_run)
    workload = found.experiment.workloads[0]
    known = injection.known(injected_run, found, entry.get(HOOK, {}).get("entry_ns"))
    result = {
        "workload": workload,
        "rate": about.get("calibration", {}).get(workload, {}).get("rate"),
        **of_noise(quiet_run),
        "entry_ns": dict(entry),
        "measured_with": {
            "window_seconds": found.experiment.window_seconds,
            "guard_seconds": found.experiment.guard_seconds,
            "blocks": found.experiment.blocks,
            "switched_seconds": found.experiment.switched_seconds,
        },
        "switch_ms": _values(found, "switch_ms"),
        "arms": list(injection.arms(found, known)),
        "agents": list(injection.agents(found, known)),
        **_trust(quiet_run, injected_run, found, known),
        "detectable": list(_detectable(found)),
        "residual": list(_residual(found, known)),
        "trials": [
            {"trial": t.record.trial.name, "status": t.status, "reason": t.reason}
            for t in found.trials
            if not t.usable
        ],
        "warnings": list(found.warnings),
    }
    return {**result, "wishes": list(_wishes(result))}


def _trust(
    quiet_run: Run, injected_run: Run, found: Summary, known: Mapping[str, list[InjectedTrial]]
) -> dict[str, Any]:
    """Coverage, false alarms and power of comparisons of COMPARISON_SECONDS."""
    e = found.experiment
    n, seed = max(6, round(COMPARISON_SECONDS / (4 * e.window_seconds))), e.seed
    cases = {
        name: [Known(t.sample, t.truth_us) for t in trials if math.isfinite(t.truth_us)]
        for name, trials in known.items()
    }
    per_arm = {name: trust.covered(mine, n) for name, mine in cases.items() if mine}
    counted = [each for name, each in per_arm.items() if name in injection.injecting(found)]
    total = trust.share(sum(s.k for s in counted), sum(s.n for s in counted))
    nulls = _nulls(quiet_run, e.window_seconds, known, seed)
    alarms = trust.false_alarms([q for group in nulls.values() for q in group], n, seed)
    return {
        "comparison": {"seconds": COMPARISON_SECONDS, "quadruples": n},
        "coverage": {
            "all": _share(total),
            "arms": {name: _share(each) for name, each in per_arm.items()},
            "latency": _share(_latency(injected_run, found, known)),
        },
        "false_alarms": {
            "sources": {k: sum(len(q.on) // n for q in group) for k, group in nulls.items()},
            "real": _share(alarms.real),
            **{name: _drawn(getattr(alarms, name)) for name in ("redrawn", "both")},
        },
        "power": list(_power(known, 4 * e.window_seconds, seed)),
    }


def _share(value: trust.Share) -> dict[str, Any]:
    return {**asdict(value), "percent": 100 * value.share}


def _drawn(value: trust.Share) -> dict[str, Any]:
    """A share of comparisons drawn by chance from the same few trials: it has no exact interval."""
    return {"k": value.k, "n": value.n, "percent": 100 * value.share}


def _latency(run: Run, found: Summary, known: Mapping[str, list[InjectedTrial]]) -> trust.Share:
    """Trials whose own interval of the median latency contains what they injected."""
    primary = run.about().get("primary_routes", {}).get(found.experiment.workloads[0], "")
    hits = []
    for name in injection.injecting(found):
        for trial in known[name]:
            if trial.injected is None:
                continue
            record = trial.record
            requests = Requests.load(run.path / "trials" / record.trial.name / "requests.npz")
            mine = requests.of(primary) if primary in requests.route else requests
            sample = latency.histograms(mine, trial.rows, record.trial.block)
            ((shift, _),) = latency.shifts(sample, [PERCENTILES["p50"]], record.trial.seed)
            if math.isfinite(shift.low):
                hits.append(shift.low <= trial.injected.latency_us <= shift.high)
    return trust.share(sum(hits), len(hits))


def _nulls(
    quiet_run: Run, window_seconds: float, known: Mapping[str, list[InjectedTrial]], seed: int
) -> dict[str, list[Quadruples]]:
    """A/A quadruples by where they are from; no window is used twice."""
    trials, _, _ = quiet(quiet_run)
    return {
        "baseline trials": [t.sample for t in known.get(BASELINE, [])],
        "off windows of other trials": [
            trust.of_off_windows(t.rows, seed + t.record.trial.index, t.record.trial.block)
            for name, mine in known.items()
            if name != BASELINE
            for t in mine
        ],
        "noise run": [
            trust.relabelled(noise.merged(rows, window_seconds), seed + i, i)
            for i, rows in enumerate(trials)
        ],
    }


def _power(
    known: Mapping[str, list[InjectedTrial]], quadruple_seconds: float, seed: int
) -> Iterator[dict[str, Any]]:
    for name, trials in known.items():
        told = [t for t in trials if t.truth_us > 0]
        if not told:
            continue
        level = float(np.median(np.concatenate([t.sample.off for t in told])))
        effect = float(np.mean([t.truth_us for t in told]))
        samples = [t.sample for t in told]
        yield {
            "arm": name, "truth_us": effect, "truth_percent": 100 * effect / level,
            "found": [
                {"seconds": s, **_drawn(trust.power(samples, quadruple_seconds, s, seed))}
                for s in trust.DRAWS
            ],
        }  # fmt: skip


def _detectable(found: Summary) -> Iterator[dict[str, Any]]:
    """From the standard errors of all arms' intervals over the whole run: their median."""
    e = found.experiment
    for metric, words in DETECTABLE.items():
        percent, errors = [], []
        for arm in e.arms:
            row = found.row(e.workloads[0], arm.name, metric)
            trials = sum(
                t.usable and (t.record.trial.arm, t.record.trial.kind) == (arm.name, "switched")
                for t in found.trials
            )
            if row is None or not math.isfinite(row.low) or not row.level > 0:
                continue
            error = (row.high - row.low) / 2 / Z_CONFIDENCE
            seconds = trials * e.switched_seconds
            errors.append([trust.detectable(error, seconds, 60 * m) for m in MINUTES])
            percent.append([100 * each / row.level for each in errors[-1]])
        if errors:
            absolute, relative = np.median(errors, axis=0), np.median(percent, axis=0)
            yield {
                "metric": metric, "what": words, "arms": len(errors),
                "effects": [
                    {"minutes": m, "us": float(a), "percent": float(p)}
                    for m, a, p in zip(MINUTES, absolute, relative, strict=True)
                ],
            }  # fmt: skip


def _residual(found: Summary, known: Mapping[str, list[InjectedTrial]]) -> Iterator[dict[str, Any]]:
    """The host's extra CPU that nobody's cgroup pays, of the arms large enough."""
    for arm in found.experiment.arms:
        trials = known[arm.name]
        if not trials or arm.name == BASELINE:
            continue
        left = injection.residual(found, arm.name, trials)
        if left is not None:
            yield {"arm": arm.name, **asdict(left)}


def _values(found: Summary, metric: str) -> dict[str, Any]:
    rows = [found.row(found.experiment.workloads[0], a.name, metric) for a in found.experiment.arms]
    return {row.arm: row.estimate for row in rows if row is not None and row.arm != BASELINE}


def _wishes(certificate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a certificate is asked for, and whether it was found; None where it cannot be told.

    A residual can be told where its interval reaches no farther to each side than its limit.
    """
    alarms = certificate["false_alarms"]
    real = alarms["real"]["n"] >= trust.LEAST_NULLS
    found: dict[str, float] = {
        "coverage": certificate["coverage"]["all"]["percent"],
        "false alarms": alarms["real" if real else "both"]["percent"],
    }
    for row in certificate["detectable"]:
        last = row["effects"][-1]
        found[f"{row['what']}, smallest effect in {last['minutes']} minutes"] = last["percent"]
    resolved = [
        r for r in certificate["residual"] if r["high"] - r["low"] <= 2 * LIMITS["residual"]
    ]
    if resolved:
        found["residual"] = max(abs(r["estimate"]) for r in resolved)
    for name, limit in LIMITS.items():
        value = found.get(name, math.nan)
        met = value >= limit if name == "coverage" else value <= limit
        told = bool(met) if math.isfinite(value) else None
        yield {"wish": name, "limit_percent": limit, "found_percent": value, "met": told}
