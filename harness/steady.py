"""The parts of a trial in which collectors stay on: coverage, the agent's CPU, BPF run time."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import alternation, shell
from harness.collectors import AgentProcess
from harness.collectors.included import EXPORT_SECONDS, PROFILE_HZ, switch_all
from harness.errors import NeedError
from harness.load import record
from harness.meters import bpfstats
from harness.meters.coverage import Slice, count, data_latency
from harness.stage import Notes, Stage
from harness.workloads import address

PROBES = 10
PROBE_SECONDS = 10.0
PROBE_SOURCE = "127.0.0.2"  # nobody else on this machine connects from it


@dataclass(frozen=True)
class Seen:
    """Where in the spool a trial's telemetry starts, and what its switched part did."""

    offset: int
    alternated_until_ns: int
    on_cpu_seconds: float


def run(
    stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes, so_far: Seen
) -> None:
    """Collectors on, exactly N requests and our probes: coverage and the agent's CPU."""
    requests = max(20, round(stage.rate * stage.experiment.steady_seconds))
    switch_all(agents, True)
    for agent in agents:
        agent.flush()
    since_ns, begun = time.monotonic_ns(), time.monotonic()
    before = {name: stage.cpu_seconds(name) for name in _cgroups(agents)}
    stage.driver.start(stage.rate, requests)
    probes = _probe(stage, folder) if agents else Probes(0, "", 0)
    path = folder / "steady.npz"
    summary = stage.driver.wait(path)
    stage.workload.check()
    seconds = time.monotonic() - begun
    after = {name: stage.cpu_seconds(name) for name in before}
    notes.add("steady_requests", summary.requests, "{request}")
    notes.add("steady_seconds", seconds, "s")
    on_cpu = so_far.on_cpu_seconds + after["workload"] - before["workload"]
    made = {
        "requests": float((record.read(path).status > 0).sum()),  # answered, well or badly
        "connections": probes.connections,
        "executions": probes.executions,
        "samples": on_cpu * PROFILE_HZ,
    }
    for agent in agents:
        group = f"agent-{agent.name}"
        notes.add_counts(agent, agent.flush())
        # the part is shorter than an export interval: of its one export it bears its share
        export = stage.cpu_seconds(group) - after[group]
        used = after[group] - before[group] + export * seconds / EXPORT_SECONDS
        notes.add("steady_agent_cpu_seconds", used, "s", collector=agent.name)
        _coverage(stage, agent, made, probes, since_ns, so_far, notes)
    switch_all(agents, False)


def meter(stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes) -> None:
    """Collectors on throughout, the kernel's run-time statistics enabled."""
    requests = max(20, round(stage.rate * stage.experiment.metered_seconds))
    path = folder / "requests.npz"
    switch_all(agents, True)
    with bpfstats.StatsEnabled():
        before = bpfstats.programs()
        begun = time.monotonic()
        stage.driver.start(stage.rate, requests)
        summary = stage.driver.wait(path)
        seconds = time.monotonic() - begun
        ran = bpfstats.delta(before, bpfstats.programs())
    stage.workload.check()
    alternation.note_load(summary, path, stage.rate, notes)
    notes.add("metered_requests", summary.requests, "{request}")
    notes.add("metered_seconds", seconds, "s")
    for agent in agents:
        notes.add_counts(agent, agent.flush())
        for program in (ran[number] for number in agent.program_ids if number in ran):
            labels = {"collector": agent.name, "program": program.name, "type": program.type}
            notes.add("bpf_run_time_seconds", program.run_time_ns / 1e9, "s", **labels)
            notes.add("bpf_run_count", program.run_cnt, "{run}", **labels)
    switch_all(agents, False)


def _cgroups(agents: Sequence[AgentProcess]) -> list[str]:
    return ["workload", *(f"agent-{agent.name}" for agent in agents)]


def _coverage(
    stage: Stage,
    agent: AgentProcess,
    made: Mapping[str, float],
    probes: Probes,
    since_ns: int,
    so_far: Seen,
    notes: Notes,
) -> None:
    """What arrived at the receiver beside what was made, and how late the rest had arrived."""
    signal, scope = agent.definition.signal, f"harness.{agent.name}"
    only = {
        "connections": ("network.peer.address", PROBE_SOURCE),
        "executions": ("process.executable.path", probes.executable),
    }.get(signal)
    since = 0 if signal == "samples" else since_ns
    part = Slice(stage.spool, scope, so_far.offset, since, None, only)
    labels = {"collector": agent.name, "signal": signal}
    if made[signal]:
        notes.add("signal_seen", count(part, signal), "1", **labels)
        notes.add("signal_made", made[signal], "1", **labels)
    kind = agent.definition.telemetry
    own_schedule = Slice(stage.spool, scope, so_far.offset, 0, so_far.alternated_until_ns)
    delays = data_latency(own_schedule, kind)
    if len(delays):
        for name, percent in (("p50", 50), ("p99", 99)):
            value = float(np.percentile(delays, percent))
            labels = {"collector": agent.name, "signal": kind}
            notes.add(f"data_latency_{name}_seconds", value, "s", **labels)


@dataclass(frozen=True)
class Probes:
    """Known events of our own, told apart from what the workload does by itself."""

    connections: int
    executable: str
    executions: int


def _probe(stage: Stage, folder: Path) -> Probes:
    """Make PROBES connections from an address of our own and PROBES executions in the scope."""
    host, port = address(stage.workload.url)
    connections = 0
    for _ in range(PROBES):
        try:
            source = (PROBE_SOURCE, 0)
            socket.create_connection((host, port), timeout=5, source_address=source).close()
        except OSError:  # an IPv6 or a distant address: connections are not probed there
            break
        connections += 1
    stage.workload.check()
    return _execute(stage, folder, connections)


def _execute(stage: Stage, folder: Path, connections: int) -> Probes:
    # not below /run, which is often mounted noexec
    executable = (folder / "probe").resolve()
    shutil.copy2("/bin/true", executable)
    executions = 0
    try:
        for _ in range(PROBES):
            cgroup = stage.target.cgroup("workload")
            process = shell.spawn([str(executable)], log=folder / "probe.log", cgroup=cgroup)
            executions += shell.ended(process, PROBE_SECONDS) == 0
    except NeedError:  # the reports lie on a file system without executables
        pass
    finally:
        executable.unlink()
    return Probes(connections, str(executable), executions)
