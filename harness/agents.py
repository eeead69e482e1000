"""Collectors installed for a trial and removed after it; for `trial` and the three methods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.collectors import REGISTRY, AgentProcess
from harness.collectors.included import switch_all
from harness.errors import CollectorError
from harness.stage import Notes, Stage


def install(
    stage: Stage,
    specs: Sequence[str],
    folder: Path,
    notes: Notes,
    stack: ExitStack,
    scope: Path | None = None,
) -> list[AgentProcess]:
    """Start the agents of these collectors and leave them switched off; `stack` kills them.

    Their scope is the cgroup `scope`, the workload's if it is not given. UnavailableError where
    one cannot run here, CollectorError where one fails.
    """
    agents = [
        AgentProcess(
            REGISTRY[spec],
            target_cgroup=scope or stage.target.cgroup("workload"),
            own_cgroup=stage.target.cgroup(f"agent-{spec}"),
            otlp_url=stage.sink_url,
            folder=folder,
            socket=stage.target.scratch / f"{spec}.sock",
            cpus=stage.placement.collector,
            service_name=notes.trial.workload,
        )
        for spec in specs
    ]
    for agent in agents:
        agent.start()
        stack.callback(agent.kill)
    hooks = notes.extra.setdefault("hooks", {})
    for agent in agents:
        agent.await_ready()
        hooks[agent.name] = agent.ready["hooks"]
        notes.add("load_seconds", agent.ready["load_seconds"], "s", collector=agent.name)
        notes.add("attach_seconds", agent.ready["attach_seconds"], "s", collector=agent.name)
    switch_all(agents, True)
    for agent in agents:
        detached = agent.switch(False)
        notes.add("detach_seconds", detached["seconds"], "s", collector=agent.name)
    return agents


def remove(agents: Sequence[AgentProcess], notes: Notes) -> None:
    """End the agents; what was measured does not depend on how gracefully they go."""
    for agent in agents:
        try:
            agent.remove()
        except CollectorError as error:
            notes.warn(str(error))
