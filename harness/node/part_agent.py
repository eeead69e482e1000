"""A part of what a cluster's DaemonSet does, turned on and off in its pod; `install` makes it.

The pod goes on with the rest of its work in all parts of a trial. So what its cgroups use is no
cost of the part: that is how much more they use while it is on, at the same load. What the pod
keeps resident does not shrink when a part of it is turned off, and its programs are all the pod's:
neither is told as the part's.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UnavailableError
from harness.node import loaded_programs, subject_count
from harness.node.placed_agent import CALM_SECONDS, LOADING_SECONDS, PlacedAgent
from harness.node.testbed import Testbed
from harness.wire.driving import Call, Look, Turn
from harness.wire.spec import CollectorSpec

COUNTED_SECONDS = 10.0  # after a pod has begun, what it counted may be nothing


class PartAgent(PlacedAgent):
    """An option of a DaemonSet, on in its pod on this node while a trial has it installed."""

    def __init__(self, spec: CollectorSpec, testbed: Testbed, folder: Path) -> None:
        super().__init__(spec, testbed, folder)
        assert spec.subject is not None
        assert spec.subject.option is not None
        option = spec.subject.option
        self._subject, self._looking = spec.subject, Look(spec.daemonset, option)
        self._coming = Turn(spec.daemonset, option, True)
        self._going = Turn(spec.daemonset, option, False)
        self.goes_on, self._has_told = True, False

    def pids(self) -> list[int]:
        """None of its own: those of the pod do other things, too."""
        return []

    def await_ready(self) -> None:
        """Wait until what it changed has taken effect; UnavailableError if it counts nothing.

        That it counts is seen once in a trial: asking may take seconds, and the machine drifts.
        """
        self._find()
        self._calm()
        if not self._has_told:
            self._require_told()
            self._has_told = True
        self.ready = {"programs": []}

    def find(self) -> None:
        """Know its cgroups, while it is off."""
        if not self._containers:
            try:
                found, _ = self._ask(Call(self._going))
            except HarnessError as error:
                raise self._failed(error) from error
            self._containers = [str(each) for each in found["containers"]]
        self._find()

    def flush(self) -> dict[str, Any]:
        """What it has counted since its pod began; it costs the pod a command."""
        found = self._look()
        return {} if found is None else {"events": found}

    def _require_unloaded(self) -> None:
        """Nothing was loaded for it alone; wait until turning it off has taken effect."""
        self._calm()

    def _require_told(self) -> None:
        begun = time.monotonic()
        while self._look() is None:
            if time.monotonic() - begun > COUNTED_SECONDS:
                raise UnavailableError(
                    f"Collector {self.name!r} does not tell what it saw.",
                    f"Nothing that `{' '.join(self._looking.option.seen)}` prints matches "
                    f"{self._subject.events!r}.",
                    f"See that it is enabled in {self.spec.daemonset}.",
                    collector=self.name,
                )
            self._attend()
            time.sleep(0.5)

    def _calm(self) -> None:
        """Until no BPF program is loaded any more: what is turned may load some anew."""
        loaded_programs.calm(
            (), self._attend, calm_seconds=CALM_SECONDS, limit_seconds=LOADING_SECONDS
        )

    def _look(self) -> float | None:
        """What it has counted; None if it does not tell."""
        try:
            found, _ = self._ask(Call(self._looking))
        except HarnessError as error:
            raise self._failed(error) from error
        self._containers = [str(each) for each in found["containers"]]
        try:
            return subject_count.counted(self._subject, str(found["seen"]))
        except ValueError as error:
            raise self._uncountable(error) from error
