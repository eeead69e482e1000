"""Load from a second node: its session, its driver, its clock; for `evaluate` and `block`.

The measured node asks for load as it would ask a driver of its own. What it asks is carried to the
node of the load, and the requests that come back are told by the measured node's clock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.controller import clocks
from harness.controller.clocks import Offset
from harness.controller.node import Node
from harness.controller.nodes import Nodes
from harness.errors import HarnessError, InputError, LoadError, NeedError, NodeError
from harness.plan.experiment import Experiment
from harness.results import certificates
from harness.results.run import Run
from harness.targets.base import Target
from harness.wire import codec
from harness.wire.driving import Answer, Call, Course, Does, End, FindCapacity, Finish, Start
from harness.wire.spec import Elsewhere, Session

SUFFIX = "-load"  # of the session's name
MARGIN_SECONDS = 30.0  # beyond its lease and what it was asked for, until its node is given up

Tell = Callable[[str], None]


@dataclass(frozen=True)
class LoadTarget:
    """Where the load comes from, and the URL at which the service is reached from there, if that
    is another than its own.
    """

    target: Target
    url: str = ""

    def check(self, experiment: Experiment) -> None:
        """InputError if an experiment cannot be driven from another node."""
        if twins := [arm.name for arm in experiment.arms if arm.method == "twin"]:
            raise InputError(
                f"Arm {twins[0]!r} has the method twin, which needs its load beside it.",
                "Which of the twins gets the load is told at the edge of each window.",
                "Choose the method switch or block, or leave --load-target out.",
            )

    def described(self) -> str:
        """Where the load comes from and goes to, as part of a sentence."""
        return f"from {self.target.name}" + (f" to {self.url}" if self.url else "")


class RemoteLoad:
    """A node of the role `load`, or another one in its place when it was lost."""

    def __init__(self, load: LoadTarget, session: Session, guard_seconds: float, tell: Tell):
        asked = replace(session, run=f"{session.run[:90]}{SUFFIX}", role="load", run_dir="")
        self._load, self._guard_seconds = load, guard_seconds
        self._silent_seconds = session.lease_seconds + MARGIN_SECONDS
        self._lasts_seconds = 0.0  # the phase that is under way, if it ends by itself
        self._nodes = Nodes(load.target, lambda node: node.open(asked, tell))
        self._facts: dict[str, Any] = {}
        self._before: Offset | None = None
        self._last: Offset | None = None

    def hears(self) -> None:
        """Let its node know that we are there, while a lost one of the measured is closed."""
        node = self._nodes.current()
        if node is not None and not node.lost:
            node.hears()

    def connect(self, measured: Node) -> None:
        """Open its session; NeedError if its clock cannot be told well enough from this node's."""
        self._nodes.beside = measured
        self._facts = dict(self._nodes.connect().facts)
        clocks.require(self._compared(measured), self._guard_seconds, NeedError)

    def keep_in(self, run: Run) -> None:
        """Where its logs go, and where it is noted; with a warning if that is elsewhere now."""
        self._nodes.keep_in(run.path)
        name, before = self._load.target.name, run.about().load_node
        if before and certificates.machine(before["facts"]) != certificates.machine(self._facts):
            run.warn(
                f"{name}, from where the load comes, is another machine since the run was resumed: "
                "latencies before and after are not comparable."
            )
        clock = self._last and {
            "ahead_ns": self._last.ahead_ns, "uncertainty_ns": self._last.uncertainty_ns,
        }  # fmt: skip
        known = {"target": name, "url": self._load.url, "facts": self._facts, "clock": clock}
        run.note(load_node=known)

    def close(self) -> list[str]:
        """End its session; what could not be undone, in sentences. Safe to call again."""
        return self._nodes.close()

    @contextlib.contextmanager
    def driving(self, measured: Node) -> Iterator[Elsewhere]:
        """Do what the measured node asks for, as long as a block lasts; then end the driver.

        Each node hears of us while the other one is waited for, or closed when it was lost.
        """
        self._nodes.beside = measured
        with contextlib.suppress(NodeError):  # it may have gone unnoticed
            self._nodes.node().clock()
        load = self._nodes.node()
        measured.drives, measured.beside, load.beside = partial(self._do, measured), self, measured
        try:
            yield Elsewhere(self._load.target.name, self._load.url)
        except HarnessError:
            self._end(load)
            raise
        else:  # after Ctrl-C it may still be at something: closing its session ends all
            self._end(load)
        finally:
            measured.drives = load.beside = None

    def _do(self, measured: Node, call: Call) -> Answer:
        """The answer to a call, in the measured node's time; LoadError if the load is lost."""
        load, does = self._nodes.current(), call.does
        if load is None or load.lost:
            raise self._lost("it was lost before")
        try:
            if isinstance(does, Start) and does.requests is None:
                self._before = self._told(measured)
            found, requests = load.drive(call, self._silent_seconds + self._lasts(does))
            if isinstance(does, Start) and self._last is not None:
                found = {"at_ns": found["at_ns"] - self._last.ahead_ns}
            if isinstance(does, Finish):
                found = {**found, "course": codec.dump(self._course(measured, does))}
        except NodeError as error:
            if measured.lost:
                raise
            raise (self._lost(error.why) if load.lost else self._failed(error)) from error
        return found, requests

    def _lasts(self, does: Does) -> float:
        """Seconds that a call takes by what it asks for; its node says nothing meanwhile."""
        if isinstance(does, FindCapacity):
            return does.seconds
        if isinstance(does, Start):
            self._lasts_seconds = (does.requests or 0) / (does.rate or 1.0)
        return self._lasts_seconds if isinstance(does, Finish) and does.is_counted else 0.0

    def _course(self, measured: Node, finish: Finish) -> Course:
        """How the clocks went in the phase that has ended; one of a number is counted, not timed.

        To compare them takes a moment, which would be in what is metered of such a phase.
        """
        if finish.is_counted or self._before is None:
            return clocks.standing(self._last or self._told(measured))
        return clocks.course(self._before, self._told(measured))

    def _told(self, measured: Node) -> Offset:
        found = self._compared(measured)
        clocks.require(found, self._guard_seconds, LoadError)
        return found

    def _compared(self, measured: Node) -> Offset:
        load = self._nodes.current()
        assert load is not None
        self._last = clocks.compare(measured.clock, load.clock)
        return self._last

    def _end(self, load: Node) -> None:
        """End its driver; one that does not end is ended by the next beginning, or its session."""
        if not load.lost:
            with contextlib.suppress(HarnessError):
                load.drive(Call(End()), self._silent_seconds)

    def _lost(self, why: str) -> LoadError:
        return LoadError(
            f"The node that the load comes from, {self._load.target.name}, was lost.",
            why,
            "What was measured before is kept; the rest goes on with a new one, or resume the run.",
        )

    def _failed(self, error: NodeError) -> LoadError:
        return LoadError(
            f"The node that the load comes from, {self._load.target.name}, failed.",
            " ".join(filter(None, (error.what, error.why))),
            "What was measured before is kept; the rest goes on with another driver there.",
        )
