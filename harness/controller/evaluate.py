"""The one orchestration of an evaluation: a node, blocks, trials in their order; `cli` calls it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from harness.analysis.summary import summarize
from harness.controller import piloting, skipping
from harness.controller.beginning import Begin, now
from harness.controller.block import Block
from harness.controller.due import pending, set_failed_aside
from harness.controller.interim import Interim, Show
from harness.controller.node import session
from harness.controller.nodes import Nodes
from harness.controller.progress import GIVEN_UP, SKIPPED, Progress, Tell
from harness.controller.remote_load import LoadTarget, RemoteLoad
from harness.controller.resolved import Resolved
from harness.controller.spoilt import GivenUp, Spoilt
from harness.controller.stopping import StoppingRule
from harness.errors import (
    ComponentError,
    HarnessError,
    StoreError,
)
from harness.linux.stop_signals import interruptible
from harness.model import Trial
from harness.plan.experiment import Experiment
from harness.results import certificates
from harness.results.run import Run
from harness.targets.base import Target
from harness.wire.files import is_full
from harness.wire.spec import Hello


@dataclass
class Outcome:
    """How an evaluation ended: complete, or the error that stopped it; the run holds the rest.

    `not_begun` are trials that were due: their block ended early, or what spoils them was known.
    `skipped` arms cannot run there: why, by their names.
    """

    run: Run
    error: HarnessError | None = None
    warnings: list[str] = field(default_factory=list)
    not_begun: set[Trial] = field(default_factory=set)
    interrupted: bool = False
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> int:
        """How many trials were not begun; repetitions count where nothing else was left out."""
        return len([each for each in self.not_begun if not each.attempt] or self.not_begun)

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

    def give_up(self, given_up: GivenUp) -> None:
        """Keep at once what is not gone on with; once it is measured, it is told no more."""
        self.warnings.append(given_up.reason)
        if given_up.collector:  # its trials have it in their records
            return
        what = {"workload": given_up.workload, "arm": given_up.arm}
        told = {**what, "reason": given_up.reason}
        with contextlib.suppress(StoreError):
            known = [each for each in self.run.about().given_up if what.items() - each.items()]
            self.run.note(given_up=[*known, told])


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is, and what is known so far."""

    tell: Tell
    show: Show | None = None


def evaluate(
    target: Target,
    name: str,
    experiment: Experiment,
    resolved: Resolved,
    begin: Begin,
    tell: Tell = lambda *_: None,
    run_dir: Path | None = None,
    load: LoadTarget | None = None,
    show: Show | None = None,
) -> Outcome:
    """Run every trial of the experiment that has not been run yet, on a node of the target.

    The load comes from there as well, or from a node of the `load`'s target. `show` is told between
    trials what is known so far.

    What a node refuses at once is raised, before there is a run. After that what was measured is
    kept whatever happens: the error that ended it early is returned, so that the caller can still
    report; KeyboardInterrupt (Ctrl-C, SIGTERM) is raised after clean-up.
    """
    with interruptible() as stop:
        for each in (target, load.target) if load else (target,):
            each.check()
            each.prepare(partial(tell, 0.0, 1.0))
        lacking = skipping.obtained(target, resolved.definitions, partial(tell, 0.0, 1.0))
        asked = session(
            name,
            receiver=experiment.stack,
            idle_poll=experiment.idle_poll,
            service_cpus=experiment.service_cpus,
            load_workers=experiment.load_workers,
            run_dir=str(run_dir.absolute()) if run_dir and target.name == "local" else "",
        )
        # those that are elsewhere have no CPU here
        elsewhere = load is not None and asked.load_workers > 1
        measured = replace(asked, load_workers=0) if elsewhere else asked
        nodes = Nodes(target, lambda node: node.open(measured, partial(tell, 0.0, 1.0)))
        guard = experiment.guard_seconds
        remote = RemoteLoad(load, asked, guard, partial(tell, 0.0, 1.0)) if load else None
        nodes.beside = remote
        try:
            hello = nodes.connect()
            skipped = skipping.skipped(target, experiment, resolved.definitions, lacking) or {}
            skipping.require_some(experiment, skipped)
            nodes.clear(skipping.left(experiment, resolved.definitions, skipped))
            with target.out_of_the_way(hello.placement.orchestrator):
                if remote is not None:
                    remote.connect(nodes.node())
                run = begin(hello)
                with run.lock():
                    outcome = Outcome(run, skipped=skipped)
                    if target.caution:
                        outcome.warn(target.caution)
                    watch = Watch(tell, show)
                    return _measured(outcome, nodes, remote, hello, resolved, watch, stop.shield)
        finally:
            stop.shield()
            if remote is not None:
                remote.close()
            nodes.close()


def _measured(
    outcome: Outcome,
    nodes: Nodes,
    remote: RemoteLoad | None,
    hello: Hello,
    resolved: Resolved,
    watch: Watch,
    shield: Callable[[], None],
) -> Outcome:
    """Everything that is due, then the end, noted in the run whatever happened."""
    run = outcome.run
    nodes.keep_in(run.path)
    try:
        if remote is not None:
            remote.keep_in(run)  # first: a run that goes on must know where its load came from
        run.note(
            facts=dict(hello.facts), facts_hash=certificates.machine_hash(hello.facts),
            placement=vars(hello.placement), idle_poll=hello.idle_poll, complete=False,
            stopped_by="",
        )  # fmt: skip
        if hello.components:
            run.note(components=dict(hello.components))
        _note_skipped(outcome, watch.tell)
        set_failed_aside(run)
        _blocks(outcome, nodes, remote, resolved, watch)
        _send_results(outcome, nodes, hello)
    except HarnessError as error:
        outcome.error = error
    except OSError as error:
        outcome.error = _stopped(error)
    except KeyboardInterrupt:
        outcome.interrupted = True
        raise
    finally:
        shield()
        for sentence in [*(remote.close() if remote else ()), *nodes.close()]:
            outcome.warn(sentence)
        _note_end(outcome)
    return outcome


def _note_skipped(outcome: Outcome, tell: Tell) -> None:
    """Keep why arms cannot run, and say so before the time of the others is spent."""
    for arm, reason in outcome.skipped.items():
        skipping.note(outcome.run, arm, reason)
        tell(0.0, 1.0, f"{arm} {SKIPPED}{reason}")


def _note_end(outcome: Outcome) -> None:
    run = outcome.run
    failed = any(record.status == "failed" for record in run.records())
    why = str(outcome.error or ("It was interrupted." if outcome.interrupted else ""))
    whole = not why and not failed and not outcome.left_out
    with contextlib.suppress(StoreError):  # a full disk has been told of already
        run.note(ended=now(), complete=whole, stopped_by=why)


def _stopped(error: OSError) -> StoreError:
    return StoreError(
        f"The run stopped: {error}.",
        "What was measured before is kept.",
        "Make room, then resume." if is_full(error.errno) else "Mend that, then resume.",
    )


def _blocks(
    outcome: Outcome, nodes: Nodes, remote: RemoteLoad | None, resolved: Resolved, watch: Watch
) -> None:
    """All blocks that are due; those of a pilot first, if it has not decided on the others."""
    rule, barren = StoppingRule(outcome.run), dict[str, int]()
    spoilt = Spoilt(outcome.give_up, outcome.skipped)
    if outcome.run.experiment().awaits_pilot:
        _due(outcome, nodes, remote, resolved, watch, rule, barren, spoilt)
        piloting.decide(outcome.run, rule.spent())
    _due(outcome, nodes, remote, resolved, watch, rule, barren, spoilt)
    outcome.not_begun.update(spoilt.left_out)


def _due(
    outcome: Outcome,
    nodes: Nodes,
    remote: RemoteLoad | None,
    resolved: Resolved,
    watch: Watch,
    rule: StoppingRule,
    barren: dict[str, int],
    spoilt: Spoilt,
) -> None:
    """Block after block. One that ends early is told of, and the next one begins.

    A service whose blocks end early twice in a row before a trial, `barren`, is given up.
    """
    run = outcome.run
    experiment = run.experiment()
    progress, todo = Progress(experiment, watch.tell), pending(run)
    interim = Interim(run, watch.show)
    progress.expect(todo)
    for (name, number), group in itertools.groupby(todo, key=lambda t: (t.workload, t.block)):
        trials = list(group)
        if rule.reached(name, number):
            progress.skip(trials)
            continue
        if barren.get(name, 0) > 1 or spoilt.covers(trials):
            outcome.not_begun.update(trials)
            progress.skip(trials)
            continue
        before = len(run.records())
        try:
            Block(
                run, experiment, nodes.node(), resolved.workloads[name], resolved.definitions,
                progress, outcome.warn, outcome.skipped, remote, interim.look, nodes.serving,
                spoilt=spoilt,
            ).run(trials)  # fmt: skip
            nodes.held()
        except HarnessError as error:
            if error.ends == "run" or nodes.lost_too_often(error):
                raise
            outcome.break_block(name, number, str(error))
            left = _left(run, trials)
            outcome.not_begun.update(left)
            progress.skip(left)
        barren[name] = 0 if len(run.records()) > before else barren.get(name, 0) + 1
        if barren[name] > 1:
            told = f"{name} {GIVEN_UP}: two blocks in a row ended before a trial, see above."
            outcome.warnings.append(f"{told} Mend that, then resume the run.")
        rule.after(name, number)


def _left(run: Run, trials: Sequence[Trial]) -> list[Trial]:
    """Those of them that have not been run."""
    done = {record.trial.index for record in run.records()}
    return [trial for trial in trials if trial.index not in done]


def _send_results(outcome: Outcome, nodes: Nodes, hello: Hello) -> None:
    """The run's figures into a stack that stays up, for its dashboards."""
    if hello.stays:
        run = outcome.run
        try:
            nodes.node().send_results(run.path.name, summarize(run).rows)
        except ComponentError as error:
            outcome.warn(f"The results are not in the stack: {error}")
