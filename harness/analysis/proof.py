"""How far a machine's intervals can be trusted, from trials of known effect; for `calibration`.

Every key of the result is explained in docs/calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.analysis import injection, latency, noise, percentiles, shown, trust
from harness.analysis.effects import Windows
from harness.analysis.injection import InjectedTrial
from harness.analysis.latency import Requests
from harness.analysis.metrics import PERCENTILES
from harness.analysis.summary import Summary
from harness.analysis.trust import Known, Share
from harness.model import BASELINE, WindowRow
from harness.plan.calibration import COMPARISON_SECONDS, NULL_SECONDS
from harness.plan.experiment import Experiment
from harness.results.run import Run

P50 = PERCENTILES["p50"]
Rows = Sequence[WindowRow]


def of(
    run: Run, quiet: Sequence[Rows], found: Summary, known: Mapping[str, list[InjectedTrial]]
) -> dict[str, Any]:
    """Coverage and power of comparisons of COMPARISON_SECONDS, false alarms of NULL_SECONDS.

    `quiet` are the windows of each trial of the noise run.
    """
    e = found.experiment
    n, few, seed = quadruples(e, COMPARISON_SECONDS), quadruples(e, NULL_SECONDS), e.seed
    nulls = _nulls(quiet, e.window_seconds, known, seed)
    alarms = trust.false_alarms([q for group in nulls.values() for q in group], few, seed)
    return {
        "comparison": {"seconds": COMPARISON_SECONDS, "quadruples": n},
        "coverage": _coverage(run, found, known, n),
        "false_alarms": {
            "seconds": NULL_SECONDS,
            "quadruples": few,
            "sources": {
                name: sum(trust.quadruples(each) // few for each in group)
                for name, group in nulls.items()
            },
            "real": {**_share(alarms.real), **shown.alarms(alarms.real)},
            **{name: _drawn(getattr(alarms, name)) for name in ("redrawn", "both")},
        },
        "power": list(_power(known, 4 * e.window_seconds, seed)),
    }


def quadruples(experiment: Experiment, seconds: float) -> int:
    """How many a comparison of so many seconds has."""
    return max(6, round(seconds / (4 * experiment.window_seconds)))


def _coverage(
    run: Run, found: Summary, known: Mapping[str, list[InjectedTrial]], n: int
) -> dict[str, Any]:
    """Comparisons of `n` quadruples whose interval contains what was injected.

    That of CPU counts arms that burn aside, or all that burn if none does; that of the median
    latency those in which a response waits for the burn, and once more as whole trials.
    """
    cases = {
        name: [Known(t.sample, t.truth_us) for t in trials if math.isfinite(t.truth_us)]
        for name, trials in known.items()
    }
    cpu = {name: trust.covered(mine, n) for name, mine in cases.items() if mine}
    of_cpu, of_latency = counted(found).values()
    waited = {name: _latency(run, found, known[name], n) for name in of_latency}
    return {
        "cpu": _tested(_sum([each for name, each in cpu.items() if name in of_cpu])),
        "arms": {name: _share(each) for name, each in cpu.items()},
        "latency": _tested(_sum(list(waited.values()))),
        "latency_arms": {name: _share(each) for name, each in waited.items()},
        "latency_trials": _share(_sum([_latency(run, found, known[name]) for name in waited])),
    }


def counted(found: Summary) -> dict[str, list[str]]:
    """The arms whose truth is what the service pays, by metric: those of CPU, and of latency."""
    burning, aside = injection.injecting(found), injection.aside(found)
    return {
        "workload_cpu_us": sorted((burning & aside) or burning),
        "latency_p50_us": sorted(burning - aside),
    }


def _sum(shares: Sequence[Share]) -> Share:
    return trust.share(sum(s.k for s in shares), sum(s.n for s in shares))


def _latency(
    run: Run, found: Summary, trials: Sequence[InjectedTrial], n: int | None = None
) -> Share:
    """Comparisons (or trials) whose interval of the median latency has what was injected."""
    primary = run.about().primary_routes.get(found.experiment.workloads[0], "")
    hits = []
    for trial in trials:
        if trial.injected is None:
            continue
        record = trial.record
        requests = Requests.load(run.path / "trials" / record.trial.name / "requests.npz")
        mine = requests.of(primary) if primary in requests.route else requests
        for rows in _pieces(trial.rows, n):
            part = latency.within(latency.attribute(mine, rows, record.trial.block), P50)
            shift = None if part.too_long else percentiles.shift(part.sample, P50)
            hits.append(
                shift is not None
                and shift.value.low <= trial.injected.latency_us <= shift.value.high
            )
    return trust.share(sum(hits), len(hits))


def _pieces(rows: Rows, n: int | None) -> Iterator[Rows]:
    """The windows of each `n` consecutive quadruples, or all; what is left over is not used."""
    numbers = sorted({row.window.quadruple for row in rows})
    n = n or len(numbers) or 1
    for i in range(0, len(numbers) - n + 1, n):
        yield [row for row in rows if numbers[i] <= row.window.quadruple <= numbers[i + n - 1]]


def _share(value: trust.Share) -> dict[str, Any]:
    return {**asdict(value), "percent": 100 * value.share}


def _tested(value: trust.Share) -> dict[str, Any]:
    return {**_share(value), **shown.coverage(value)}


def _drawn(value: trust.Share) -> dict[str, Any]:
    """A share of comparisons drawn by chance from the same few trials: it has no exact interval."""
    return {"k": value.k, "n": value.n, "percent": 100 * value.share}


def _nulls(
    quiet: Sequence[Rows],
    window_seconds: float,
    known: Mapping[str, list[InjectedTrial]],
    seed: int,
) -> dict[str, list[Windows]]:
    """A/A quadruples by where they are from; no window is used twice."""
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
            for i, rows in enumerate(quiet)
        ],
    }


def _power(
    known: Mapping[str, list[InjectedTrial]], quadruple_seconds: float, seed: int
) -> Iterator[dict[str, Any]]:
    for name, trials in known.items():
        told = [t for t in trials if t.truth_us > 0]
        if not told:
            continue
        off = [t.sample.value[~t.sample.states[:, 0]] for t in told]
        level = float(np.median(np.concatenate(off)))
        effect = float(np.mean([t.truth_us for t in told]))
        samples = [t.sample for t in told]
        yield {
            "arm": name, "truth_us": effect, "truth_percent": 100 * effect / level,
            "found": [
                {"seconds": s, **_drawn(trust.power(samples, quadruple_seconds, s, seed))}
                for s in trust.DRAWS
            ],
        }  # fmt: skip
