"""The one orchestration of an evaluation: target, workloads, trials in their order, report."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from harness import __version__, shell, workloads
from harness import experiment as experiments
from harness import trial as trials
from harness.collectors import REGISTRY
from harness.errors import (
    ComponentError,
    HarnessError,
    InputError,
    StoreError,
    UnavailableError,
    WorkloadError,
)
from harness.experiment import Experiment
from harness.load.client import Driver
from harness.model import Trial, TrialStatus
from harness.stage import Stage
from harness.store import Run, TrialRecord
from harness.targets.local import Local
from harness.targets.placement import Placement, placement
from harness.workloads import Workload

Progress = Callable[[float, float, str], None]
"""Called with seconds of work done, seconds of work in all, and what is happening now."""

READY_SECONDS = 20.0


@dataclass
class Outcome:
    """How an evaluation ended: complete, or the error that stopped it; the run holds the rest."""

    run: Run
    error: HarnessError | None = None
    warnings: list[str] = field(default_factory=list)


def check(experiment: Experiment, own: Workload | None = None) -> dict[str, Workload]:
    """Resolve every name; InputError or NeedError before anything is touched."""
    for arm in experiment.arms:
        for name in arm.collectors:
            if name not in REGISTRY:
                raise InputError(
                    f"Arm {arm.name!r} names the collector {name!r}, which is not known.",
                    next_step=f"Known are: {', '.join(REGISTRY)}.",
                )
    return {
        name: own if own is not None and own.name == name else workloads.load(name)
        for name in experiment.workloads
    }


def evaluate(
    run: Run, resolved: dict[str, Workload], progress: Progress = lambda *_: None
) -> Outcome:
    """Run every trial of the run's experiment that has not been run yet.

    What was measured is kept whatever happens. The error that ended it early is returned, so that
    the caller can still report; KeyboardInterrupt (Ctrl-C, SIGTERM) is raised after clean-up.
    """
    outcome = Outcome(run)
    with _terminable(), ExitStack() as stack:
        try:
            _evaluate(run, resolved, progress, stack, outcome)
        except HarnessError as error:
            outcome.error = error
        except OSError as error:
            outcome.error = StoreError(
                f"The run stopped: {error}.",
                "What was measured before is kept.",
                "Mend that (a full disk, most often), then resume.",
            )
    failed = any(record.status == "failed" for record in run.records())
    with contextlib.suppress(StoreError):  # a full disk has been told of already
        _note(
            run,
            ended=_now(),
            complete=outcome.error is None and not failed,
            stopped_by=str(outcome.error or ""),
            warnings=outcome.warnings,
        )
    return outcome


def _evaluate(
    run: Run,
    resolved: dict[str, Workload],
    progress: Progress,
    stack: ExitStack,
    outcome: Outcome,
) -> None:
    experiment = run.experiment()
    target = Local(run.path.name, run_dir=run.path)
    target.up()
    stack.callback(target.down)
    facts, place = target.facts(), placement()
    before = os.sched_getaffinity(0)
    stack.callback(os.sched_setaffinity, 0, before)
    os.sched_setaffinity(0, place.orchestrator)
    _note(run, facts=facts, placement=vars(place), complete=False, stopped_by="")
    spool = run.path / "telemetry.spool"
    sink_url = _start_sink(target, place, spool, run.path / "sink.log", stack)
    done = {r.trial.index for r in _kept(run)}
    todo = [t for t in experiments.plan(experiment) if t.index not in done]
    clock = _Clock(experiment, progress, len(done))
    for (name, _), group in itertools.groupby(todo, key=lambda t: (t.workload, t.block)):
        block = _Block(run, experiment, target, place, sink_url, spool, resolved[name], clock)
        block.run(list(group), outcome)


@dataclass
class _Block:
    """The trials of one block on one fresh workload process and one load driver."""

    run_store: Run
    experiment: Experiment
    target: Local
    place: Placement
    sink_url: str
    spool: Path
    workload: Workload
    clock: _Clock

    def run(self, group: list[Trial], outcome: Outcome) -> None:
        logs = self.run_store.path / "logs"
        logs.mkdir(exist_ok=True)
        first = group[0]
        with ExitStack() as stack:
            self.clock.tell(f"{first.workload}: starting the workload")
            running = self.workload.start(
                cgroup=self.target.cgroup("workload"),
                cpus=self.place.workload,
                log=logs / f"{first.workload}-b{first.block}.log",
            )
            stack.callback(running.stop)
            driver = Driver(
                running.url,
                locustfile=self.workload.locustfile,
                connections=self.experiment.load(first.workload).connections,
                seed=self.experiment.seed,
                cgroup=self.target.cgroup("client"),
                cpus=self.place.load,
                log=logs / f"{first.workload}-b{first.block}-load.log",
                control=self.target.scratch / "load.sock",
            )
            stack.callback(driver.stop)
            stage = Stage(
                self.experiment, self.target, self.place, self.sink_url, self.spool,
                running, driver, self._rate(first.workload, driver),
            )  # fmt: skip
            self.clock.tell(f"{first.workload}: warming up")
            driver.start(stage.rate)
            time.sleep(self.experiment.warmup_seconds)
            driver.finish(self.target.scratch / "warmup.npz")
            for trial in group:
                self._one(stage, trial, outcome)

    def _one(self, stage: Stage, trial: Trial, outcome: Outcome) -> None:
        self.clock.tell(f"{trial.workload}, block {trial.block + 1}: {trial.arm} ({trial.kind})")
        folder = self.run_store.folder(trial)
        try:
            record, rows = trials.run(stage, trial, folder)
        except StoreError:
            raise
        except (HarnessError, OSError) as error:
            status: TrialStatus = "skipped" if isinstance(error, UnavailableError) else "failed"
            record, rows = TrialRecord(trial, status, reason=str(error)), []
            (folder / "error.txt").write_text(traceback.format_exc())
            outcome.warnings.append(f"{trial.name}: {error}")
        self.run_store.append(record, rows)
        if record.status == "skipped":
            _note_skipped(self.run_store, trial.arm, record.reason)
        self.clock.finished(trial)
        if record.status == "failed":
            stage.workload.check()  # a dead workload ends the evaluation with its own sentence

    def _rate(self, workload: str, driver: Driver) -> float:
        """Arrivals per second: given, or a share of the capacity found once per run."""
        load = self.experiment.load(workload)
        known = self.run_store.about().get("calibration", {})
        if workload not in known:
            self.clock.tell(f"{workload}: finding its capacity")
            capacity = driver.capacity(self.experiment.calibration_seconds)
            rate = load.rate or min(load.max_rate, load.fraction * capacity.rate)
            if rate < 1:
                raise WorkloadError(
                    f"The workload {workload!r} answers {capacity.rate:.2f} requests a second.",
                    "That is too few to compare windows of a tenth of a second.",
                    "Check its URL, or give a rate.",
                )
            known[workload] = {
                "capacity": capacity.rate,
                "driver_cpu_share": capacity.cpu_share,
                "rate": round(rate),
            }
            _note(self.run_store, calibration=known)
        return float(known[workload]["rate"])


class _Clock:
    """Turns finished trials into seconds of work done, for the progress bar."""

    def __init__(self, experiment: Experiment, progress: Progress, done: int) -> None:
        self._progress, self._total = progress, experiment.expected_seconds()
        plan = experiments.plan(experiment)
        weights = {"switched": experiment.switched_seconds + experiment.steady_seconds + 2.5,
                   "metered": experiment.metered_seconds + 2.0}  # fmt: skip
        whole = sum(weights[t.kind] for t in plan)
        self._per = {kind: w / whole * self._total for kind, w in weights.items()}
        self._done = sum(self._per[t.kind] for t in plan[:done])
        self._label = ""

    def tell(self, label: str) -> None:
        self._label = label
        self._progress(self._done, self._total, label)

    def finished(self, trial: Trial) -> None:
        self._done += self._per[trial.kind]
        self._progress(self._done, self._total, self._label)


def create(
    path: Path, experiment: Experiment, command: list[str], resolved: dict[str, Workload]
) -> Run:
    """A new run directory that knows how it was asked for and which claims to print."""
    return Run.create(
        path,
        experiment,
        version=__version__,
        started=_now(),
        command=command,
        own_workload=next((w.to_dict() for w in resolved.values() if w.url), None),
        primary_routes={name: workload.primary for name, workload in resolved.items()},
        calibration={},
        skipped_arms=[],
        warnings=[],
        claims=[
            {"collector": d.name, "text": claim.text, "source": claim.source}
            for d in REGISTRY.values()
            for claim in d.claims
        ],
    )


def _kept(run: Run) -> Iterator[TrialRecord]:
    """Finished trials; one that failed is set aside, visibly, and will be tried again."""
    for record in run.records():
        if record.status == "failed":
            run.set_aside(record.trial)
        else:
            yield record


def _start_sink(target: Local, place: Placement, spool: Path, log: Path, stack: ExitStack) -> str:
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
    process = shell.spawn(
        argv, log=log, cgroup=target.cgroup("sink"), cpus=place.collector, pipe_stdout=True
    )
    stack.callback(shell.stop, process)
    answer = shell.announced(process, READY_SECONDS)
    if answer is None:
        raise ComponentError("The telemetry receiver did not start.", next_step=f"See {log}.")
    return f"http://127.0.0.1:{answer['port']}"


def _note_skipped(run: Run, arm: str, reason: str) -> None:
    known = run.about()["skipped_arms"]
    if all(each["arm"] != arm for each in known):
        _note(run, skipped_arms=[*known, {"arm": arm, "reason": reason}])


def _note(run: Run, **values: object) -> None:
    run.write_about({**run.about(), **values})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end an evaluation as Ctrl-C does: in order."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
