"""One block of an evaluation: a node is asked for its trials, each is stored; for `evaluate`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from harness.analysis import blame, validity
from harness.analysis.harms import DIED
from harness.controller import skipping
from harness.controller.due import CULPRIT, replacement
from harness.controller.node import Node
from harness.controller.progress import AGAIN, Progress
from harness.controller.remote_load import RemoteLoad
from harness.controller.spoilt import Spoilt
from harness.errors import HarnessError, NodeError, StoreError, UnavailableError, WorkloadError
from harness.model import FACTORIAL, Measurement, Trial, WindowRow
from harness.plan import design
from harness.plan import trials as specs
from harness.plan.experiment import Experiment
from harness.plan.trials import Definitions
from harness.plan.workloads import Workload
from harness.results.about import Capacity
from harness.results.run import Run, TrialRecord
from harness.wire.spec import BlockReady, BlockSpec, Found, Spawn, TrialResult

Serving = Callable[[Spawn | Found, str], AbstractContextManager[Spawn | Found]]
LEFT_OUT = "left_out"  # what a node tells of a shared trial


@dataclass
class Block:
    """The trials of one block on one service process and one load driver.

    `skipped` are the arms that cannot run there, and why. The load is beside the service, unless
    `load` comes from another node. `look` is called between trials, when nothing is measured.
    `serving` is a target's: it says how the node has the service, as long as the block lasts.
    `spoilt` knows what is not gone on with.
    """

    store: Run
    experiment: Experiment
    node: Node
    workload: Workload
    definitions: Definitions
    progress: Progress
    warn: Callable[[str], None]
    skipped: Mapping[str, str] = field(default_factory=dict)
    load: RemoteLoad | None = None
    look: Callable[[Trial], None] = lambda _: None
    serving: Serving = lambda asked, _: nullcontext(asked)
    spoilt: Spoilt = field(default_factory=Spoilt)

    def run(self, group: Sequence[Trial]) -> None:
        """Run these trials, which are of one block, and store each.

        An error that ends the block or the run is raised; trials that it left out are due again.
        """
        if not any(map(self._is_measured, group)):  # as what is left of a block may be
            self._all(group)
            return
        first = group[0]
        spec = specs.block(
            self.experiment, self.workload, first.block, self._known_rate(first.workload)
        )
        with self.serving(spec.service, spec.name) as service:
            spec = replace(spec, service=service)
            if self.load is None:
                self._run(spec, group)
                return
            with self.load.driving(self.node) as elsewhere:
                self._run(replace(spec, elsewhere=elsewhere), group)

    def _is_measured(self, trial: Trial) -> bool:
        return trial.arm not in self.skipped and not self.spoilt.reason(trial)

    def _run(self, spec: BlockSpec, group: Sequence[Trial]) -> None:
        first = group[0]
        ready = self.node.block(spec, self._tell(first.workload))
        self._note_block(first, ready)
        try:
            self._all(group)
        except (NodeError, StoreError):  # the node is gone, or what it does goes on: it is closed
            raise
        except HarnessError:
            self._end(spec.name)
            raise
        self._end(spec.name)

    def _end(self, name: str) -> None:
        for sentence in self.node.end_block(lambda _: None):
            self.warn(f"{name}: {sentence}")

    def _all(self, group: Sequence[Trial]) -> None:
        """The trials in their order, then again those that broke a rule of validity."""
        waiting = deque(group)
        while waiting:
            trial = waiting.popleft()
            if trial.arm in self.skipped:
                self._skip(trial)
                continue
            if self.spoilt.leaves_out(trial):
                self.progress.skip([trial])
                continue
            record, rows = self._one(trial)
            spent = len(self._failed_before(trial))
            if (again := replacement(self.experiment, record, rows, spent)) is not None:
                waiting.append(again)
                if not self.spoilt.reason(again):
                    self._say_why(record, rows)

    def _say_why(self, record: TrialRecord, rows: Sequence[WindowRow]) -> None:
        """At once, not after the last: what spoils one trial mostly spoils the next, too."""
        trial = record.trial
        reason = record.reason or validity.judge_of(self.experiment, record, rows).reason
        self.progress.tell(
            f"{trial.workload}, block {trial.block + 1}: {trial.arm} {AGAIN}: {reason}"
        )

    def _skip(self, trial: Trial) -> None:
        """Store that it cannot run, and why; the node is not asked."""
        reason = self.skipped[trial.arm]
        self.progress.tell(f"{trial.workload}, block {trial.block + 1}: {trial.arm} is skipped")
        self.store.append(TrialRecord(trial, "skipped", reason))
        self.progress.finished(trial)

    def _one(self, trial: Trial) -> tuple[TrialRecord, Sequence[WindowRow]]:
        again = f", attempt {trial.attempt + 1}" if trial.attempt else ""
        what = f"{trial.arm} ({trial.kind}{again})"
        self.progress.tell(f"{trial.workload}, block {trial.block + 1}: {what}")
        without = {**self.spoilt.without(trial), **self._failed_before(trial)}
        spec = specs.trial(self.experiment, trial, self.definitions, without)
        self.store.folder(trial)
        try:
            result = self.node.trial(spec, self._tell(trial.workload))
        except NodeError as error:
            self.store.append(TrialRecord(trial, "failed", str(error)))
            raise
        record = record_of(trial, result, self.node.translated(result.error or {}))
        self._note_left_out(record, without)
        self._note_blamed(record, result.windows)
        self.store.append(record, result.windows)
        self.node.stored(spec)
        self._note_trial(record)
        self._note_spoilt(record, result)
        self.progress.finished(trial)
        self.look(trial)
        _raise_if_over(result, self.node.translated(result.error or {}))
        return record, result.windows

    def _failed_before(self, trial: Trial) -> Mapping[str, str]:
        """The collectors that ended earlier attempts of a shared trial, and how.

        Those too with which requests failed in this block: one that is measured again goes without.
        """
        if trial.arm != FACTORIAL or not trial.attempt:
            return {}
        found: dict[str, str] = {}
        for record in self.store.records():
            if record.trial.index == trial.index and CULPRIT in record.extra:
                found[record.extra[CULPRIT]] = record.reason
            same = (record.trial.workload, record.trial.block) == (trial.workload, trial.block)
            found |= record.extra.get(blame.BLAMED, {}) if same else {}
        return found

    def _note_blamed(self, record: TrialRecord, rows: Sequence[WindowRow]) -> None:
        """Which collectors the failed requests of a shared trial go with, if that spoilt it."""
        judged = validity.judge_of(self.experiment, record, rows)
        if judged.only_errors and (record.trial.arm, record.trial.kind) == (FACTORIAL, "switched"):
            specs_of = design.factors(self.experiment)
            names = [*(self.definitions[spec].slug for spec in specs_of[:-1]), specs_of[-1]]
            folder = self.store.path / "trials" / record.trial.name
            if found := blame.of_trial(folder, rows, names):
                record.extra[blame.BLAMED] = found

    def _note_left_out(self, record: TrialRecord, without: Mapping[str, str]) -> None:
        """Which collectors a shared trial went on without, and why, in words for its report."""
        told = record.extra.pop(LEFT_OUT, {})
        here = {name: self.node.translated(each) for name, each in told.items()}
        reasons = {name: str(HarnessError.from_dict(each)) for name, each in here.items()}
        if not (left := {**without, **reasons}):
            return
        record.extra[LEFT_OUT] = left
        lacking = [name for name, e in here.items() if e["class"] == UnavailableError.__name__]
        if failed := [
            f"{name} was left out, the other collectors were measured: {reason}"
            for name, reason in left.items()
            if name not in lacking  # of which the skipped arms tell
        ]:
            record.extra.setdefault("warnings", []).extend(failed)
        for name in lacking:
            for arm in self._with(name):
                skipping.note(self.store, arm, reasons[name])

    def _with(self, collector: str) -> list[str]:
        """The factorial arms that have the collector of this name."""
        return [
            arm.name
            for arm in self.experiment.arms
            if arm.method == FACTORIAL
            and any(self.definitions[spec].slug == collector for spec in arm.collectors)
        ]

    def _tell(self, workload: str) -> Any:
        return lambda what: self.progress.tell(f"{workload}: {what}")

    def _known_rate(self, workload: str) -> float | None:
        known = self.store.about().calibration.get(workload)
        return float(known["rate"]) if known else None

    def _note_block(self, first: Trial, ready: BlockReady) -> None:
        known = dict(self.store.about().calibration)
        if ready.capacity is not None:
            arrivals = self.experiment.load(first.workload).arrivals
            known[first.workload] = {**capacity(ready.capacity, ready.rate), "arrivals": arrivals}
            self.store.note(calibration=known)
        took = {"seconds": round(ready.warmup_seconds, 2), "steady": ready.steady}
        self._note_warmup(first, took)
        for sentence in ready.warnings:
            self.warn(f"{first.workload}: {sentence}")

    def _note_trial(self, record: TrialRecord) -> None:
        trial = record.trial
        if "warmup" in record.extra:  # of a process of the trial's own
            self._note_warmup(trial, {"arm": trial.arm, **record.extra["warmup"]})
        if record.status == "skipped":
            for arm in self.experiment.arms_of(trial):
                if arm.collectors or arm.name == trial.arm:
                    skipping.note(self.store, arm.name, record.reason)

    def _note_spoilt(self, record: TrialRecord, result: TrialResult) -> None:
        told = self.node.translated(result.error or {})
        is_ours = self.workload.running is None
        for given_up in self.spoilt.note(
            self.experiment, record, result.windows, told, is_ours=is_ours
        ):
            self.progress.tell(given_up.reason)

    def _note_warmup(self, trial: Trial, took: Mapping[str, object]) -> None:
        """Add how long a process took to the run's `warmups`."""
        took = {"workload": trial.workload, "block": trial.block, **took}
        self.store.note(warmups=[*self.store.about().warmups, took])


def capacity(found: Mapping[str, Any], rate: float) -> Capacity:
    """What run.json keeps of what a node found; what was refused only where something was."""
    known: Capacity = {
        "capacity": found["rate"],
        "driver_cpu_share": found["cpu_share"],
        "rate": rate,
    }
    if found.get("failures"):
        known["refused"], known["failures"] = found["refused"], found["failures"]
    return known


def record_of(trial: Trial, result: TrialResult, told: Mapping[str, str]) -> TrialRecord:
    """What is stored of a trial: the node's values, and whose they are."""
    reason = "" if result.status == "ok" else str(HarnessError.from_dict(told))
    values = tuple(
        Measurement(
            v.metric, v.value, v.unit, trial.workload, trial.arm, trial.block, trial.name, None,
            v.labels,
        )
        for v in result.values
    )  # fmt: skip
    died = {DIED: result.service} if result.service else {}
    return TrialRecord(trial, result.status, reason, values, {**result.details, **died})


def _raise_if_over(result: TrialResult, told: Mapping[str, str]) -> None:
    """What ends more than the trial is raised once the trial is stored."""
    if result.over and result.service:
        raise WorkloadError(
            result.service, next_step="Its log is in the run's folder, below logs/."
        )
    if result.over:
        raise HarnessError.from_dict(told)
