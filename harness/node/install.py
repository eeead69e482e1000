"""Collectors installed for a trial and removed after it; for `trial` and the three methods."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from harness.collectors import Definition, resolve
from harness.errors import CollectorError
from harness.model import Trial
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.testbed import Notes, Stage


def install(
    stage: Stage,
    specs: Sequence[str],
    folder: Path,
    notes: Notes,
    stack: ExitStack,
    scope: Path | None = None,
    instance: str = "",
) -> list[AgentProcess]:
    """Start the agents of these collectors and leave them switched off; `stack` kills them.

    Their scope is the cgroup `scope`, the stage's if it is not given; `instance` is added to their
    names where the same collectors run twice. UnavailableError where one cannot run here,
    CollectorError where one fails.
    """
    definitions = [resolve(spec) for spec in specs]
    if instance:
        marks = [f"{each.variant},{instance}".strip(",") for each in definitions]
        definitions = [replace(d, variant=m) for d, m in zip(definitions, marks, strict=True)]
    agents = [_process(stage, each, folder, notes.trial, scope) for each in definitions]
    for agent in agents:
        agent.start()
        stack.callback(agent.kill)
    hooks = notes.extra.setdefault("hooks", {})
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
    stage: Stage, definition: Definition, folder: Path, trial: Trial, scope: Path | None
) -> AgentProcess:
    return AgentProcess(
        definition,
        target_cgroup=scope or stage.target.of(stage.scope),
        own_cgroup=stage.target.make(f"agent-{definition.slug}"),
        otlp_url=stage.receiver.url,
        folder=folder,
        socket=stage.target.socket(definition.slug),
        cpus=stage.placement.collector,
        service_name=trial.workload,
        instance=stage.receiver.sender(definition.slug, trial.name),
    )


def remove(agents: Sequence[AgentProcess], notes: Notes) -> None:
    """End the agents; what was measured does not depend on how gracefully they go."""
    for agent in agents:
        try:
            agent.remove()
        except CollectorError as error:
            notes.warn(str(error))
