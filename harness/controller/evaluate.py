"""The one orchestration of an evaluation: target, workloads, trials in their order, report."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness import __version__
from harness.collectors import REGISTRY, resolve
from harness.controller.due import Ending, pending
from harness.errors import HarnessError, InputError, StoreError
from harness.linux import cpu_idle
from harness.linux.placement import placement
from harness.linux.stop_signals import interruptible
from harness.model import Arm
from harness.node import machine, receivers
from harness.node.block import Block, Clock, Progress
from harness.node.machine import Machine
from harness.plan import workloads
from harness.plan.experiment import Experiment
from harness.plan.workloads import Workload
from harness.results.run import Run


@dataclass
class Outcome:
    """How an evaluation ended: complete, or the error that stopped it; the run holds the rest."""

    run: Run
    error: HarnessError | None = None
    warnings: list[str] = field(default_factory=list)


def check(experiment: Experiment, own: Workload | None = None) -> dict[str, Workload]:
    """Resolve every name; InputError or NeedError before anything is touched."""
    receivers.check(experiment)
    for arm in experiment.arms:
        _check_arm(arm)
        if own is not None and arm.method == "twin":
            raise InputError(
                f"Arm {arm.name!r} needs two processes of the program side by side.",
                f"{own.name!r} answers at one fixed address, {own.url}.",
                'Choose method = "switch" or "block", or add the program to workloads/.',
            )
    return {
        name: own if own is not None and own.name == name else workloads.load(name)
        for name in experiment.workloads
    }


def _check_arm(arm: Arm) -> None:
    """The two sets of an arm may share a collector: a version may be held against itself."""
    for specs in (arm.collectors, arm.against):
        slugs: set[str] = set()
        for spec in specs:
            try:
                slug = resolve(spec).slug
            except InputError as error:
                what = f"Arm {arm.name!r}: {error.what}"
                raise InputError(what, error.why, error.next_step) from error
            if slug in slugs:
                raise InputError(
                    f"Arm {arm.name!r} names the same collector twice: {spec!r}.",
                    next_step="Give one of them another option, or leave it out.",
                )
            slugs.add(slug)


def evaluate(
    run: Run, resolved: dict[str, Workload], progress: Progress = lambda *_: None
) -> Outcome:
    """Run every trial of the run's experiment that has not been run yet.

    What was measured is kept whatever happens. The error that ended it early is returned, so that
    the caller can still report; KeyboardInterrupt (Ctrl-C, SIGTERM) is raised after clean-up.
    """
    outcome = Outcome(run)
    with interruptible(), ExitStack() as stack:
        try:
            _evaluate(run, resolved, progress, stack, outcome)
        except HarnessError as error:
            outcome.error = error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            outcome.error = StoreError(
                f"The run stopped: {error}.",
                "What was measured before is kept.",
                "Make room, then resume." if full else "Mend that, then resume.",
            )
    failed = any(record.status == "failed" for record in run.records())
    with contextlib.suppress(StoreError):  # a full disk has been told of already
        run.note(
            ended=_now(),
            complete=outcome.error is None and not failed,
            stopped_by=str(outcome.error or ""),
            warnings=list(dict.fromkeys([*run.about().get("warnings", ()), *outcome.warnings])),
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
    target = Machine(run.path.name, run.path)
    machine.refuse_beside_another()
    target.up()
    stack.callback(target.down)
    facts, place = target.facts(), placement()
    run.note(facts=facts, placement=vars(place), complete=False, stopped_by="")
    tell = partial(progress, 0.0, 1.0)
    receiver = receivers.start(run, target, place, stack, tell)
    before = os.sched_getaffinity(0)
    stack.callback(os.sched_setaffinity, 0, before)
    os.sched_setaffinity(0, place.orchestrator)
    run.note(idle_poll=stack.enter_context(cpu_idle.polling(experiment.idle_poll)))
    clock, ending, todo = Clock(experiment, progress), Ending(run), pending(run)
    clock.expect(todo)
    for (name, number), group in itertools.groupby(todo, key=lambda t: (t.workload, t.block)):
        trials = list(group)
        if ending.reached(name, number):
            clock.skip(trials)
            continue
        block = Block(run, experiment, target, place, receiver, resolved[name], clock)
        outcome.warnings += block.run(trials)
        ending.after(name)
    if why := receivers.send_results(run, receiver):
        outcome.warnings.append(why)


def create(
    path: Path,
    experiment: Experiment,
    command: list[str],
    resolved: dict[str, Workload],
    instrument: dict[str, Any] | None = None,
) -> Run:
    """A new run directory that knows how it was asked for and which claims to print.

    `instrument` is the machine's certificate, or what of it the analysis is to use.
    """
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
        warmups=[],
        ended_early={},
        instrument=instrument or {},
        claims=[
            {"collector": d.name, "text": claim.text, "source": claim.source}
            for d in REGISTRY.values()
            for claim in d.claims
        ],
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
