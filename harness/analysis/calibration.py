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

from harness.analysis import hour, injection, latency, noise, proof, shown, summary, validity
from harness.analysis.injection import InjectedTrial
from harness.analysis.latency import NEVER_NS, Requests
from harness.analysis.summary import Summary
from harness.model import BASELINE, WindowRow
from harness.plan.calibration import LEAST_NULLS
from harness.results.run import Run

HOOK = "cgroup_skb"  # of the program that injects
POINTS = 60  # of the spectrum that are kept
SLOW_SECONDS = 0.0105  # of the shipped services' requests that wait for something else: one in five
DETECTABLE = {"workload_cpu_us": "CPU per request", "latency_p50_us": "latency p50"}
LIMITS = {
    "coverage, CPU per request": 90.0,
    "coverage, latency p50": 90.0,
    "false alarms": 5.0,
    "CPU per request, bound on the bias": 0.5,
    "latency p50, bound on the bias": 1.0,
    "CPU per request, smallest effect": 1.0,
    "latency p50, smallest effect": 2.0,
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
    slow = latency.MARGIN * max(p99, SLOW_SECONDS)
    best, spectrum = noise.choose(found, slow), noise.spectrum(trials)
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
    arms = list(injection.arms(found, known))
    result = {
        "workload": workload,
        "rate": about.calibration.get(workload, {}).get("rate"),
        **of_noise(quiet_run),
        "entry_ns": dict(entry),
        "measured_with": {
            "window_seconds": found.experiment.window_seconds,
            "guard_seconds": found.experiment.guard_seconds,
            "blocks": found.experiment.blocks,
            "switched_seconds": found.experiment.switched_seconds,
        },
        "switch_ms": _values(found, "switch_ms"),
        "arms": arms,
        "bias": {
            metric: shown.bias(arms, counted, metric)
            for metric, counted in proof.counted(found).items()
        },
        "agents": list(injection.agents(found, known)),
        **proof.of(injected_run, quiet(quiet_run)[0], found, known),
        "detectable": [
            each
            for metric, words in DETECTABLE.items()
            if (each := shown.detectable(found, metric, words)) is not None
        ],
        "residual": list(_residual(found, known)),
        "trials": [
            {"trial": t.record.trial.name, "status": t.status, "reason": t.reason}
            for t in found.trials
            if not t.usable
        ],
        "warnings": list(found.warnings),
        hour.KEY: hour.of_certificate(_met(injected_run, found)),
    }
    return {**result, "wishes": list(_wishes(result))}


def _met(run: Run, found: Summary) -> hour.Found:
    """What the trials of known effects met: they are those of an ordinary evaluation."""
    trials = [judged for judged in found.trials if judged.usable]
    windows = {judged.record.trial: run.windows(judged.record.trial) for judged in trials}
    return hour.met(found.about, found.experiment, trials, windows)


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

    A residual can be told where its interval reaches no farther to each side than its limit. Of
    enough real false alarms a test decides: an instrument without fault has more than 5 % in two
    calibrations of five.
    """
    alarms = certificate["false_alarms"]
    real = alarms["real"]["n"] >= LEAST_NULLS
    found: dict[str, float] = {
        "coverage, CPU per request": certificate["coverage"]["cpu"]["percent"],
        "coverage, latency p50": certificate["coverage"]["latency"]["percent"],
        "false alarms": alarms["real" if real else "both"]["percent"],
    }
    for metric, words in DETECTABLE.items():
        if bias := certificate["bias"].get(metric):
            found[f"{words}, bound on the bias"] = bias["bound_percent"]
    for row in certificate["detectable"]:
        found[f"{row['what']}, smallest effect"] = row["effects"][-1]["percent"]
    resolved = [
        r for r in certificate["residual"] if r["high"] - r["low"] <= 2 * LIMITS["residual"]
    ]
    if resolved:
        found["residual"] = max(abs(r["estimate"]) for r in resolved)
    for name, limit in LIMITS.items():
        value = found.get(name, math.nan)
        met = value >= limit if name.startswith("coverage") else value <= limit
        if name == "false alarms" and real:
            met = alarms["real"]["p"] >= shown.ONE_SIDED
        told = bool(met) if math.isfinite(value) else None
        yield {"wish": name, "limit_percent": limit, "found_percent": value, "met": told}
