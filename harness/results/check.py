"""Whether a run directory holds together; for reports, and for whatever writes one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import StoreError
from harness.model import FACTORIAL, Arm, Window
from harness.plan import design, parts
from harness.plan.experiment import Experiment
from harness.results import requests
from harness.results.about import About
from harness.results.certificates import machine_hash
from harness.results.run import Run, TrialRecord

WHOLE = ([False, True, True, False], [True, False, False, True])  # a quadruple's states
TOLD = 3  # of a trial's problems


def check(run: Run) -> list[str]:
    """What is wrong with a run directory, a sentence each; empty if nothing is.

    Looked at are the edges of windows (they rise), quadruples (they are whole), requests (they can
    be read) and the machines that trials were measured on (it is one). StoreError if run.json, or
    the record of a trial, cannot be read.
    """
    about, experiment, records = run.about(), run.experiment(), run.records()
    found = list(_machines(about, records))
    for record in records:
        if record.status == "ok":
            problems = list(itertools.islice(_trial(run, experiment, record), TOLD))
            found += [f"{record.trial.name}: {problem}" for problem in problems]
    return found


def _machines(about: About, records: Sequence[TrialRecord]) -> Iterator[str]:
    """The hash of the machine stands with the run, and may stand with each trial."""
    if not (here := about.facts_hash):
        return
    if here != machine_hash(about.facts):
        yield "run.json names another machine than its facts tell of."
    elsewhere = [r.trial.name for r in records if r.extra.get("facts_hash", here) != here]
    if elsewhere:
        yield f"Not all trials are of one machine: {', '.join(elsewhere)} are of another."


def _trial(run: Run, experiment: Experiment, record: TrialRecord) -> Iterator[str]:
    folder, arm = run.path / "trials" / record.trial.name, experiment.arm(record.trial.arm)
    kind = record.trial.kind
    try:
        windows = [row.window for row in run.windows(record.trial)]
    except (StoreError, FileNotFoundError) as error:
        yield f"its windows cannot be read: {error}"
        return
    yield from _edges(windows)
    if arm.method == FACTORIAL:
        yield from _cycles(windows, len(design.factors(experiment)), kind != "metered")
    else:
        yield from _quadruples(windows, arm, kind != "metered")
    if kind == "switched" and windows:
        yield from _requests(folder)


def _edges(windows: Sequence[Window]) -> Iterator[str]:
    for place, window in enumerate(windows):
        if window.index != place:
            yield f"window {place} has the index {window.index}."
        if window.end_ns <= window.start_ns:
            yield f"window {place} ends before it begins."
    for before, after in itertools.pairwise(windows):
        if after.start_ns < before.end_ns:
            yield f"window {after.index} begins before window {before.index} has ended."


def _quadruples(windows: Sequence[Window], arm: Arm, switched: bool) -> Iterator[str]:
    """Windows are off-on-on-off or on-off-off-on, but where parts or nothing is compared."""
    if switched and arm.method == "block":
        if windows and not parts.are_whole([window.on for window in windows]):
            yield "it has no parts with and without its collectors that follow each other."
        return
    if not (switched or arm.against):
        return
    for number, group in itertools.groupby(windows, key=lambda window: window.quadruple):
        if [window.on for window in group] not in WHOLE:
            yield f"quadruple {number} is not whole."


def _cycles(windows: Sequence[Window], factors: int, switched: bool) -> Iterator[str]:
    """Within a cycle of a design each factor is on in half of the windows."""
    if not switched:
        return
    length = design.cycle(factors)
    for number, group in itertools.groupby(windows, key=lambda window: window.quadruple):
        states = [window.states for window in group]
        on = [sum(column) for column in zip(*states, strict=True)]
        if len(states) != length or on != [length // 2] * factors:
            yield f"cycle {number} is not whole."


def _requests(folder: Path) -> Iterator[str]:
    try:
        requests.read(folder / requests.NAME)
    except StoreError as error:
        yield f"its requests cannot be read: {error.what}"
