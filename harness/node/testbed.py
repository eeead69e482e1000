"""What the trials of a block share, and the notes that a trial takes; for `trial` and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import CollectorError
from harness.meters import bpf_maps
from harness.meters.cgroup import CgroupCpu
from harness.model import Receiver, WindowRow
from harness.node.agent_process import AgentProcess
from harness.node.load_driver import LoadDriver
from harness.node.machine import Machine
from harness.node.service import Service
from harness.wire.driving import Ask
from harness.wire.spec import BlockSpec, Placement, TrialResult, TrialSpec, Value

LOAD = "client"  # the cgroup of the load driver

Attend = Callable[[], None]
"""Looks whether the controller is there and wants this to go on; raises if not, never waits."""


@dataclass(frozen=True)
class Testbed:
    """What runs while the trials of one block run; `rate` in arrivals per second.

    Collectors observe the cgroup of `service`; `scope` is what that is called in the notes. `ask`
    asks the controller for what is not the node's own to do.
    """

    machine: Machine
    placement: Placement
    receiver: Receiver
    block: BlockSpec
    service: Service
    driver: LoadDriver
    rate: float
    attend: Attend
    ask: Ask
    scope: str = "workload"

    def load_cgroups(self) -> list[Path]:
        """Where the load driver runs; none if that is on another node."""
        return [] if self.block.elsewhere else [self.machine.of(LOAD)]

    def receiver_cpu_seconds(self) -> float:
        """CPU that all that takes the telemetry has used so far."""
        return sum(map(cpu_seconds, self.receiver.cgroups.values()))

    def cpu_seconds(self) -> float:
        """CPU that the service has used so far."""
        return cpu_seconds(self.service.cgroup)


def cpu_seconds(cgroup: Path) -> float:
    """CPU that a cgroup has used so far."""
    with closing(CgroupCpu(cgroup)) as meter:
        return meter.read()["usage_seconds"]


@dataclass(frozen=True)
class Steady:
    """From when until when the steady part lasted, and the service's CPU time meanwhile."""

    begun_unix_ns: int
    ended_unix_ns: int
    cpu_seconds: float


@dataclass
class TrialLog:
    """Collects the values of a trial; `labels` are added to each."""

    spec: TrialSpec
    values: list[Value] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    steady: Steady | None = None

    def of(self, role: str) -> TrialLog:
        """The same notes; what is noted through them is labelled with this role, if it has one."""
        return replace(self, labels={"role": role}) if role else self

    def add(self, metric: str, value: float, unit: str, **labels: str) -> None:
        """Note one value of the whole trial."""
        self.values.append(Value(metric, float(value), unit, {**labels, **self.labels}))

    def add_counts(self, agent: AgentProcess, stats: dict[str, Any]) -> None:
        """Note what an agent counted itself: events, losses, memory of its maps, its mishaps.

        CollectorError if it did not see the service all the time: that is a part of no cost.
        """
        if not agent.counts:
            if agent.goes_on:  # its maps and what was counted before are another's
                return
            maps = bpf_maps.of_programs(agent.program_ids)
            self.add("map_bytes", sum(each.bytes for each in maps), "By", collector=agent.name)
            for name, metric in (("events", "events"), ("lost", "events_lost")):
                if name in stats:
                    self.add(metric, stats[name], "{event}", collector=agent.name)
            return
        _require_attached(agent, stats)
        if failed := stats.get("errors", 0):
            self.warn(
                f"{agent.name}: {_times(failed)} something failed in its agent, which went on: "
                f"what it did not do then is in no figure. agent-{agent.name}.log says what."
            )
        self.add("events", stats["events"], "{event}", collector=agent.name)
        self.add("events_lost", stats["lost"], "{event}", collector=agent.name)
        self.add("map_bytes", stats["map_bytes"], "By", collector=agent.name)

    def warn(self, sentence: str) -> None:
        """Note something that a reader of the report should know of this trial."""
        self.details.setdefault("warnings", []).append(sentence)

    def result(self, rows: Sequence[WindowRow]) -> TrialResult:
        """The finished trial; whether it is valid is decided by the analysis, by stated rules."""
        return TrialResult("ok", tuple(rows), tuple(self.values), self.details)


def _require_attached(agent: AgentProcess, stats: Mapping[str, Any]) -> None:
    """An external collector may not tell."""
    if again := stats.get("reattached", 0):
        raise CollectorError(
            f"Collector {agent.name!r} did not see the service for a while.",
            f"Its cgroup was made anew {_times(again)} during the trial, as when a unit restarts, "
            "and was found again up to a second later.",
            "Let nothing restart the service while it is measured, then resume.",
        )


def _times(number: float) -> str:
    return "once" if number == 1 else f"{number:.0f} times"


Finish = Callable[[Testbed, Sequence[AgentProcess], Mapping[str, float]], None]
"""The rest of a trial: the part with collectors always on, memory, removal. A method calls it once
while its agents are installed and off, with the testbed whose service is in their scope (and is
driven by its driver), and that service's CPU seconds while each of them was on, by its name."""

Method = Callable[[Testbed, Path, TrialLog, ExitStack, Finish], list[WindowRow]]
"""How a method runs the compared part of a trial: testbed, folder for its files, notes, a stack
that ends what it starts, and the rest. It installs its agents itself, and returns its windows."""
