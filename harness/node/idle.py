"""What collectors cost while no request comes; for `bpf_time`, before its load begins."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.meters.bpfstats import Watched, delta
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.testbed import Testbed, TrialLog, cpu_seconds
from harness.node.windows import sleep_until
from harness.wire.telemetry import IN_AGENT

STEP_SECONDS = 0.5  # from one look for the controller to the next


def run(
    testbed: Testbed, agents: Sequence[AgentProcess], watched: Watched, notes: TrialLog
) -> None:
    """Collectors on and nothing asked of the service: CPU of the agents, run time of the programs.

    As long as asked for, or as some whole export intervals of the slowest agent, if that is more:
    it holds so many exports.
    """
    interval = max((agent.spec.export_seconds for agent in agents), default=0.0)
    if not agents or not notes.spec.timing.idle:
        return
    seconds = interval * max(1, round(notes.spec.timing.idle / interval))
    switch_all(agents, True)
    began, before, ran = time.monotonic(), _cpu(testbed, agents), watched.read()
    while (left := began + seconds - time.monotonic()) > 0:
        sleep_until(time.monotonic() + min(left, STEP_SECONDS))
        testbed.attend()
    after, found = _cpu(testbed, agents), delta(ran.values(), watched.read().values())
    notes.add("idle_seconds", time.monotonic() - began, "s")
    switch_all(agents, False)
    for agent in agents:
        inside = {number for number, hook in agent.hooks.items() if hook in IN_AGENT}
        own = [found[number] for number in agent.program_ids if number in found.keys() - inside]
        spent = sum(each.run_time_ns for each in own) / 1e9
        used = after[agent.name] - before[agent.name]
        notes.add("idle_agent_cpu_seconds", used, "s", collector=agent.name)
        notes.add("idle_bpf_seconds", spent, "s", collector=agent.name)


def _cpu(testbed: Testbed, agents: Sequence[AgentProcess]) -> dict[str, float]:
    return {agent.name: cpu_seconds(testbed.machine.of(f"agent-{agent.name}")) for agent in agents}
