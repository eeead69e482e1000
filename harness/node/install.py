"""Collectors installed for a trial and removed after it; for `trial` and its methods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.errors import CollectorError
from harness.node import found
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.testbed import Testbed, TrialLog
from harness.wire.spec import CollectorSpec


def install(
    testbed: Testbed,
    collectors: Sequence[CollectorSpec],
    folder: Path,
    notes: TrialLog,
    stack: ExitStack,
) -> list[AgentProcess]:
    """Start the agents of these collectors and leave them switched off; `stack` kills them.

    UnavailableError where one cannot run here, CollectorError where one fails.
    """
    for each in collectors:
        found.require_seen(testbed.service, each)
    agents = [_process(testbed, each, folder, notes) for each in collectors]
    for agent in agents:
        agent.start()
        stack.callback(agent.kill)
    hooks = notes.details.setdefault("hooks", {})
    for agent in agents:
        agent.await_ready()
        hooks[agent.name] = agent.ready.get("hooks", [])
        for metric in ("load_seconds", "attach_seconds"):
            if metric in agent.ready:  # an external collector may not tell
                notes.add(metric, agent.ready[metric], "s", collector=agent.name)
    switch_all(agents, True)
    for agent in agents:
        detached = agent.switch(False)
        notes.add("detach_seconds", detached["seconds"], "s", collector=agent.name)
    return agents


def _process(
    testbed: Testbed, collector: CollectorSpec, folder: Path, notes: TrialLog
) -> AgentProcess:
    return AgentProcess(
        collector,
        target_cgroup=testbed.service.cgroup,
        own_cgroup=testbed.machine.make(f"agent-{collector.name}"),
        otlp_url=testbed.receiver.url,
        folder=folder,
        socket=testbed.machine.socket(collector.name),
        cpus=testbed.placement.collector,
        service_name=notes.spec.service,
        instance=testbed.receiver.sender(collector.name, notes.spec.name),
    )


def remove(agents: Sequence[AgentProcess], notes: TrialLog) -> None:
    """End the agents; what was measured does not depend on how gracefully they go."""
    for agent in agents:
        try:
            if unsent := agent.remove().get("unsent", 0):
                notes.warn(
                    f"{agent.name}: {unsent} spans and log records were taken by no receiver."
                )
        except CollectorError as error:
            notes.warn(str(error))
