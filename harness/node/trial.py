"""One trial: collectors installed, alternated in windows or metered, removed; for `evaluate`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from harness.errors import ComponentError, HarnessError
from harness.linux import processes
from harness.meters.conditions import Conditions
from harness.meters.memory import cgroup_bytes, peak_rss_bytes, pss_bytes
from harness.model import Method, Trial
from harness.node import always_on, bpf_time, install_halves, twin, windows
from harness.node.agent_process import AgentProcess
from harness.node.always_on import Seen
from harness.node.install import install, remove
from harness.node.testbed import Notes, Rest, Stage, Way
from harness.results.run import TrialRecord, WindowRow


def run(stage: Stage, trial: Trial, folder: Path) -> tuple[TrialRecord, list[WindowRow]]:
    """Run a trial whose files go to `folder`; what it started is ended, however it ends."""
    stage.receiver.check()
    try:
        found = _run(stage, trial, folder)
    except ComponentError:
        stage.receiver.check()  # a part of it that ended is the cause
        raise
    stage.receiver.check()
    return found


def _run(stage: Stage, trial: Trial, folder: Path) -> tuple[TrialRecord, list[WindowRow]]:
    notes = Notes(trial)
    mark = stage.receiver.mark()
    with ExitStack() as stack:
        conditions = stack.enter_context(closing(Conditions(stage.target.of(stage.scope))))

        def rest(here: Stage, agents: Sequence[AgentProcess], on_cpu_seconds: float) -> None:
            so_far = Seen(mark, time.monotonic_ns(), on_cpu_seconds)
            _rest(here, agents, folder, notes, so_far)
            _workload_memory(here, notes)

        if trial.kind == "metered":
            rows = _metered(stage, trial, folder, notes, stack)
        elif stage.experiment.arm(trial.arm).against:
            rows = _against(stage, trial, folder, notes, stack, mark)
        else:
            way = _METHODS[stage.experiment.arm(trial.arm).method]
            rows = way(stage, trial, folder, notes, stack, rest)
        for metric, share in conditions.shares().items():
            notes.add(metric, share, "1")
    return notes.record(), rows


def _rest(
    stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes, so_far: Seen
) -> None:
    """The steady part, the profile's names, the agents' memory; then they are removed."""
    always_on.run(stage, agents, folder, notes, so_far)
    _profile(stage, agents, folder, notes)
    _memory(agents, notes)
    remove(agents, notes)


def _switch(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack, rest: Rest
) -> list[WindowRow]:
    """The method `switch`: collectors turned on and off every window."""
    agents = install(stage, stage.experiment.arm(trial.arm).collectors, folder, notes, stack)
    found = windows.run(stage, agents, folder, notes)
    rest(stage, agents, found.cpu_seconds[True])
    return found.rows


def _pair(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack
) -> list[tuple[list[AgentProcess], Notes]]:
    """Both sets of an arm that compares two, each with notes that say which it is."""
    arm = stage.experiment.arm(trial.arm)
    return [
        (install(stage, specs, folder, notes.of(role), stack, instance=instance), notes.of(role))
        for specs, role, instance in (
            (arm.collectors, "candidate", ""),
            (arm.against, "reference", "reference"),
        )
    ]


def _against(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack, mark: int
) -> list[WindowRow]:
    """Candidates are on while the references are off; then each set alone stays on.

    Which of them does so first changes with each block, so that being first is no difference.
    """
    (agents, its), (against, their) = _pair(stage, trial, folder, notes, stack)
    found = windows.run(stage, agents, folder, notes, against)
    until, cpu = time.monotonic_ns(), found.cpu_seconds
    parts = [
        (agents, its, Seen(mark, until, cpu[True], "steady")),
        (against, their, Seen(mark, until, cpu[False], "steady-reference")),
    ]
    for group, labelled, so_far in parts if trial.block % 2 == 0 else parts[::-1]:
        _rest(stage, group, folder, labelled, so_far)
    _workload_memory(stage, notes)
    return found.rows


def _metered(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack
) -> list[WindowRow]:
    arm = stage.experiment.arm(trial.arm)
    if arm.against:
        (agents, its), (against, their) = _pair(stage, trial, folder, notes, stack)
        both = [(agents, its), (against, their)]
    else:
        agents, against = install(stage, arm.collectors, folder, notes, stack), []
        both = [(agents, notes)]
    rows = bpf_time.run(stage, agents, folder, notes, against)
    for group, labelled in both:
        _memory(group, labelled)
    _workload_memory(stage, notes)
    for group, labelled in both:
        remove(group, labelled)
    return rows


_METHODS: Mapping[Method, Way] = {
    "switch": _switch,
    "twin": twin.run,
    "block": install_halves.run,
}


def _memory(agents: Sequence[AgentProcess], notes: Notes) -> None:
    for agent in agents:
        notes.add("agent_pss_bytes", pss_bytes([agent.pid]), "By", collector=agent.name)
        notes.add("agent_peak_rss_bytes", peak_rss_bytes(agent.pid), "By", collector=agent.name)


def _workload_memory(stage: Stage, notes: Notes) -> None:
    notes.add("workload_pss_bytes", pss_bytes(stage.workload.pids()), "By")
    for name, value in cgroup_bytes(stage.target.of(stage.scope)).items():
        notes.add(f"workload_cgroup_{name}", value, "By")  # where a memory controller is there


def _profile(stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes) -> None:
    """Name the addresses of these agents' own profiles while the workload lives."""
    is_reference = notes.labels.get("role") == "reference"
    for agent in agents:
        if agent.definition.agent != "profile":
            continue
        # an agent beside another writes to a folder by its own name, see AgentProcess; so does one
        # that is installed again, for which both are its own
        both = (folder / f"pprof-{agent.name}", folder / "pprof")
        found = [path for path in both if path.is_dir()]
        for path in found[:1] if is_reference else found:
            _name(stage, path, notes)
        if not is_reference:
            notes.extra["profile"] = "pprof/profile.folded"


def _name(stage: Stage, directory: Path, notes: Notes) -> None:
    argv = [sys.executable, "-m", "harness.report.symbols", str(directory)]
    try:
        processes.run([*argv, *map(str, stage.workload.pids())], timeout=120)
    except HarnessError as error:
        notes.warn(f"The profile has no symbols: {error}")
