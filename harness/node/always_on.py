"""The part of a trial in which collectors stay on: coverage, the agents' CPU; for `trial`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.load import record
from harness.meters import coverage
from harness.meters.memory import peak_rss_bytes
from harness.model import Part
from harness.node import freshness, known_events, memory_log
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.known_events import Known
from harness.node.service import served_port
from harness.node.switch import injects
from harness.node.testbed import Steady, Testbed, TrialLog, cpu_seconds
from harness.wire.telemetry import SIGNALS, SPANS, Made


@dataclass(frozen=True)
class Before:
    """Where a trial's telemetry starts at the receiver, and what its compared part did.

    `on_cpu_seconds` are those of the service while each collector was on, by its name; `name` is
    that of the file for the requests of this part.
    """

    since: int
    compared_until_ns: int
    on_cpu_seconds: Mapping[str, float]
    name: str = "steady"


def run(
    testbed: Testbed, agents: Sequence[AgentProcess], folder: Path, notes: TrialLog, earlier: Before
) -> None:
    """Collectors on, exactly N requests and our probes: coverage, the agents' CPU, the receiver's.

    A receiver that is to be asked what arrived is watched after that.
    """
    requests = max(20, round(testbed.rate * notes.spec.timing.steady))
    switch_all(agents, True)
    told_before = [agent.flush() for agent in agents]
    _note_first_peak(agents, notes)
    bill = freshness.Bill(testbed)
    if testbed.receiver.poll_seconds:  # the bill has waited
        told_before = [agent.stats() for agent in agents]
    since_ns, begun = time.monotonic_ns(), time.monotonic()
    before, begun_unix_ns = _cpu(testbed, agents), time.time_ns()
    testbed.driver.start(testbed.rate, requests)
    made: dict[Made, Known] = {}
    if agents:
        made = known_events.make(testbed, folder, known_events.LOADED)
    memory = folder / f"{earlier.name.replace('steady', 'memory')}.jsonl"
    left = requests / testbed.rate - (time.monotonic() - begun)
    memory_log.keep(agents, left, memory, testbed.attend)
    path = folder / f"{earlier.name}.npz"
    summary = testbed.driver.wait(path)
    testbed.service.check()
    testbed.attend()
    seconds = time.monotonic() - begun
    after = _cpu(testbed, agents)
    used = after[testbed.scope] - before[testbed.scope]
    notes.steady = Steady(begun_unix_ns, time.time_ns(), used)
    _note_burnt(agents, told_before, notes)
    notes.add("steady_requests", summary.requests, "{request}")
    notes.add("steady_seconds", seconds, "s")
    flush_ns = time.monotonic_ns()
    counts = [agent.flush() for agent in agents]
    _note_cpu(agents, notes, seconds, before, after, _cpu(testbed, agents))
    _note_seen(agents, told_before, counts, notes)
    bill.note(notes)
    if any(agent.spec.signal and SIGNALS[agent.spec.signal].is_probed for agent in agents):
        # after the bill: what they cost is in nobody's any more
        more = known_events.make(testbed, folder, known_events.ALONE)
        made = {name: known + more[name] for name, known in made.items()}
        testbed.attend()
        flush_ns = time.monotonic_ns()
        counts = [agent.flush() for agent in agents]
    on_cpu = _cpu(testbed, agents)[testbed.scope] - before[testbed.scope]
    answered = float((record.read(path).status > 0).sum())  # well or badly
    made["requests"] = Known(answered)
    for agent, told in zip(agents, counts, strict=True):
        notes.add_counts(agent, told)
        part = _part(agent, earlier, since_ns, flush_ns)
        earlier_cpu = earlier.on_cpu_seconds[agent.name] if agent.counts else 0.0
        made["cpu_seconds"] = Known((earlier_cpu + on_cpu) * _hertz(agent))
        _coverage(testbed, agent, made, part, notes)
        if testbed.receiver.poll_seconds:
            _spans(testbed, agent, told, part, notes)
        else:
            _data_latency(testbed, agent, replace(part, since_ns=0), earlier, notes)
    if testbed.receiver.poll_seconds:
        freshness.run(testbed, agents, folder, notes, earlier.since)
    switch_all(agents, False)


def _note_first_peak(agents: Sequence[AgentProcess], notes: TrialLog) -> None:
    """The most that was resident of each agent up to its first exports, of which one was told."""
    for agent in (each for each in agents if each.pids()):  # what is in the service has none
        peak = sum(map(peak_rss_bytes, agent.pids()))
        notes.add("agent_first_peak_rss_bytes", peak, "By", collector=agent.name)


def _note_cpu(
    agents: Sequence[AgentProcess],
    notes: TrialLog,
    seconds: float,
    before: Mapping[str, float],
    after: Mapping[str, float],
    flushed: Mapping[str, float],
) -> None:
    """CPU of agents and receiver over the steady part.

    It is shorter than an export interval: of its one export, at the flush, it bears its share.
    Of what runs within the service nothing is told: its CPU is the service's. Nor of a part of an
    agent: what that takes more is the difference of the trial's parts.
    """
    for agent in (each for each in agents if each.cgroups and not each.goes_on):
        group, share = _group(agent), seconds / agent.spec.export_seconds
        used = after[group] - before[group] + (flushed[group] - after[group]) * min(share, 1)
        notes.add("steady_agent_cpu_seconds", used, "s", collector=agent.name)
    share = max((seconds / a.spec.export_seconds for a in agents), default=0.0)
    sink = after["sink"] - before["sink"] + (flushed["sink"] - after["sink"]) * min(share, 1)
    notes.add("steady_sink_cpu_seconds", sink, "s")


def _note_burnt(
    agents: Sequence[AgentProcess], before: Sequence[Mapping[str, Any]], notes: TrialLog
) -> None:
    """What the agent of a known cost burnt itself, by its own clock; others are not asked."""
    for agent, old in zip(agents, before, strict=True):
        if injects(old):
            burnt = agent.stats()["agent_burnt_seconds"] - old["agent_burnt_seconds"]
            notes.add("agent_burnt_seconds", burnt, "s", collector=agent.name)


def _note_seen(
    agents: Sequence[AgentProcess],
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    notes: TrialLog,
) -> None:
    """What a part of something counted in the steady part: it has no programs to be metered."""
    for agent, old, new in zip(agents, before, after, strict=True):
        if agent.goes_on and "events" in old and "events" in new:
            seen = new["events"] - old["events"]
            notes.add("steady_events", seen, "{event}", collector=agent.name)


def _group(agent: AgentProcess) -> str:
    return f"agent-{agent.name}"


def _cpu(testbed: Testbed, agents: Sequence[AgentProcess]) -> dict[str, float]:
    """CPU seconds so far of the service in scope, of the receiver and of each agent, by cgroup."""
    groups = {_group(agent): sum(map(cpu_seconds, agent.cgroups)) for agent in agents}
    own = {testbed.scope: testbed.cpu_seconds(), "sink": testbed.receiver_cpu_seconds()}
    return groups | own


def _hertz(agent: AgentProcess) -> float:
    """At which rate a profiler samples; of one of unknown rate no samples are expected."""
    return float(agent.spec.options.get("frequency", 0))


def _part(agent: AgentProcess, earlier: Before, since_ns: int, flush_ns: int) -> Part:
    """What an agent sent of the steady part."""
    instance = agent.instance if agent.spec.tells_instance else ""
    scope = agent.spec.scope
    return Part(scope, earlier.since, since_ns, instance=instance, flushed_ns=flush_ns)


def _coverage(
    testbed: Testbed,
    agent: AgentProcess,
    made: Mapping[Made, Known],
    part: Part,
    notes: TrialLog,
) -> None:
    """What of its signal arrived at the receiver beside what was made."""
    if not (name := agent.spec.signal) or (agent.spec.subject and agent.spec.subject.profile):
        return  # what it writes into files is counted once they are whole: `profile_file`
    signal = SIGNALS[name]
    known = made[signal.made]
    if known.missing:
        told = f"only {known.number:.0f} of them" if known.number else "nothing of it"
        notes.warn(f"{agent.name}: of its coverage of {name} {told} is known: {known.missing}.")
    if not known.number:
        return
    only = (signal.probe, known.mark) if signal.is_probed else None
    # one that tells us nothing also sampled what warmed the service up: its steady part counts
    whole = signal.is_expected and agent.counts
    steady = replace(part, since_ns=0 if whole else part.since_ns, only=only)
    told = "requests" if signal.made == "requests" else name  # by spans or by a metric
    labels = {"collector": agent.name, "signal": told}
    if signal.made == "requests":
        seen, beside = coverage.of_port(
            testbed.receiver.ports(steady, name, known.number), served_port(testbed.service)
        )
    else:
        seen, beside = testbed.receiver.count(steady, name, known.number), {}
    notes.add("signal_seen", seen, "1", **labels)
    notes.add("signal_made", known.number, "1", **labels)
    for port, number in beside.items():
        notes.add("signal_beside", number, "1", **labels, port=str(port))


def _spans(
    testbed: Testbed, agent: AgentProcess, told: Mapping[str, Any], part: Part, notes: TrialLog
) -> None:
    """Spans that are found beside those that the agent says were taken from it since its start."""
    if made := told.get("spans", 0):
        labels = {"collector": agent.name, "signal": SPANS}
        notes.add("signal_seen", testbed.receiver.count(part, SPANS, made), "1", **labels)
        notes.add("signal_made", made, "1", **labels)


def _data_latency(
    testbed: Testbed, agent: AgentProcess, part: Part, earlier: Before, notes: TrialLog
) -> None:
    """How late what agents exported by their own clock had arrived, before the flushes."""
    if kind := agent.spec.telemetry:
        sent = replace(part, until_ns=earlier.compared_until_ns)
        delays = testbed.receiver.data_latency(sent, kind)
        for name, percent in (("p50", 50), ("p99", 99)) if len(delays) else ():
            value = float(np.percentile(delays, percent))
            labels = {"collector": agent.name, "signal": str(kind)}
            notes.add(f"data_latency_{name}_seconds", value, "s", **labels)
