"""What the trials of a block share, and the notes that a trial takes; for `trial` and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.linux.placement import Placement
from harness.meters.cgroup import CgroupCpu
from harness.model import Measurement, Receiver, Trial
from harness.node.agent_process import AgentProcess
from harness.node.load_driver import Driver
from harness.node.machine import Machine
from harness.plan.experiment import Experiment
from harness.plan.workloads import RunningWorkload, Workload
from harness.results.run import TrialRecord, WindowRow


@dataclass(frozen=True)
class Stage:
    """What runs while the trials of one block run; `rate` in arrivals per second.

    `service` is what `workload` was started from. `scope` names the cgroup of the workload that
    collectors observe.
    """

    experiment: Experiment
    target: Machine
    placement: Placement
    receiver: Receiver
    service: Workload
    workload: RunningWorkload
    driver: Driver
    rate: float
    scope: str = "workload"

    def receiver_cpu_seconds(self) -> float:
        """CPU that all that takes the telemetry has used so far."""
        return sum(map(cpu_seconds, self.receiver.cgroups.values()))

    def cpu_seconds(self, cgroup: str) -> float:
        """CPU that one of the run's cgroups has used so far."""
        return cpu_seconds(self.target.of(cgroup))


def cpu_seconds(cgroup: Path) -> float:
    """CPU that a cgroup has used so far."""
    with closing(CgroupCpu(cgroup)) as meter:
        return meter.read()["usage_seconds"]


@dataclass
class Notes:
    """Collects the values of a trial; `labels` are added to each."""

    trial: Trial
    values: list[Measurement] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def of(self, role: str) -> Notes:
        """The same notes; what is noted through them is labelled with this role, if it has one."""
        return replace(self, labels={"role": role}) if role else self

    def add(self, metric: str, value: float, unit: str, **labels: str) -> None:
        """Note one value of the whole trial."""
        t = self.trial
        self.values.append(
            Measurement(
                metric, float(value), unit, t.workload, t.arm, t.block, t.name, None,
                {**labels, **self.labels},
            )
        )  # fmt: skip

    def add_counts(self, agent: AgentProcess, stats: dict[str, Any]) -> None:
        """Note what an agent counted itself: events, losses, memory of its maps."""
        self.add("events", stats["events"], "{event}", collector=agent.name)
        self.add("events_lost", stats["lost"], "{event}", collector=agent.name)
        self.add("map_bytes", stats["map_bytes"], "By", collector=agent.name)

    def warn(self, sentence: str) -> None:
        """Note something that a reader of the report should know of this trial."""
        self.extra.setdefault("warnings", []).append(sentence)

    def record(self) -> TrialRecord:
        """The finished trial; whether it is valid is decided by the analysis, by stated rules."""
        return TrialRecord(self.trial, "ok", values=tuple(self.values), extra=self.extra)


Rest = Callable[[Stage, Sequence[AgentProcess], float], None]
"""The rest of a trial: steady part, memory, removal. A method calls it once while its agents are
installed and off, with the stage whose workload is in their scope (and is driven by its driver),
and that workload's CPU seconds while they were on."""

Way = Callable[[Stage, Trial, Path, Notes, ExitStack, Rest], list[WindowRow]]
"""How a method runs the switched part of a trial: stage, trial, its folder, notes, a stack that
ends what it starts, and the rest. It installs its agents itself, and returns its windows."""
