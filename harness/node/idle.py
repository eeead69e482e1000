"""What collectors cost while no request comes; for `bpf_time`, before its load begins.

`rates` measures in the same way while requests come.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.meters.bpfstats import Watched, delta
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.testbed import Testbed, TrialLog, cpu_seconds
from harness.node.windows import sleep_until
from harness.wire.spec import Timing
from harness.wire.telemetry import IN_AGENT

STEP_SECONDS = 0.5  # from one look for the controller to the next


def run(
    testbed: Testbed, agents: Sequence[AgentProcess], watched: Watched, notes: TrialLog
) -> None:
    """Collectors on and nothing asked of the service: CPU of the agents, run time of the programs.

    After a whole export interval: switching on is no rest (`flows` looks for what is open already).
    As long as asked for, or as some whole export intervals of the slowest agent, if that is more:
    it holds so many exports.
    """
    if not interval_of(agents) or not notes.spec.timing.idle:
        return
    switch_all(agents, True)
    wait(testbed, notes.spec.timing.settle + interval_of(agents))
    lasted = seconds_of(agents, notes.spec.timing)
    notes.add("idle_seconds", measure(testbed, agents, watched, notes, "idle", lasted), "s")
    switch_all(agents, False)


def interval_of(agents: Sequence[AgentProcess]) -> float:
    """From one export of the slowest agent to the next, in seconds; 0 without agents."""
    return max((agent.spec.export_seconds for agent in agents), default=0.0)


def seconds_of(agents: Sequence[AgentProcess], timing: Timing) -> float:
    """How long a part lasts: some whole export intervals, so that it holds as many exports."""
    interval = interval_of(agents)
    return interval * max(1, round(timing.idle / interval))


def measure(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    watched: Watched,
    notes: TrialLog,
    part: str,
    seconds: float,
) -> float:
    """Note for so many seconds what collectors that are on cost, as values of this part.

    Returns how long it was in the end.
    """
    began, before, ran = time.monotonic(), _cpu(testbed, agents), watched.read()
    wait(testbed, seconds)
    after, found = _cpu(testbed, agents), delta(ran.values(), watched.read().values())
    lasted = time.monotonic() - began
    for agent in agents:
        inside = {number for number, hook in agent.hooks.items() if hook in IN_AGENT}
        own = [found[number] for number in agent.program_ids if number in found.keys() - inside]
        spent = sum(each.run_time_ns for each in own) / 1e9
        used = after[agent.name] - before[agent.name]
        notes.add(f"{part}_agent_cpu_seconds", used, "s", collector=agent.name)
        notes.add(f"{part}_bpf_seconds", spent, "s", collector=agent.name)
    return lasted


def wait(testbed: Testbed, seconds: float) -> None:
    """Let time pass, and look for the controller meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        sleep_until(time.monotonic() + min(left, STEP_SECONDS))
        testbed.attend()


def _cpu(testbed: Testbed, agents: Sequence[AgentProcess]) -> dict[str, float]:
    return {agent.name: sum(map(cpu_seconds, agent.cgroups)) for agent in agents}
