"""An experiment: its TOML file, and the seeded order of its trials; for `evaluate`."""

from __future__ import annotations

import dataclasses
import random
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.collectors import subject
from harness.collectors.definition import EXPORT_SECONDS
from harness.errors import InputError
from harness.model import FACTORIAL, Arm, Load, StackKind, Trial
from harness.plan import allotment, design, keys, methods, parts, problems, saturation
from harness.plan.allotment import Allotment

SHIPPED = Path(__file__).resolve().parents[2] / "experiments"
ASKING_SECONDS = 10.0  # until all is found that was sent, and exports by the clock are
WITHIN_SECONDS = 30.0  # two processes started and warmed up, and what is awaited of their telemetry


@dataclass(frozen=True)
class Experiment:
    """What is compared, how long, and in which order; times in seconds.

    A block runs every arm once on one fresh workload process, which is warmed up until its CPU per
    request is steady: from `warmup_seconds` to `warmup_limit_seconds`. All factorial arms share one
    trial. A trial's switched part is made of quadruples of windows, or of a design's cycles; the
    first `guard_seconds` of each window are not metered.

    With `precision_percent` the blocks of a workload end early, after `min_blocks`, once every
    arm's 95 % interval of workload_cpu_percent is no wider than that to each side; with
    `budget_seconds` no block begins after that time. A trial that breaks a rule of validity is
    run again up to `replacements` times. `idle_poll` keeps idle CPUs from halting.
    `count_instructions` reads the processor's counters where it has some.
    The service gets `service_cpus` CPUs at most; with 0 all that load and collectors leave.
    The load is made by `load_workers` processes side by side.

    With `low_rate_fraction` metered trials also tell what collectors cost at that share of a rate.
    With `saturated_seconds` each block ends with trials in which a closed loop keeps the service
    full for so long, while the collectors of switched arms are turned on and off.

    With `pilot_blocks` the first so many blocks of each workload are a pilot, from whose variances
    the rest of `budget_seconds` is given to workloads and arms: `allotted`, once it is decided, in
    place of `blocks` and `switched_seconds`. The first `metered_blocks` have a steady part, metered
    and saturated trials, those after them windows alone; 0 means all.

    Telemetry goes to a small `sink`, or with `stack` "full" into real backends, which are then
    asked what is new while the load goes on for `watched_seconds` after the steady part.
    """

    name: str
    workloads: tuple[str, ...]
    arms: tuple[Arm, ...]
    seed: int = 1
    blocks: int = 2
    min_blocks: int = 2
    pilot_blocks: int = 0
    metered_blocks: int = 0
    precision_percent: float | None = None
    budget_seconds: float | None = None
    replacements: int = 1
    idle_poll: bool = True
    count_instructions: bool = True
    service_cpus: int = 0
    load_workers: int = 1
    stack: StackKind = "sink"
    warmup_seconds: float = 3.0
    warmup_limit_seconds: float = 30.0
    settle_seconds: float = 0.5
    switched_seconds: float = 10.0
    window_seconds: float = 0.05
    guard_seconds: float = 0.006
    steady_seconds: float = 2.0
    watched_seconds: float = 10.0
    metered_seconds: float = 2.0
    idle_seconds: float = 0.0
    low_rate_fraction: float = 0.0
    saturated_seconds: float = 0.0
    calibration_seconds: float = 3.0
    loads: Mapping[str, Load] = field(default_factory=dict)
    allotted: Mapping[str, Allotment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for problem in problems.of(self):
            raise InputError(
                f"The experiment {self.name!r} cannot be run: {problem}",
                next_step="Correct it where it was asked for; docs/guide.md says what can be.",
            )

    @property
    def quadruples(self) -> int:
        """Off-on-on-off quadruples in the switched part of one trial."""
        return self.quadruples_in(self.switched_seconds)

    def quadruples_in(self, seconds: float) -> int:
        """Off-on-on-off quadruples in a switched part of this length."""
        return int(seconds / (4 * self.window_seconds))

    @property
    def awaits_pilot(self) -> bool:
        """Whether a pilot is to decide, and has not yet."""
        return self.pilot_blocks > 0 and not self.allotted

    def blocks_of(self, workload: str) -> int:
        """How many blocks the workload has, as far as it is decided."""
        if workload in self.allotted:
            return self.allotted[workload].blocks
        return self.pilot_blocks or self.blocks

    @property
    def fewest_blocks(self) -> int:
        """Those of the workload that has the fewest."""
        return min(map(self.blocks_of, self.workloads))

    def seconds_of(self, trial: Trial) -> float:
        """How long the switched part of a trial is."""
        given = self.allotted.get(trial.workload)
        if given is None or trial.block < self.pilot_blocks:
            return self.switched_seconds
        return given.seconds.get(trial.arm, self.switched_seconds)

    def is_metered(self, block: int) -> bool:
        """Whether the blocks of this number have a steady and a metered part."""
        return not self.metered_blocks or block < self.metered_blocks

    def arm(self, name: str) -> Arm:
        """The arm of this name; FACTORIAL is that of a shared trial, with all its collectors."""
        if name == FACTORIAL and self.has_shared:
            return Arm(FACTORIAL, design.factors(self)[:-1], (), FACTORIAL)
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def has_shared(self) -> bool:
        """Whether there are factorial arms, which share their trials."""
        return any(arm.method == FACTORIAL and arm.collectors for arm in self.arms)

    @property
    def trial_arms(self) -> tuple[Arm, ...]:
        """Whose trials a block has: each arm's, and one for all that are factorial."""
        own = tuple(arm for arm in self.arms if arm.method != FACTORIAL)
        return (*own, self.arm(FACTORIAL)) if self.has_shared else own

    def arms_of(self, trial: Trial) -> tuple[Arm, ...]:
        """The arms whose figures a trial gives."""
        if trial.arm == FACTORIAL and self.has_shared:
            return tuple(arm for arm in self.arms if arm.method == FACTORIAL)
        return (self.arm(trial.arm),)

    def trial_arm(self, arm: str) -> str:
        """What the arm of the trials is called that tell of this arm."""
        return FACTORIAL if self.arm(arm).method == FACTORIAL else arm

    def load(self, workload: str) -> Load:
        """How this workload is driven."""
        return self.loads.get(workload, Load())

    @property
    def asking_seconds(self) -> float:
        """How much longer a trial with collectors takes because backends are asked what arrived."""
        return self.watched_seconds + ASKING_SECONDS if self.stack == "full" else 0.0

    @property
    def rates_seconds(self) -> float:
        """How much longer a metered trial takes because two rates are compared."""
        each = 2 * EXPORT_SECONDS + self.settle_seconds
        return 2 * each if self.low_rate_fraction else 0.0

    @property
    def rest_seconds(self) -> float:
        """How much longer a metered trial takes because rest is measured, and waited for."""
        before = self.settle_seconds + EXPORT_SECONDS
        return before + self.idle_seconds if self.idle_seconds else 0.0

    def expected_seconds(self) -> float:
        """About how long the trials take, start-up of processes included; from experience here."""
        per_switched = self.settle_seconds + self.switched_seconds + self.steady_seconds + 1.2
        per_metered = self.settle_seconds + self.metered_seconds + 1.2
        per_metered += self.rest_seconds + self.rates_seconds
        arms = self.trial_arms
        collectors = sum(1 for arm in arms if arm.collectors)
        metered = sum(map(_has_programs, arms))
        within = sum(any(map(subject.is_within, arm.collectors)) for arm in arms)
        against = sum(1 for arm in arms if arm.against)
        trials = len(arms) * per_switched + metered * per_metered + within * WITHIN_SECONDS
        trials += sum(parts.turning_seconds(arm, self.settle_seconds) for arm in arms)
        trials += sum(map(parts.moving_seconds, arms))
        trials += against * (self.steady_seconds + 1.5)  # the references' own steady part
        trials += (collectors + against) * self.asking_seconds
        trials += len(saturation.arms(self)) * (self.settle_seconds + self.saturated_seconds + 1.2)
        warmup = min(max(self.warmup_seconds, 4.0), self.warmup_limit_seconds)
        per_block = warmup + 5.0 + trials
        if self.pilot_blocks and self.budget_seconds:
            return self.budget_seconds
        whole = len(self.workloads) * (
            self.warmup_seconds + self.calibration_seconds + self.blocks * per_block
        )
        return min(whole, self.budget_seconds + per_block) if self.budget_seconds else whole


def load(path: Path, defaults: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file; a bare name means one of those that ship. InputError if unusable.

    `defaults` stand for keys that the file does not have.
    """
    if not path.suffix and not path.exists():
        path = SHIPPED / f"{path.name}.toml"
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
        raise InputError(
            f"There is no experiment file {path}.", next_step=f"Those that ship: {shipped}."
        ) from error
    except OSError as error:
        raise InputError(
            f"The experiment {path} cannot be read: {error.strerror}.",
            next_step="Give a file, or the name of an experiment that ships.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid TOML.", str(error), "Correct it there; strings stand in quotes."
        ) from error
    return from_dict({"name": path.stem, **(defaults or {}), **data}, str(path))


def from_dict(data: Mapping[str, Any], origin: str = "the experiment") -> Experiment:
    """Build an experiment from TOML's or run.json's keys, which equal the dataclass's fields."""
    known = {f.name for f in dataclasses.fields(Experiment)} - {"allotted"}
    keys.check(data, known, origin)
    named, arms = (keys.required(data, key, origin) for key in ("workloads", "arms"))
    try:
        return Experiment(
            **{
                **data,
                "workloads": keys.strings(named, "workloads", origin),
                "arms": _arms_of(arms, data.get("stack", "sink"), origin),
                "loads": _loads_of(data.get("loads", {}), origin),
            }
        )
    except (TypeError, AttributeError) as error:
        raise InputError(
            f"{origin} has a key of the wrong kind.",
            str(error),
            "Correct it; docs/guide.md shows an example.",
        ) from error


def _arms_of(data: Any, stack: str, origin: str) -> tuple[Arm, ...]:
    tables = keys.tables(data, f"arms of {origin}", "[[arms]]")
    arms = [_arm_of(table, f"Arm {i} of {origin}") for i, table in enumerate(tables, 1)]
    named = [arm.name for arm, table in zip(arms, tables, strict=True) if "method" in table]
    return tuple(methods.chosen(arms, named, stack))


def _arm_of(table: Any, where: str) -> Arm:
    keys.check(table, [f.name for f in dataclasses.fields(Arm)], where, "[[arms]]")
    collectors, against = (
        keys.strings(table.get(key, ()), key, where) for key in ("collectors", "against")
    )
    name = str(keys.required(table, "name", where))
    return Arm(name, collectors, against, table.get("method", "switch"))


def _loads_of(data: Any, origin: str) -> dict[str, Load]:
    known = [f.name for f in dataclasses.fields(Load)]
    return {
        name: Load(**keys.check(table, known, f"[loads.{name}] of {origin}", f"[loads.{name}]"))
        for name, table in data.items()
    }


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The inverse of `from_dict`, JSON-able; what a pilot decided is no part of what was asked."""
    found = dataclasses.asdict(experiment)
    del found["allotted"]
    return found


def plan(experiment: Experiment) -> list[Trial]:
    """Every trial in order: randomized complete blocks, each with its metered trials.

    Within a workload the arms of odd blocks are shuffled by the seed and those of the next block
    run in the reverse order, so that a linear drift over a pair of blocks cancels. Metered trials
    run at the end of each block, on the same process, and saturated ones last: what being full
    leaves behind in a process (its heap, closed connections) reaches no other trial. What runs
    within the service has no programs to meter. Before its pilot has decided, an experiment has the
    pilot's trials only; those that are decided follow, and have later numbers.
    """
    order: list[tuple[str, int, str, str]] = []
    for workload, block in allotment.order(experiment):
        order += [(workload, block, arm, "switched") for arm in _arms(experiment, block)]
        if not experiment.is_metered(block):
            continue
        order += [
            (workload, block, arm.name, "metered")
            for arm in experiment.trial_arms
            if _has_programs(arm) and experiment.metered_seconds > 0
        ]
        order += [(workload, block, arm.name, "saturated") for arm in saturation.arms(experiment)]
    return [
        Trial(i, workload, block, arm, kind, _seed(experiment.seed, i))  # type: ignore[arg-type]
        for i, (workload, block, arm, kind) in enumerate(order)
    ]


def _has_programs(arm: Arm) -> bool:
    """Whether it may have BPF programs of its own: what runs in something else has none."""
    return not all(subject.is_within(each) or subject.is_option(each) for each in arm.collectors)


def pattern(quadruples: int, seed: int) -> list[bool]:
    """Window states: each quadruple is off-on-on-off or its mirror, by a fair coin of the seed.

    Both orders cancel a linear drift within the quadruple; the coin keeps a periodic disturbance
    of the machine from staying in phase with the switching.
    """
    coin = random.Random(seed)
    states: list[bool] = []
    for _ in range(quadruples):
        first = coin.random() < 0.5
        states += [first, not first, not first, first]
    return states


def _arms(experiment: Experiment, block: int) -> list[str]:
    names = [arm.name for arm in experiment.trial_arms]
    random.Random(_seed(experiment.seed, 7919 + block // 2)).shuffle(names)
    return names[::-1] if block % 2 else names


def _seed(seed: int, index: int) -> int:
    return random.Random(f"{seed}/{index}").getrandbits(32)
