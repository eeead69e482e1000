"""What a calibration measures, and how long it takes: noise and known effects; for `calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import InputError
from harness.model import BASELINE, Arm, Load
from harness.plan.experiment import Experiment

NOISE, INJECTED = "noise", "injected"
NOISE_SHARE = 0.25
FULL_MINUTES = 20.0  # from here on every arm is run, in several blocks
CPU_PERCENT = (0.3, 0.5, 1.0, 3.0, 50.0)  # the last to see whether the scale is right
LATENCY_US = (20, 50, 100)
AGENT_PERCENT = 5
ASIDE = {"plain": ",at=getsockopt"}  # services that make one when they have answered
EVENTS_PER_REQUEST = 1.0  # about; what was injected is measured
TYPICAL_US = 100.0  # of CPU a request, to show a plan before the level is known
LEAST_SECONDS = 6.0
BLOCKS = range(8, 2, -1)  # as many as leave trials long enough for comparisons
COMPARISON_SECONDS = 10.0
NULL_SECONDS = 5.0  # of a comparison of nothing with nothing: shorter, so that there are enough
LEAST_NULLS = 200  # of them behind a false-alarm rate
WHOLE_SECONDS = 1.01 * NULL_SECONDS  # one that is rounded up to whole quadruples
LOAD = Load(fraction=0.25)  # far from where requests wait for each other


@dataclass(frozen=True)
class Asked:
    """What a calibration was asked for; `minutes` in all, about, on the target of this name."""

    minutes: float = 35.0
    workload: str = "plain"
    seed: int = 20254
    command: list[str] = field(default_factory=list)
    target: str = "local"

    def __post_init__(self) -> None:
        if not 2 <= self.minutes <= 600:
            raise InputError(
                f"A calibration takes between 2 and 600 minutes, not {self.minutes:g}.",
                next_step="Give --minutes 35, or leave it out.",
            )

    @property
    def is_full(self) -> bool:
        """Whether there is time for every arm and for fresh processes."""
        return self.minutes >= FULL_MINUTES

    @property
    def entry_seconds(self) -> float:
        """About how long the cost of entry takes."""
        return 60.0 if self.is_full else 10.0


def noise_experiment(asked: Asked) -> Experiment:
    """Nothing installed, rows of 10 ms without gaps: longer windows are sums of those."""
    blocks = 3 if asked.is_full else 1
    e = Experiment(
        name=NOISE, workloads=(asked.workload,), arms=(Arm(BASELINE),), seed=asked.seed,
        blocks=blocks, min_blocks=blocks, window_seconds=0.01, guard_seconds=0.0,
        steady_seconds=0.5, metered_seconds=0.0, loads={asked.workload: LOAD}, **_warm_up(asked),
    )  # fmt: skip
    return _stretched(e, 60 * asked.minutes * NOISE_SHARE)


def injected_experiment(asked: Asked, found: Mapping[str, Any]) -> Experiment:
    """Arms with known effects, in windows of the length that the noise run chose.

    `found` is what `calibration.of_noise` told; nothing, to see a plan.
    """
    level, rate = found.get("level_us", TYPICAL_US), found.get("rate")
    blocks = BLOCKS if asked.is_full else (1,)
    e = Experiment(
        name=INJECTED, workloads=(asked.workload,), arms=arms(level, asked.is_full, asked.workload),
        seed=asked.seed + 1, blocks=blocks[-1], min_blocks=blocks[-1], steady_seconds=0.75,
        metered_seconds=1.0, loads={asked.workload: Load(rate=rate) if rate else LOAD},
        **_warm_up(asked),
    )  # fmt: skip
    if found:
        e = replace(
            e, window_seconds=found["window_seconds"], guard_seconds=found["guard_seconds"],
            switched_seconds=max(e.switched_seconds, 16 * found["window_seconds"]),
        )  # fmt: skip
    quiet = noise_experiment(asked)
    used = quiet.expected_seconds() + asked.entry_seconds
    plans = [
        _stretched(replace(e, blocks=n, min_blocks=n), 60 * asked.minutes - used) for n in blocks
    ]
    counts = [sum(_nulls(quiet, each).values()) for each in plans]
    most = max(counts)
    return plans[next(i for i, n in enumerate(counts) if n >= min(most, LEAST_NULLS))]


def nulls(asked: Asked) -> dict[str, int]:
    """About how many comparisons of nothing with nothing there will be, by where they are from."""
    return _nulls(noise_experiment(asked), injected_experiment(asked, {}))


def _nulls(quiet: Experiment, injected: Experiment) -> dict[str, int]:
    others = injected.blocks * (len(injected.arms) - 1)
    return {
        "baseline trials": injected.blocks * int(injected.switched_seconds // WHOLE_SECONDS),
        "off windows": others * int(injected.switched_seconds // (2 * WHOLE_SECONDS)),
        "noise run": quiet.blocks * int(quiet.switched_seconds // WHOLE_SECONDS),
    }


def arms(level_us: float, full: bool, workload: str) -> tuple[Arm, ...]:
    """Effects in percent of the level of CPU per request, in us of latency, and of an agent.

    They are injected against the same program without a burn, so that a burn is all that differs:
    those of CPU where nobody waits for them, if the workload has such a place, since a response
    that comes later changes what the service pays to deliver it.
    """
    cpu = {f"cpu-{p:g}".replace(".", "-"): p / 100 * level_us for p in CPU_PERCENT}
    latency = {f"latency-{us}": float(us) for us in LATENCY_US}
    if not full:
        cpu, latency = {"cpu-3": cpu["cpu-3"]}, {"latency-100": latency["latency-100"]}
    burning = (
        Arm(name, (_spec(us, where),), against=(_spec(0, where),))
        for wanted, where in ((cpu, ASIDE.get(workload, "")), (latency, ""))
        for name, us in wanted.items()
    )
    agent = Arm(f"agent-{AGENT_PERCENT}", (f"{_spec(0)},agent_percent={AGENT_PERCENT}",))
    return Arm(BASELINE), *burning, agent


def _spec(us: float, where: str = "") -> str:
    ns = round(1e3 * us / EVENTS_PER_REQUEST)
    return f"inject:ns={ns}{where}"


def _warm_up(asked: Asked) -> dict[str, Any]:
    if asked.is_full:
        return {}
    return {"warmup_seconds": 1.0, "warmup_limit_seconds": 3.0, "calibration_seconds": 1.0}


def _stretched(experiment: Experiment, seconds: float) -> Experiment:
    """The same with trials so long that it takes this time in all."""
    least = max(LEAST_SECONDS, 16 * experiment.window_seconds)
    trials = experiment.blocks * len(experiment.arms)
    spare = seconds - replace(experiment, switched_seconds=least).expected_seconds()
    return replace(experiment, switched_seconds=round(least + max(0.0, spare / trials), 1))


def expected_seconds(asked: Asked) -> float:
    """About how long all of it takes."""
    runs = (noise_experiment(asked), injected_experiment(asked, {}))
    return asked.entry_seconds + sum(run.expected_seconds() for run in runs)
