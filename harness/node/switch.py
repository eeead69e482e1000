"""Two sets of collectors, one on while the other is off, and what happened meanwhile.

`alternation` and `metered` switch with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.node.agent_process import AgentProcess
from harness.node.testbed import Notes

INJECTED = ("ns", "events", "paused_ns", "calm_ns", "calm_events")  # what `inject` tells


class Switch:
    """Which agents are on: those of True, those of False, or none; and since when."""

    def __init__(
        self,
        agents: Sequence[AgentProcess],
        against: Sequence[AgentProcess],
        cpu_seconds: Callable[[], float],
    ) -> None:
        self._agents, self._cpu_seconds = {True: agents, False: against}, cpu_seconds
        self._state: bool | None = None
        self.used = {True: 0.0, False: 0.0}
        self.attached_ns: list[tuple[int, int]] = []
        self._since_ns = 0

    def to(self, state: bool | None) -> None:
        """Switch, and wait until it took effect."""
        old, self._state = self._state, state
        if old is state:
            return
        now = self._cpu_seconds()
        if old is not None:
            self.used[old] += now
        if state is not None:
            self.used[state] -= now
        leave = () if old is None else self._agents[old]
        enter = () if state is None else self._agents[state]
        begun_ns = time.monotonic_ns()
        exchange(leave, enter)
        if old:
            self.attached_ns.append((self._since_ns, begun_ns))
        self._since_ns = begun_ns


def exchange(leave: Sequence[AgentProcess], enter: Sequence[AgentProcess]) -> None:
    """Switch some agents off and others on: all are told before the first answer is awaited."""
    for agent in leave:
        agent.send_switch(False)
    for agent in enter:
        agent.send_switch(True)
    for agent in (*leave, *enter):
        agent.receive_switch()


def injects(answer: Mapping[str, Any]) -> bool:
    """Whether an agent that answers this is a collector of a known cost."""
    return "injected_ns" in answer


def note_injected(
    agents: Sequence[AgentProcess],
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
    requests: float | None,
    notes: Notes,
) -> None:
    """What a collector of a known cost burnt while it was on, and the requests then, if told."""
    for agent, old, new in zip(agents, before, after, strict=True):
        if not injects(new):
            continue
        since = {key: new[f"injected_{key}"] - old[f"injected_{key}"] for key in INJECTED}
        for key, value in since.items():
            metric = f"injected_{key.replace('ns', 'seconds')}"
            value, unit = (value / 1e9, "s") if key.endswith("ns") else (value, "{event}")
            notes.add(metric, value, unit, collector=agent.name)
        if requests is not None:
            notes.add("injected_requests", requests, "{request}", collector=agent.name)
