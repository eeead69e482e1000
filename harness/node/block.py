"""One block of an evaluation: a fresh workload and driver, and the trials on them; `evaluate`."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace

from harness.analysis import validity
from harness.errors import (
    HarnessError,
    LoadError,
    StoreError,
    UnavailableError,
    WorkloadError,
)
from harness.linux.placement import Placement
from harness.meters.cgroup import CgroupCpu
from harness.model import Receiver, Trial, TrialStatus
from harness.node import trial as trials
from harness.node.load_driver import Driver
from harness.node.machine import Machine
from harness.node.testbed import Stage
from harness.node.warm_up import await_steady
from harness.plan import experiment as experiments
from harness.plan.experiment import Experiment
from harness.plan.workloads import Workload
from harness.results.run import Run, TrialRecord, WindowRow

Progress = Callable[[float, float, str], None]
"""Called with seconds of work done, seconds of work in all, and what is happening now."""

MIN_REQUESTS = 5  # in a window, or its cost per request is mostly chance


@dataclass
class Block:
    """The trials of one block on one fresh workload process and one load driver."""

    store: Run
    experiment: Experiment
    target: Machine
    place: Placement
    receiver: Receiver
    workload: Workload
    clock: Clock

    def run(self, group: list[Trial]) -> list[str]:
        """Run these trials, which are of one block; warnings about those that failed.

        WorkloadError when the workload died, which ends the evaluation.
        """
        logs = self.store.path / "logs"
        logs.mkdir(exist_ok=True)
        first = group[0]
        with ExitStack() as stack:
            self.clock.tell(f"{first.workload}: starting the workload")
            running = self.workload.start(
                cgroup=self.target.make("workload"),
                cpus=self.place.workload,
                log=logs / f"{first.workload}-b{first.block}.log",
            )
            stack.callback(running.stop)
            driver = Driver(
                running.url,
                locustfile=self.workload.locustfile,
                connections=self.experiment.load(first.workload).connections,
                seed=self.experiment.seed,
                cgroup=self.target.make("client"),
                cpus=self.place.load,
                log=logs / f"{first.workload}-b{first.block}-load.log",
                control=self.target.socket("load"),
            )
            stack.callback(driver.stop)
            stage = Stage(
                self.experiment, self.target, self.place, self.receiver,
                self.workload, running, driver, self._rate(first.workload, driver),
            )  # fmt: skip
            self._warm_up(stage, first)
            return self._all(stage, group)

    def _warm_up(self, stage: Stage, first: Trial) -> None:
        """Drive the load until the workload's CPU per request is steady, or too long."""
        e = self.experiment
        self.clock.tell(f"{first.workload}: warming up")
        stage.driver.start(stage.rate)
        with closing(CgroupCpu(self.target.of(stage.scope))) as meter:
            seconds, steady = await_steady(
                lambda: meter.read()["usage_seconds"],
                e.warmup_seconds, e.warmup_limit_seconds, stage.rate,
            )  # fmt: skip
        stage.driver.finish(self.target.scratch / "warmup.npz")
        stage.workload.check()
        self._note_warmup(first, {"seconds": round(seconds, 2), "steady": steady})

    def _all(self, stage: Stage, group: list[Trial]) -> list[str]:
        """The trials in their order, then again those that broke a rule of validity."""
        warnings, waiting = [], deque(group)
        while waiting:
            trial = waiting.popleft()
            record, rows = self._one(stage, trial)
            if record.reason:
                warnings.append(f"{trial.name}: {record.reason}")
            if (again := replacement(self.experiment, record, rows)) is not None:
                waiting.append(again)
        return warnings

    def _one(self, stage: Stage, trial: Trial) -> tuple[TrialRecord, list[WindowRow]]:
        again = f", attempt {trial.attempt + 1}" if trial.attempt else ""
        self.clock.tell(
            f"{trial.workload}, block {trial.block + 1}: {trial.arm} ({trial.kind}{again})"
        )
        folder = self.store.folder(trial)
        try:
            record, rows = trials.run(stage, trial, folder)
        except StoreError:
            raise
        except (HarnessError, OSError, ValueError, KeyError) as error:
            status: TrialStatus = "skipped" if isinstance(error, UnavailableError) else "failed"
            record, rows = TrialRecord(trial, status, reason=str(error)), []
            (folder / "error.txt").write_text(traceback.format_exc())
            with suppress(LoadError):  # no phase was running; one that was fails the next trial
                stage.driver.finish(folder / "unfinished.npz")
        self.store.append(record, rows)
        if "warmup" in record.extra:  # of a process of the trial's own
            self._note_warmup(trial, record.extra["warmup"])
        if record.status == "skipped":
            self._note_skipped(trial.arm, record.reason)
        self.clock.finished(trial)
        if record.status == "failed":
            stage.workload.check()  # a dead workload ends the evaluation with its own sentence
        return record, rows

    def _note_warmup(self, trial: Trial, took: Mapping[str, object]) -> None:
        """Add how long a process took to the run's `warmups`."""
        took = {"workload": trial.workload, "block": trial.block, **took}
        self.store.note(warmups=[*self.store.about().get("warmups", ()), took])

    def _note_skipped(self, arm: str, reason: str) -> None:
        known = self.store.about()["skipped_arms"]
        if all(each["arm"] != arm for each in known):
            self.store.note(skipped_arms=[*known, {"arm": arm, "reason": reason}])

    def _rate(self, workload: str, driver: Driver) -> float:
        """Arrivals per second: given, or a share of the capacity found once per run."""
        load, window = self.experiment.load(workload), self.experiment.window_seconds
        known = self.store.about().get("calibration", {})
        if workload not in known:
            self.clock.tell(f"{workload}: finding its capacity")
            driver.capacity(self.experiment.warmup_seconds)  # a cold process is slow
            capacity = driver.capacity(self.experiment.calibration_seconds)
            rate = load.rate or min(load.max_rate, load.fraction * capacity.rate)
            if rate * window < MIN_REQUESTS:
                raise WorkloadError(
                    f"At {rate:.1f} requests a second a window of {window} s holds too few.",
                    f"{workload!r} answered {capacity.rate:.0f} a second when it was pressed.",
                    f"Set window_seconds to {MIN_REQUESTS / max(rate, 0.1):.1f} or more, or a "
                    "higher rate, in an experiment file.",
                )
            known[workload] = {
                "capacity": capacity.rate,
                "driver_cpu_share": capacity.cpu_share,
                "rate": load.rate or round(rate),
            }
            self.store.note(calibration=known)
        return float(known[workload]["rate"])


def replacement(
    experiment: Experiment, record: TrialRecord, rows: Sequence[WindowRow]
) -> Trial | None:
    """The trial that stands in for one that broke a rule of validity; None if none is due.

    The rules look at conditions, never at results, so that repeating does not choose results.
    """
    judged = validity.judge_of(experiment, record, rows)
    if judged.status != "invalid" or record.trial.attempt >= experiment.replacements:
        return None
    return replace(record.trial, attempt=record.trial.attempt + 1)


class Clock:
    """Turns finished trials into seconds of work done, for the progress bar."""

    def __init__(self, experiment: Experiment, progress: Progress) -> None:
        self._progress, self._total = progress, experiment.expected_seconds()
        plan = experiments.plan(experiment)
        asking = experiment.asking_seconds
        weights = {
            "switched": experiment.switched_seconds + experiment.steady_seconds + 2.5 + asking,
            "metered": experiment.metered_seconds + 2.0,
        }
        whole = sum(weights[t.kind] for t in plan)
        per = {kind: w / whole * self._total for kind, w in weights.items()}
        self._left = {trial.index: per[trial.kind] for trial in plan}
        self._label = ""

    def expect(self, trials: Sequence[Trial]) -> None:
        """Only these are left."""
        self._left = {trial.index: self._left[trial.index] for trial in trials}

    def skip(self, trials: Sequence[Trial]) -> None:
        """These will not be run."""
        for trial in trials:
            self.finished(trial)

    def tell(self, label: str) -> None:
        """Say what is happening."""
        self._label = label
        self._progress(self._total - sum(self._left.values()), self._total, label)

    def finished(self, trial: Trial) -> None:
        """A trial is done; a repeated one is not counted again."""
        self._left.pop(trial.index, None)
        self.tell(self._label)
