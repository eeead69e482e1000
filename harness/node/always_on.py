"""The part of a trial in which collectors stay on: coverage, the agents' CPU; for `trial`."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import NeedError
from harness.linux import processes
from harness.load import record
from harness.model import Part
from harness.node import freshness
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.switch import injects
from harness.node.testbed import Notes, Stage
from harness.plan.workloads import address
from harness.wire.telemetry import SPANS

PROBES = 10
PROBE_SECONDS = 10.0
PROBE_SOURCE = "127.0.0.2"  # nobody else on this machine connects from it


@dataclass(frozen=True)
class Seen:
    """Where a trial's telemetry starts at the receiver, and what its switched part did.

    `name` is that of the file for the requests of the steady part.
    """

    mark: int
    alternated_until_ns: int
    on_cpu_seconds: float
    name: str = "steady"


def run(
    stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes, so_far: Seen
) -> None:
    """Collectors on, exactly N requests and our probes: coverage, the agents' CPU, the receiver's.

    A receiver that is to be asked what arrived is watched after that.
    """
    requests = max(20, round(stage.rate * stage.experiment.steady_seconds))
    switch_all(agents, True)
    told_before = [agent.flush() for agent in agents]
    bill = freshness.Bill(stage)
    if stage.receiver.poll_seconds:  # the bill has waited
        told_before = [agent.stats() for agent in agents]
    since_ns, begun = time.monotonic_ns(), time.monotonic()
    before = _cpu(stage, agents)
    stage.driver.start(stage.rate, requests)
    probes = _probe(stage, folder) if agents else Probes(0, "", 0)
    path = folder / f"{so_far.name}.npz"
    summary = stage.driver.wait(path)
    stage.workload.check()
    seconds = time.monotonic() - begun
    after = _cpu(stage, agents)
    _note_burnt(agents, told_before, notes)
    notes.add("steady_requests", summary.requests, "{request}")
    notes.add("steady_seconds", seconds, "s")
    flush_ns = time.monotonic_ns()
    counts = [agent.flush() for agent in agents]
    _note_cpu(agents, notes, seconds, before, after, _cpu(stage, agents))
    bill.note(notes)
    on_cpu = so_far.on_cpu_seconds + after[stage.scope] - before[stage.scope]
    answered = float((record.read(path).status > 0).sum())  # well or badly
    made = {"requests": answered, "connections": probes.connections,
            "executions": probes.executions}  # fmt: skip
    for agent, told in zip(agents, counts, strict=True):
        notes.add_counts(agent, told)
        part = _part(agent, so_far, since_ns, flush_ns)
        _coverage(stage, agent, made | _samples(agent, on_cpu), probes, part, notes)
        if stage.receiver.poll_seconds:
            _spans(stage, agent, told, part, notes)
        else:
            _data_latency(stage, agent, replace(part, since_ns=0), so_far, notes)
    if stage.receiver.poll_seconds:
        freshness.run(stage, agents, folder, notes, so_far.mark)
    switch_all(agents, False)


def _note_cpu(
    agents: Sequence[AgentProcess],
    notes: Notes,
    seconds: float,
    before: Mapping[str, float],
    after: Mapping[str, float],
    flushed: Mapping[str, float],
) -> None:
    """CPU of agents and receiver over the steady part.

    It is shorter than an export interval: of its one export, at the flush, it bears its share.
    """
    for agent in agents:
        group, share = _group(agent), seconds / agent.definition.export_seconds
        used = after[group] - before[group] + (flushed[group] - after[group]) * min(share, 1)
        notes.add("steady_agent_cpu_seconds", used, "s", collector=agent.name)
    share = max((seconds / a.definition.export_seconds for a in agents), default=0.0)
    sink = after["sink"] - before["sink"] + (flushed["sink"] - after["sink"]) * min(share, 1)
    notes.add("steady_sink_cpu_seconds", sink, "s")


def _note_burnt(
    agents: Sequence[AgentProcess], before: Sequence[Mapping[str, Any]], notes: Notes
) -> None:
    """What the agent of a known cost burnt itself, by its own clock; others are not asked."""
    for agent, old in zip(agents, before, strict=True):
        if injects(old):
            burnt = agent.stats()["agent_burnt_seconds"] - old["agent_burnt_seconds"]
            notes.add("agent_burnt_seconds", burnt, "s", collector=agent.name)


def _group(agent: AgentProcess) -> str:
    return f"agent-{agent.name}"


def _cpu(stage: Stage, agents: Sequence[AgentProcess]) -> dict[str, float]:
    """CPU seconds so far of the workload in scope, of the receiver and of each agent, by cgroup."""
    groups = {name: stage.cpu_seconds(name) for name in (stage.scope, *map(_group, agents))}
    return {**groups, "sink": stage.receiver_cpu_seconds()}


def _samples(agent: AgentProcess, cpu_seconds: float) -> dict[str, float]:
    """The samples that a profiler is expected to take; of one of unknown rate none are."""
    return {"samples": cpu_seconds * float(agent.definition.options.get("frequency", 0))}


def _part(agent: AgentProcess, so_far: Seen, since_ns: int, flush_ns: int) -> Part:
    """What an agent sent of the steady part."""
    instance = agent.instance if agent.definition.tells_instance else ""
    scope = agent.definition.scope
    return Part(scope, so_far.mark, since_ns, instance=instance, flushed_ns=flush_ns)


def _coverage(
    stage: Stage,
    agent: AgentProcess,
    made: Mapping[str, float],
    probes: Probes,
    part: Part,
    notes: Notes,
) -> None:
    """What arrived at the receiver beside what was made."""
    signal = agent.definition.signal
    if signal and made[signal]:
        only = {
            "connections": ("network.peer.address", PROBE_SOURCE),
            "executions": ("process.executable.path", probes.executable),
        }.get(signal)
        steady = replace(part, since_ns=0 if signal == "samples" else part.since_ns, only=only)
        labels = {"collector": agent.name, "signal": str(signal)}
        seen = stage.receiver.count(steady, signal, made[signal])
        notes.add("signal_seen", seen, "1", **labels)
        notes.add("signal_made", made[signal], "1", **labels)


def _spans(
    stage: Stage, agent: AgentProcess, told: Mapping[str, Any], part: Part, notes: Notes
) -> None:
    """Spans that are found beside those that the agent says were taken from it since its start."""
    if made := told.get("spans", 0):
        labels = {"collector": agent.name, "signal": SPANS}
        notes.add("signal_seen", stage.receiver.count(part, SPANS, made), "1", **labels)
        notes.add("signal_made", made, "1", **labels)


def _data_latency(
    stage: Stage, agent: AgentProcess, part: Part, so_far: Seen, notes: Notes
) -> None:
    """How late what agents exported by their own clock had arrived, before the flushes."""
    if kind := agent.definition.telemetry:
        sent = replace(part, until_ns=so_far.alternated_until_ns)
        delays = stage.receiver.data_latency(sent, kind)
        for name, percent in (("p50", 50), ("p99", 99)) if len(delays) else ():
            value = float(np.percentile(delays, percent))
            labels = {"collector": agent.name, "signal": str(kind)}
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
            cgroup = stage.target.of(stage.scope)
            process = processes.spawn([str(executable)], log=folder / "probe.log", cgroup=cgroup)
            executions += processes.ended(process, PROBE_SECONDS) == 0
    except NeedError:  # the reports lie on a file system without executables
        pass
    finally:
        executable.unlink()
    return Probes(connections, str(executable), executions)
