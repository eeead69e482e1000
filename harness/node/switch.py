"""Collectors switched on and off, each by itself, and what happened meanwhile.

`windows` and `bpf_time` switch with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.node.agent_process import AgentProcess
from harness.node.testbed import TrialLog

INJECTED = ("ns", "events", "paused_ns", "calm_ns", "calm_events")  # what `inject` tells


class Switch:
    """Which of the agents are on, and for how long they were.

    `used` are the CPU seconds of the service while each was on, `attached_ns` the stretches of
    CLOCK_MONOTONIC in which it was.
    """

    def __init__(self, agents: Sequence[AgentProcess], cpu_seconds: Callable[[], float]) -> None:
        self._agents, self._cpu_seconds = agents, cpu_seconds
        self._states = [False] * len(agents)
        self.used = [0.0] * len(agents)
        self.attached_ns: list[list[tuple[int, int]]] = [[] for _ in agents]
        self._since_ns = [0] * len(agents)

    def to(self, states: Sequence[bool]) -> Mapping[str, float]:
        """Switch each agent to its state, and wait until all of it took effect.

        How long that took each of those that changed, in seconds, as far as they tell.
        """
        changed = [i for i, state in enumerate(states) if state != self._states[i]]
        if not changed:
            return {}
        now, begun_ns = self._cpu_seconds(), time.monotonic_ns()
        took = exchange(
            [self._agents[i] for i in changed if not states[i]],
            [self._agents[i] for i in changed if states[i]],
        )
        for i in changed:
            self.used[i] += -now if states[i] else now
            if not states[i]:
                self.attached_ns[i].append((self._since_ns[i], begun_ns))
            self._since_ns[i], self._states[i] = begun_ns, states[i]
        return took

    def off(self) -> None:
        """Switch all off."""
        self.to([False] * len(self._agents))


def exchange(leave: Sequence[AgentProcess], enter: Sequence[AgentProcess]) -> Mapping[str, float]:
    """Switch some agents off and others on: all are told before the first answer is awaited.

    Those that leave are told first. How long each took, in seconds, by its name, if it tells.
    """
    for agent in leave:
        agent.send_switch(False)
    for agent in enter:
        agent.send_switch(True)
    told = {agent.name: agent.receive_switch().get("seconds") for agent in (*leave, *enter)}
    return {name: float(took) for name, took in told.items() if isinstance(took, int | float)}


def injects(answer: Mapping[str, Any]) -> bool:
    """Whether an agent that answers this is a collector of a known cost."""
    return "injected_ns" in answer


def note_injected(
    agents: Sequence[AgentProcess],
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
    requests: Sequence[float] | None,
    notes: TrialLog,
) -> None:
    """What a collector of a known cost burnt while it was on, and the requests then, if told."""
    for i, (agent, old, new) in enumerate(zip(agents, before, after, strict=True)):
        if not injects(new):
            continue
        since = {key: new[f"injected_{key}"] - old[f"injected_{key}"] for key in INJECTED}
        for key, value in since.items():
            metric = f"injected_{key.replace('ns', 'seconds')}"
            value, unit = (value / 1e9, "s") if key.endswith("ns") else (value, "{event}")
            notes.add(metric, value, unit, collector=agent.name)
        if requests is not None:
            notes.add("injected_requests", requests[i], "{request}", collector=agent.name)
