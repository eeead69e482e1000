"""What is left of a run's time, given by what its pilot shows of variances; for `evaluate`.

Decided once, between two blocks, and kept in run.json before the next begins: a run that is resumed
goes on with it. docs/adr/0023-a-pilot-gives-the-time.md says why by variances and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from harness.analysis import allocation, precision
from harness.analysis.allocation import Service, Share
from harness.analysis.precision import Spread
from harness.plan import design, saturation
from harness.plan.experiment import Experiment
from harness.results.run import Run

SHORTEST, LONGEST = 0.5, 2.0  # windows of a block after the pilot, in those of one of the pilot
NONE = Spread(1.0)  # where no pilot of any service told anything: all alike

Spreads = Mapping[str, Mapping[str, Mapping[str, Spread]]]


def decide(run: Run, spent_seconds: float) -> None:
    """Give what is left of the time budget to services and arms, and keep how; once in a run."""
    e, about = run.experiment(), run.about()
    if not e.awaits_pilot or e.budget_seconds is None:
        return
    skipped = {each["arm"] for each in about.skipped_arms}
    services = {
        workload: _service(run, e, workload, spreads)
        for workload, spreads in _all(e, precision.spreads(run), skipped).items()
    }
    left = max(0.0, e.budget_seconds - spent_seconds)
    shares = allocation.allot(services, left)
    run.note(
        pilot={
            "spent_seconds": round(spent_seconds, 1),
            "left_seconds": round(left, 1),
            "workloads": {
                workload: _told(e, service, shares[workload])
                for workload, service in services.items()
            },
        }
    )


def _all(e: Experiment, known: Spreads, skipped: Iterable[str]) -> Spreads:
    """Of every trial that is due; where a pilot told nothing, the widest spread that was found."""
    every = [s for arms in known.values() for of in arms.values() for s in of.values()]
    worst = max(every, key=lambda s: s.within, default=NONE)
    trials = [arm.name for arm in e.trial_arms if arm.name not in skipped]
    return {
        workload: {arm: known.get(workload, {}).get(arm) or {arm: worst} for arm in trials}
        for workload in e.workloads
    }


def _service(
    run: Run, e: Experiment, workload: str, spreads: Mapping[str, Mapping[str, Spread]]
) -> Service:
    overhead, counted = _overhead(run, e, workload), sum(bool(a.collectors) for a in e.trial_arms)
    parts = e.steady_seconds + e.asking_seconds
    if e.metered_seconds > 0:
        parts += e.settle_seconds + e.metered_seconds + e.rest_seconds + e.rates_seconds + 1.2
    full = len(saturation.arms(e)) * (e.settle_seconds + e.saturated_seconds + 1.2)
    least = max(SHORTEST * e.switched_seconds, _least(e))
    return Service(
        spreads=spreads,
        piloted=dict.fromkeys(spreads, (e.switched_seconds,) * e.pilot_blocks),
        overhead=overhead,
        least=min(least, e.switched_seconds),
        longest=LONGEST * e.switched_seconds,
        saved=min(counted * parts + full, 0.8 * overhead),
        metered_blocks=e.metered_blocks,
        fewest=max(1, e.metered_blocks - e.pilot_blocks),
    )


def _least(e: Experiment) -> float:
    """Windows that an experiment's trials have at least."""
    windows = design.cycle(len(design.factors(e))) if e.has_shared else 4
    return 4.0 * windows * e.window_seconds


def _overhead(run: Run, e: Experiment, workload: str) -> float:
    """Seconds of a block beside its windows: the mean of those that did not find the capacity."""
    took = {
        each["block"]: each["seconds"]
        for each in run.about().block_seconds
        if each["workload"] == workload
    }
    windows = dict.fromkeys(took, 0.0)
    for record in run.records():
        trial = record.trial
        if trial.workload == workload and trial.kind == "switched" and trial.block in windows:
            windows[trial.block] += e.seconds_of(trial)
    beside = [took[block] - windows[block] for block in took if block] or [
        took[block] - windows[block] - e.warmup_seconds - e.calibration_seconds for block in took
    ]
    known = [each for each in beside if each > 0]
    return sum(known) / len(known) if known else 15.0


def _told(e: Experiment, service: Service, share: Share) -> dict[str, Any]:
    """What run.json keeps of a service: what it gets, and the figures that this rests on."""
    return {
        "blocks": e.pilot_blocks + share.more,
        "seconds": {arm: round(seconds, 3) for arm, seconds in share.seconds.items()},
        "expected_percent": round(share.width, 4),
        "overhead_seconds": round(service.overhead, 2),
        "spreads": {
            arm: {name: asdict(spread) for name, spread in of.items()}
            for arm, of in service.spreads.items()
        },
    }
