"""The one orchestration of an evaluation: a node, blocks, trials in their order; `cli` calls it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analysis.summary import summarize
from harness.collectors import REGISTRY
from harness.controller import telemetry
from harness.controller.block import Block
from harness.controller.due import pending, set_failed_aside
from harness.controller.node import Node, session
from harness.controller.progress import Progress, Tell
from harness.controller.stopping import StoppingRule
from harness.errors import (
    ComponentError,
    HarnessError,
    InputError,
    NeedError,
    NodeError,
    StoreError,
)
from harness.linux.stop_signals import interruptible
from harness.model import Arm, Trial
from harness.plan import definitions as resolving
from harness.plan import workloads
from harness.plan.experiment import Experiment
from harness.plan.trials import Definitions
from harness.plan.workloads import Workload
from harness.results import certificates, resume
from harness.results.run import Run
from harness.targets.base import Target
from harness.wire.spec import Hello

LOSSES = 3  # nodes in a row, after which there is no use in another one
AGAIN_SECONDS = 100.0  # a lost node's lease, and the time that it takes to undo what it did


@dataclass(frozen=True)
class Resolved:
    """An experiment's names, looked up: its services, and its collectors as they were then."""

    workloads: dict[str, Workload]
    definitions: Definitions


@dataclass
class Outcome:
    """How an evaluation ended: complete, or the error that stopped it; the run holds the rest.

    `left_out` trials were not begun, because their block ended early.
    """

    run: Run
    error: HarnessError | None = None
    warnings: list[str] = field(default_factory=list)
    left_out: int = 0

    def warn(self, sentence: str) -> None:
        """Keep a sentence on the run as a whole, at once: what comes later may be lost."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)
        with contextlib.suppress(StoreError):
            self.run.warn(sentence)

    def break_block(self, workload: str, block: int, reason: str) -> None:
        """Keep at once why a block ended early; once the rest is measured, it is told no more."""
        self.warnings.append(f"{workload}, block {block + 1} ended early: {reason}")
        broken = {"workload": workload, "block": block, "reason": reason}
        with contextlib.suppress(StoreError):
            self.run.note(broken_blocks=[*self.run.about().broken_blocks, broken])


Begin = Callable[[Hello], Run]
"""Makes or opens the run, once a node has said what it is; raises if that is not to be measured."""


def check(
    experiment: Experiment, own: Workload | None = None, definitions: Definitions | None = None
) -> Resolved:
    """Resolve every name; InputError or NeedError before anything is touched.

    `definitions` are those of a run that is resumed: what they were then.
    """
    for arm in experiment.arms:
        _check_arm(arm)
        if own is not None and arm.method != "switch":
            _check_own(arm, own)
    found = resolving.resolve_all(experiment) if definitions is None else definitions
    telemetry.check(experiment, found)
    return Resolved(
        {
            name: own if own is not None and own.name == name else workloads.load(name)
            for name in experiment.workloads
        },
        found,
    )


def _check_own(arm: Arm, own: Workload) -> None:
    if own.running is not None:
        raise InputError(
            f"Arm {arm.name!r} needs a process of the program for each block.",
            f"{own.name!r} runs already, and is not ours to start or end.",
            'Choose method = "switch", or give --command.',
        )
    if arm.method == "twin":
        raise InputError(
            f"Arm {arm.name!r} needs two processes of the program side by side.",
            f"{own.name!r} answers at one fixed address, {own.url}.",
            'Choose method = "switch" or "block", or add the program to workloads/.',
        )


def _check_arm(arm: Arm) -> None:
    """The two sets of an arm may share a collector: a version may be held against itself."""
    for specs in (arm.collectors, arm.against):
        slugs: set[str] = set()
        for spec in specs:
            try:
                slug = resolving.resolve(spec).slug
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
    target: Target,
    name: str,
    experiment: Experiment,
    resolved: Resolved,
    begin: Begin,
    tell: Tell = lambda *_: None,
) -> Outcome:
    """Run every trial of the experiment that has not been run yet, on a node of the target.

    What a node refuses at once is raised, before there is a run. After that what was measured is
    kept whatever happens: the error that ended it early is returned, so that the caller can still
    report; KeyboardInterrupt (Ctrl-C, SIGTERM) is raised after clean-up.
    """
    with interruptible() as stop:
        target.check()
        target.prepare(partial(tell, 0.0, 1.0))
        asked = session(
            name,
            receiver=experiment.stack,
            idle_poll=experiment.idle_poll,
            service_cpus=experiment.service_cpus,
        )
        nodes = _Nodes(target, lambda node: node.open(asked, partial(tell, 0.0, 1.0)))
        try:
            hello = nodes.connect()
            with target.out_of_the_way(hello.placement.orchestrator):
                run = begin(hello)
                with run.lock():
                    outcome = Outcome(run)
                    return _measured(outcome, nodes, hello, resolved, tell, stop.shield)
        finally:
            stop.shield()
            nodes.close()


def _measured(
    outcome: Outcome,
    nodes: _Nodes,
    hello: Hello,
    resolved: Resolved,
    tell: Tell,
    shield: Callable[[], None],
) -> Outcome:
    """Everything that is due, then the end, noted in the run whatever happened."""
    run = outcome.run
    nodes.keep_in(run.path)
    try:
        run.note(
            facts=dict(hello.facts), facts_hash=certificates.machine_hash(hello.facts),
            placement=vars(hello.placement), idle_poll=hello.idle_poll, complete=False,
            stopped_by="",
        )  # fmt: skip
        if hello.components:
            run.note(components=dict(hello.components))
        set_failed_aside(run)
        _blocks(outcome, nodes, resolved, tell)
        _send_results(outcome, nodes, hello)
    except HarnessError as error:
        outcome.error = error
    except OSError as error:
        outcome.error = _stopped(error)
    finally:
        shield()
        for sentence in nodes.close():
            outcome.warn(sentence)
        _note_end(outcome)
    return outcome


def _note_end(outcome: Outcome) -> None:
    run = outcome.run
    failed = any(record.status == "failed" for record in run.records())
    whole = outcome.error is None and not failed and not outcome.left_out
    with contextlib.suppress(StoreError):  # a full disk has been told of already
        run.note(ended=now(), complete=whole, stopped_by=str(outcome.error or ""))


def _stopped(error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StoreError(
        f"The run stopped: {error}.",
        "What was measured before is kept.",
        "Make room, then resume." if full else "Mend that, then resume.",
    )


def _blocks(outcome: Outcome, nodes: _Nodes, resolved: Resolved, tell: Tell) -> None:
    """Block after block. One that ends early is told of, and the next one begins.

    A service whose blocks end early twice in a row before a trial is given up.
    """
    run = outcome.run
    experiment = run.experiment()
    progress, rule, todo = Progress(experiment, tell), StoppingRule(run), pending(run)
    progress.expect(todo)
    barren: dict[str, int] = {}
    for (name, number), group in itertools.groupby(todo, key=lambda t: (t.workload, t.block)):
        trials = list(group)
        if rule.reached(name, number):
            progress.skip(trials)
            continue
        if barren.get(name, 0) > 1:
            outcome.left_out += len(trials)
            progress.skip(trials)
            continue
        block = Block(
            run, experiment, nodes.node(), resolved.workloads[name], resolved.definitions,
            progress, outcome.warn,
        )  # fmt: skip
        before = len(run.records())
        try:
            block.run(trials)
        except HarnessError as error:
            if error.ends == "run" or nodes.lost_too_often(error):
                raise
            outcome.break_block(name, number, str(error))
            left = _left(run, trials)
            outcome.left_out += len(left)
            progress.skip(left)
        barren[name] = 0 if len(run.records()) > before else barren.get(name, 0) + 1
        rule.after(name)


def _left(run: Run, trials: Sequence[Trial]) -> list[Trial]:
    """Those of them that have not been run."""
    done = {record.trial.index for record in run.records()}
    return [trial for trial in trials if trial.index not in done]


class _Nodes:
    """The node that is there, or another one in its place when it was lost."""

    def __init__(self, target: Target, begin: Callable[[Node], Hello]) -> None:
        self._target, self._begin = target, begin
        self._node: Node | None = None
        self._folder: Path | None = None
        self._losses = 0

    def connect(self) -> Hello:
        """Start a node and open its session."""
        self._node = Node(self._target.connect())
        self._node.folder = self._folder
        return self._begin(self._node)

    def node(self) -> Node:
        """The node, a new one if the last one was lost."""
        if self._node is None or self._node.lost:
            self.close()
            self._connect_again()
        assert self._node is not None
        return self._node

    def _connect_again(self) -> None:
        """Where a connection was lost, the node of before may not know it yet, and keep its run."""
        deadline = time.monotonic() + AGAIN_SECONDS
        while True:
            try:
                self.connect()
                return
            except NeedError:
                self.close()
                if time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def lost_too_often(self, error: HarnessError) -> bool:
        """Whether so many nodes were lost in a row that another one is of no use."""
        self._losses = self._losses + 1 if isinstance(error, NodeError) else 0
        return self._losses >= LOSSES

    def keep_in(self, folder: Path) -> None:
        """Where files from the node go."""
        self._folder = folder
        if self._node is not None:
            self._node.folder = folder

    def close(self) -> list[str]:
        """End the node; what could not be undone, in sentences. Safe to call again."""
        node, self._node = self._node, None
        return node.close() if node is not None else []


def _send_results(outcome: Outcome, nodes: _Nodes, hello: Hello) -> None:
    """The run's figures into a stack that stays up, for its dashboards."""
    if hello.stays:
        run = outcome.run
        try:
            nodes.node().send_results(run.path.name, summarize(run).rows)
        except ComponentError as error:
            outcome.warn(f"The results are not in the stack: {error}")


def beginning(
    path: Path,
    experiment: Experiment,
    resolved: Resolved,
    run: Run | None = None,
    *,
    anyway: bool = False,
    command: list[str],
    instrument: dict[str, Any] | None = None,
    target: str = "local",
) -> Begin:
    """Makes the run, or goes on with one: on the machine and with the version of its first part.

    `anyway` goes on with it elsewhere, and says so in the run.
    """

    def begin(hello: Hello) -> Run:
        if run is None:
            return create(path, experiment, command, resolved, instrument, target)
        if told := resume.check(
            run.about(), hello.facts, vars(hello.placement), __version__, hello.idle_poll,
            anyway=anyway,
        ):  # fmt: skip
            run.warn(told)
        return run

    return begin


def create(
    path: Path,
    experiment: Experiment,
    command: list[str],
    resolved: Resolved,
    instrument: dict[str, Any] | None = None,
    target: str = "local",
) -> Run:
    """A new run directory that knows how it was asked for and which claims to print.

    `instrument` is the machine's certificate, or what of it the analysis is to use.
    """
    services = resolved.workloads
    return Run.create(
        path,
        experiment,
        version=__version__,
        started=now(),
        command=command,
        target=target,
        own_workload=next((w.to_dict() for w in services.values() if w.is_own), None),
        primary_routes={name: workload.primary for name, workload in services.items()},
        collectors={spec: resolving.to_dict(d) for spec, d in resolved.definitions.items()},
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


def now() -> str:
    """The time, as run.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
