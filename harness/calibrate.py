"""Calibrates the harness on this machine: noise, entry cost, known effects; the CLI calls it.

reports/<run>/
  calibrate.json               what was asked for, so that it can be resumed
  noise/  injected/            two runs as `evaluate` makes them
  entry.json                   cost of entering an empty program, by hook
  certificate.json .md *.png   computed from those; the JSON is copied to reports/certificate.json
                               if none that took longer is there
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import __version__, evaluate, instrument, shell
from harness.analysis import calibration
from harness.analysis.trust import COMPARISON_SECONDS, LEAST_NULLS
from harness.block import Progress
from harness.errors import CommandError, ComponentError, InputError, StoreError
from harness.experiment import Experiment
from harness.model import BASELINE, Arm, Load
from harness.report import certificate as report
from harness.store import Run
from harness.targets.local import Local

NOISE, INJECTED, ENTRY, ASKED = "noise", "injected", "entry.json", "calibrate.json"
NOISE_SHARE = 0.25
FULL_MINUTES = 20.0  # from here on every arm is run, in several blocks
CPU_PERCENT = (0.5, 1.0, 2.0, 5.0)
LATENCY_US = (20, 50, 100)
AGENT_PERCENT = 5
UNBURNT = "inject:ns=0"
EVENTS_PER_REQUEST = 1.0  # about; what was injected is measured
TYPICAL_US = 100.0  # of CPU a request, to show a plan before the level is known
ENTRY_LIMIT_SECONDS = 600.0
LEAST_SECONDS = 6.0
BLOCKS = range(8, 2, -1)  # as many as leave trials long enough for comparisons
WHOLE_SECONDS = 1.01 * COMPARISON_SECONDS  # one that is rounded up to whole quadruples
LOAD = Load(fraction=0.25)  # far from where requests wait for each other


@dataclass(frozen=True)
class Asked:
    """What a calibration was asked for; `minutes` in all, about."""

    minutes: float = 35.0
    workload: str = "plain"
    seed: int = 20254
    command: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 2 <= self.minutes <= 600:
            raise InputError("A calibration takes between 2 and 600 minutes.")

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
        name=INJECTED, workloads=(asked.workload,), arms=arms(level, asked.is_full),
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


def arms(level_us: float, full: bool) -> tuple[Arm, ...]:
    """Effects in percent of the level of CPU per request, in us of latency, and of an agent.

    They are injected against the same program without a burn, so that a burn is all that differs.
    """
    cpu = {f"cpu-{p:g}".replace(".", "-"): p / 100 * level_us for p in CPU_PERCENT}
    latency = {f"latency-{us}": float(us) for us in LATENCY_US}
    wanted = {**cpu, **latency}
    if not full:
        wanted = {name: wanted[name] for name in ("cpu-5", "latency-100")}
    burning = (
        Arm(name, (f"inject:ns={round(1e3 * us / EVENTS_PER_REQUEST)}",), against=(UNBURNT,))
        for name, us in wanted.items()
    )
    agent = Arm(f"agent-{AGENT_PERCENT}", (f"{UNBURNT},agent_percent={AGENT_PERCENT}",))
    return Arm(BASELINE), *burning, agent


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


def check(asked: Asked, path: Path) -> None:
    """Fail before anything is made or touched, if it cannot be run."""
    evaluate.check(injected_experiment(asked, {}))
    Local(path.name, run_dir=path).check()


def create(path: Path, asked: Asked) -> None:
    """Make the folder of a calibration; StoreError if it exists."""
    try:
        path.mkdir(parents=True)
        (path / ASKED).write_text(json.dumps(asdict(asked), indent=1) + "\n")
    except FileExistsError as error:
        raise StoreError(f"{path} exists already.", next_step="Name another run.") from error
    except OSError as error:
        raise StoreError(f"Cannot create {path}.", str(error)) from error


def asked_of(path: Path) -> Asked:
    """What an existing calibration was asked for; StoreError if the folder is none."""
    try:
        return Asked(**json.loads((path / ASKED).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} is not a calibration: it has no {ASKED}.",
            next_step="`harness calibrate` makes one below reports/.",
        ) from error


def calibrate(path: Path, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Run what of a calibration has not been run, and write its certificate.

    A HarnessError that stops one of its runs is raised; what was measured is kept.
    """
    asked = asked_of(path)
    check(asked, path)
    whole = expected_seconds(asked)
    quiet = noise_experiment(asked)
    _run(path / NOISE, quiet, asked, _part(progress, 0.0, whole), {})
    done = quiet.expected_seconds()
    progress(done, whole, "cost of entering a program")
    entry = _entry(path)
    problem = entry.pop("problem", "")
    done += asked.entry_seconds
    noise_run = Run.open(path / NOISE)
    found = calibration.of_noise(noise_run)
    if not found:
        raise ComponentError(
            "The noise of this machine could not be measured.",
            "No trial of the noise run broke no rule.",
            f"{path / NOISE / 'trials'} tells which.",
        )
    rate = noise_run.about()["calibration"][asked.workload]["rate"]
    experiment = injected_experiment(asked, {**found, "rate": rate})
    _run(path / INJECTED, experiment, asked, _part(progress, done, whole), entry)
    if problem:
        run = Run.open(path / INJECTED)
        run.note(warnings=sorted({*run.about().get("warnings", ()), problem}))
    certificate = certify(path)
    instrument.publish(path.parent, certificate)
    return certificate


def certify(path: Path) -> dict[str, Any]:
    """Write certificate.json, .md and its figures from what was measured; needs no root."""
    asked, noise_run = asked_of(path), Run.open(path / NOISE)
    about = noise_run.about()
    certificate = {
        "run": path.name,
        "version": __version__,
        "made": about.get("started"),
        "command": asked.command,
        "minutes": asked.minutes,
        "machine": instrument.machine(about.get("facts", {})),
        "facts": about.get("facts", {}),
        **calibration.certify(noise_run, Run.open(path / INJECTED), _measured_entry(path) or {}),
    }
    instrument.save(path, certificate)
    found = instrument.read(path / instrument.FILE)
    report.write(path, found)
    return found


def _part(progress: Progress, before: float, whole: float) -> Progress:
    """A run's progress as part of the calibration's."""
    return lambda done, _total, label: progress(min(before + done, whole), whole, label)


def _run(
    path: Path, experiment: Experiment, asked: Asked, progress: Progress, entry: dict[str, Any]
) -> None:
    """Evaluate, or go on with what was begun; an error that stopped it is raised."""
    resolved = evaluate.check(experiment)
    if path.exists():
        run = Run.open(path)
        if run.about().get("complete"):
            return
    else:
        Local(path.name, run_dir=path).check()
        run = evaluate.create(path, experiment, asked.command, resolved)
        run.note(instrument={"entry_ns": entry})
    outcome = evaluate.evaluate(run, resolved, progress)
    if outcome.error is not None:
        raise outcome.error


def _entry(path: Path) -> dict[str, Any]:
    """The cost of entry by hook, measured once; where that fails, nothing, and `problem` says why.

    A calibration does not end with it: without it the entry row of the bill is missing, no more.
    """
    if (measured := _measured_entry(path)) is not None:
        return measured
    argv = [sys.executable, "-m", "harness.agent.entry", "--json"]
    try:
        found: dict[str, Any] = json.loads(shell.run(argv, timeout=ENTRY_LIMIT_SECONDS).stdout)
    except (CommandError, ValueError) as error:
        return {"problem": f"The cost of entering a program was not measured: {error}"}
    partial = path / f".{ENTRY}.partial"
    partial.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(partial, path / ENTRY)
    return found


def _measured_entry(path: Path) -> dict[str, Any] | None:
    """What was measured before; None if nothing was, or if the file is not whole."""
    try:
        found = json.loads((path / ENTRY).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
