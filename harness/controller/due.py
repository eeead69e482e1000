"""Which trials of a run are still due, and which are run again; for `evaluate`, `block`, `cli`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.analysis import blame, factorial, validity
from harness.model import Trial, WindowRow
from harness.plan import experiment as experiments
from harness.plan.experiment import Experiment
from harness.results.run import Run, TrialRecord

CULPRIT = "failed_collector"  # of a shared trial's extra: whose failure ended it


def pending(run: Run) -> list[Trial]:
    """The trials to run, block after block; one that failed is due again.

    So is the replacement of one that broke a rule of validity before the run was interrupted.
    """
    experiment = run.experiment()
    latest: dict[int, Trial | None] = {}
    for record in run.records():  # a repeated attempt follows the first
        if record.status == "failed":
            latest.setdefault(record.trial.index, record.trial)
        else:
            rows = run.windows(record.trial)
            latest[record.trial.index] = replacement(experiment, record, rows)
    return [
        trial
        for planned in experiments.plan(experiment)
        if (trial := latest.get(planned.index, planned)) is not None
    ]


def left(run: Run) -> list[Trial]:
    """Those of them that will be run: the blocks that the stopping rule left out will not."""
    ended = run.about().ended_early
    return [
        trial
        for trial in pending(run)
        if trial.workload not in ended or trial.block < int(ended[trial.workload]["blocks"])
    ]


def is_done(run: Run) -> bool:
    """Whether it ended as it was to: nothing is left, nor will be once a pilot has decided."""
    return run.about().complete and not run.experiment().awaits_pilot and not left(run)


def set_failed_aside(run: Run) -> None:
    """Move the folders of failed trials aside, so that they can be run again."""
    for record in run.records():
        if record.status == "failed":
            run.set_aside(record.trial)


def replacement(
    experiment: Experiment, record: TrialRecord, rows: Sequence[WindowRow], spent: int = 0
) -> Trial | None:
    """The trial that stands in for one that broke a rule of validity; None if none is due.

    The rules look at conditions, never at results, so that repeating does not choose results. One
    that several arms share and one collector's failure ended is run again without that collector;
    such attempts, of which `spent` were made, are no replacements.
    """
    again = replace(record.trial, attempt=record.trial.attempt + 1)
    culprits: set[str] = {record.extra[CULPRIT]} if CULPRIT in record.extra else set()
    blamed: Mapping[str, str] = record.extra.get(blame.BLAMED, {})
    gone = {*culprits, *blamed, *record.extra.get(factorial.LEFT_OUT, {})}
    if (culprits or blamed) and len(gone) >= len(experiment.arm(record.trial.arm).collectors):
        return None  # there is nothing left to measure
    if culprits:
        return again
    judged = validity.judge_of(experiment, record, rows)
    if judged.status != "invalid" or record.trial.attempt - spent >= experiment.replacements:
        return None
    return again
