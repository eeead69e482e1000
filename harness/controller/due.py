"""Which trials of a run are still due; for `evaluate`."""

from __future__ import annotations

from harness.controller.block import replacement
from harness.model import Trial
from harness.plan import experiment as experiments
from harness.results.run import Run


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


def set_failed_aside(run: Run) -> None:
    """Move the folders of failed trials aside, so that they can be run again."""
    for record in run.records():
        if record.status == "failed":
            run.set_aside(record.trial)
