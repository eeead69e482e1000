"""What cost a plan would see, by earlier runs of the machine, in sentences; `evaluation` prints."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from harness.analysis import foresight
from harness.analysis.foresight import Foreseen, Moving, Past
from harness.analysis.gates import Measured
from harness.cli.choice import lasts
from harness.errors import HarnessError, StoreError
from harness.model import FACTORIAL, WindowRow
from harness.plan import parts
from harness.plan.experiment import Experiment
from harness.report import stored
from harness.results import certificates
from harness.results.run import Run

_NEWEST = 20  # of the runs in a folder: older ones are of other times


def lines(
    e: Experiment,
    reports: Path,
    facts: Mapping[str, Any],
    target: str,
    skipped: Collection[str] = (),
) -> Iterator[str]:
    """A line for each workload and method, and for each DaemonSet that was moved before.

    Nothing is told of arms that are `skipped`.
    """
    past = list(_past(reports, facts, target))
    yield from map(_sentence, foresight.foreseen(e, past, skipped))
    yield from map(_moving, foresight.moving(e, past, skipped))


def _moving(found: Moving) -> str:
    """What is reckoned with is told beside the arm."""
    than = f"{lasts(abs(found.more))} {'more' if found.more > 0 else 'less'}"
    return (
        f"{found.spec} took {found.coming:.0f} s to come and {found.going:.0f} s to go in run "
        f"{found.run}: {than} in all than the allowance for it"
    )


def _sentence(found: Foreseen) -> str:
    who = f"{found.workload} by {found.method}:"
    if found.lacking:
        return f"{who} fewer than six trials have no interval: give more {found.lacking}"
    if math.isnan(found.percent):
        return (
            f"{who} from which size a cost is seen is not known, since no run here measured it so"
        )
    said = f"{who} a cost is seen from about {found.percent:.2g} % of its CPU per request"
    if found.at_most:
        return (
            f"{said} or less, if it is as noisy as in run {found.run}, whose trials had two halves "
            "where they have five parts now"
        )
    if found.at_least:
        return (
            f"{said} or more, if it is as noisy as in windows of run {found.run}: what coming and "
            "going adds was not measured here"
        )
    return f"{said}, if it is as noisy as in run {found.run}"


def _past(reports: Path, facts: Mapping[str, Any], target: str) -> Iterator[Past]:
    """The whole ones there of the machine of these facts, the newest first."""
    found: list[tuple[Measured, Run]] = []
    for file in reports.glob("*/report.json"):
        try:
            told, run = stored.measured(file), Run.open(file.parent)
        except HarnessError:
            continue
        if run.about().target != target:
            continue
        if told.complete and certificates.machine(told.facts) == certificates.machine(facts):
            found.append((told, run))
    found.sort(key=lambda each: each[0].started, reverse=True)
    for told, run in found[:_NEWEST]:
        yield Past(
            told.name, run.experiment(), told.rows, _is_in_halves(run),
            partial(_switched, run), partial(_in_parts, run),
        )  # fmt: skip


def _is_in_halves(run: Run) -> bool:
    """Whether its trials by `block` are those of an earlier version; not if they are gone."""
    blocks = [arm.name for arm in run.experiment().arms if arm.method == "block"]
    return len(next(_windows(run, blocks), ())) == parts.HALVES


def _in_parts(run: Run, spec: str) -> Iterator[list[WindowRow]]:
    """The parts of each trial in which it alone came and went, none if they are gone."""
    arms = [
        arm.name for arm in run.experiment().arms
        if arm.method == "block" and arm.collectors == (spec,)
    ]  # fmt: skip
    return _windows(run, arms)


def _switched(run: Run, workload: str) -> Iterator[list[WindowRow]]:
    """The windows of each trial in which collectors were switched, none if they are gone."""
    arms = [arm.name for arm in run.experiment().trial_arms if arm.method in ("switch", FACTORIAL)]
    return _windows(run, arms, workload)


def _windows(run: Run, arms: Collection[str], workload: str = "") -> Iterator[list[WindowRow]]:
    """Those of each trial of these arms in which something was switched, of one workload or any."""
    with suppress(StoreError, FileNotFoundError):
        for record in run.records() if arms else ():
            trial = record.trial
            wanted = trial.kind == "switched" and trial.arm in arms
            if wanted and workload in ("", trial.workload) and record.status == "ok":
                yield run.windows(trial)
