"""One trial: collectors installed, alternated in windows or metered, removed; for `evaluate`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from harness import alternation, shell, steady
from harness.collectors import REGISTRY, AgentProcess
from harness.collectors.included import switch_all
from harness.errors import CollectorError, HarnessError
from harness.meters.memory import cgroup_bytes, peak_rss_bytes, pss_bytes
from harness.meters.node import NodeCpu
from harness.model import Trial
from harness.stage import Notes, Stage
from harness.steady import Seen
from harness.store import TrialRecord, WindowRow


def run(stage: Stage, trial: Trial, folder: Path) -> tuple[TrialRecord, list[WindowRow]]:
    """Run a trial whose files go to `folder`; what it started is ended, however it ends."""
    notes = Notes(trial)
    rows: list[WindowRow] = []
    offset = stage.spool.stat().st_size
    with ExitStack() as stack:
        node = stack.enter_context(closing(NodeCpu()))
        before = node.read()
        agents = _install(stage, trial, folder, notes, stack)
        if trial.kind == "switched":
            found = alternation.run(stage, agents, folder, notes)
            rows = found.rows
            so_far = Seen(offset, time.monotonic_ns(), found.on_cpu_seconds)
            steady.run(stage, agents, folder, notes, so_far)
            _profile(stage, folder, notes)
        else:
            steady.meter(stage, agents, folder, notes)
        _memory(stage, agents, notes)
        notes.add("steal_share", _steal_share(before, node.read()), "1")
        _remove(agents, notes)
    return notes.record(), rows


def _install(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack
) -> list[AgentProcess]:
    agents = [
        AgentProcess(
            REGISTRY[name],
            target_cgroup=stage.target.cgroup("workload"),
            own_cgroup=stage.target.cgroup(f"agent-{name}"),
            otlp_url=stage.sink_url,
            folder=folder,
            socket=stage.target.scratch / f"{name}.sock",
            cpus=stage.placement.collector,
            service_name=trial.workload,
        )
        for name in stage.experiment.arm(trial.arm).collectors
    ]
    notes.extra["hooks"] = {}
    for agent in agents:
        agent.start()
        stack.callback(agent.kill)
    for agent in agents:
        agent.await_ready()
        notes.extra["hooks"][agent.name] = agent.ready["hooks"]
        notes.add("load_seconds", agent.ready["load_seconds"], "s", collector=agent.name)
        notes.add("attach_seconds", agent.ready["attach_seconds"], "s", collector=agent.name)
    switch_all(agents, True)
    for agent in agents:
        detached = agent.switch(False)
        notes.add("detach_seconds", detached["seconds"], "s", collector=agent.name)
    return agents


def _remove(agents: Sequence[AgentProcess], notes: Notes) -> None:
    """End the agents; what was measured does not depend on how gracefully they go."""
    for agent in agents:
        try:
            agent.remove()
        except CollectorError as error:
            notes.warn(str(error))


def _memory(stage: Stage, agents: Sequence[AgentProcess], notes: Notes) -> None:
    for agent in agents:
        notes.add("agent_pss_bytes", pss_bytes([agent.pid]), "By", collector=agent.name)
        notes.add("agent_peak_rss_bytes", peak_rss_bytes(agent.pid), "By", collector=agent.name)
    notes.add("workload_pss_bytes", pss_bytes(stage.workload.pids()), "By")
    for name, value in cgroup_bytes(stage.target.cgroup("workload")).items():
        notes.add(f"workload_cgroup_{name}", value, "By")  # where a memory controller is there


def _profile(stage: Stage, folder: Path, notes: Notes) -> None:
    """Name the profile's addresses while the workload lives."""
    if not (folder / "pprof").is_dir():
        return
    pids = map(str, stage.workload.pids())
    argv = [sys.executable, "-m", "harness.report.symbols", str(folder / "pprof"), *pids]
    try:
        shell.run(argv, timeout=120)
        notes.extra["profile"] = "pprof/profile.folded"
    except HarnessError as error:
        notes.warn(f"The profile has no symbols: {error}")


def _steal_share(before: dict[str, float], after: dict[str, float]) -> float:
    """The share of the machine's time that the hypervisor gave to others."""
    used = {
        name: after[f"{name}_seconds"] - before[f"{name}_seconds"]
        for name in ("host", "idle", "steal")
    }
    return used["steal"] / max(sum(used.values()), 1e-9)
