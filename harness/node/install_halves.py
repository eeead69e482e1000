"""The method `install`: half a trial with the collectors installed, half without; for `trial`.

An experiment calls it `block`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.model import Window, WindowRow
from harness.node import requests
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.install import install, parts, remove, require_absent
from harness.node.switch import note_injected
from harness.node.testbed import Finish, Testbed, TrialLog, cpu_seconds
from harness.node.windows import open_edges, sleep_until, undisturbed


def run(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, finish: Finish
) -> list[WindowRow]:
    """Drive the load throughout and install or remove the collectors in the middle; the rest.

    One pair, so the trial is the unit. The controller draws which half has the collectors and turns
    that round with each block, so that a drift of the machine over a trial cancels.
    """
    half = _Half(testbed, folder, notes, stack)
    path = folder / "requests.npz"
    if first := notes.spec.windows[0].on:
        agents = half.begin()
    testbed.driver.start(testbed.rate)
    if first:
        on = half.meter(0, agents)
        half.end(agents)
        remove(agents, notes, strictly=True)
        rows = [on, half.meter(1)]
        require_absent(testbed, notes.spec)
    else:
        off = half.meter(0)
        require_absent(testbed, notes.spec)
        agents = half.begin()
        rows = [off, half.meter(1, agents)]
        half.end(agents)
    summary = testbed.driver.finish(path)
    testbed.service.check()
    requests.note_load(summary, path, testbed.rate, notes)
    log = requests.read(path)
    rows = requests.count(rows, log)
    half.note_injected(agents, next(row for row in rows if row.window.on))
    notes.details["latency_hdr"] = requests.histograms(rows, log)
    if first:  # what an installation is like was noted at the first
        again = TrialLog(notes.spec)
        agents = install(testbed, notes.spec.candidates, folder, again, stack)
    half.note_beside(agents)
    finish(testbed, agents, {agent.name: half.on_cpu_seconds for agent in agents})
    return rows


class _Half:
    """Installs the collectors and meters a half of the trial with them or without."""

    def __init__(self, testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack) -> None:
        self._testbed, self._folder, self._notes, self._stack = testbed, folder, notes, stack
        self.on_cpu_seconds = 0.0
        self._beside: dict[str, float] = {}

    def begin(self) -> list[AgentProcess]:
        """Install the collectors and switch them on."""
        specs = self._notes.spec.candidates
        agents = install(self._testbed, specs, self._folder, self._notes, self._stack)
        self.on_cpu_seconds -= self._testbed.cpu_seconds()
        switch_all(agents, True)
        return agents

    def end(self, agents: Sequence[AgentProcess]) -> None:
        """Switch them off."""
        switch_all(agents, False)
        self.on_cpu_seconds += self._testbed.cpu_seconds()

    def meter(self, index: int, agents: Sequence[AgentProcess] | None = None) -> WindowRow:
        """Half of the switched time, after the settling; `agents` are on, or None are there."""
        timing, there = self._notes.spec.timing, agents or ()
        stay = self._parts() if agents is None else []
        time.sleep(timing.settle)
        told = [agent.stats() for agent in there]
        with ExitStack() as files, undisturbed():
            edges = open_edges(self._testbed, (*there, *stay), files)
            used = _cpu(stay)
            before_ns, before = edges.read()
            sleep_until(before_ns / 1e9 + timing.switched / 2)
            after_ns, after = edges.read()
            used = {name: seconds - used[name] for name, seconds in _cpu(stay).items()}
        self._testbed.attend()
        if agents is not None:
            self._stats = told, [agent.stats() for agent in there]
        values = {name: after[name] - before[name] for name in after}
        values["seconds"] = (after_ns - before_ns) / 1e9
        self._beside |= {name: each / values["seconds"] for name, each in used.items()}
        return WindowRow(Window(index, 0, agents is not None, before_ns, after_ns), values)

    def note_beside(self, agents: Sequence[AgentProcess]) -> None:
        """What the cgroups of a part of something used in the half without it, by the second."""
        for agent in agents:
            if agent.name in self._beside:
                agent.beside = self._beside[agent.name]
                used = agent.beside * self._notes.spec.timing.switched / 2
                self._notes.add("beside_cpu_seconds", used, "s", collector=agent.name)

    def _parts(self) -> list[AgentProcess]:
        return parts(self._testbed, self._notes.spec.candidates, self._folder)

    def note_injected(self, agents: Sequence[AgentProcess], row: WindowRow) -> None:
        """What a collector of a known cost burnt in the half with it."""
        requests = [row.meters["requests"]] * len(agents)
        note_injected(agents, *self._stats, requests, self._notes)


def _cpu(agents: Sequence[AgentProcess]) -> dict[str, float]:
    return {agent.name: sum(map(cpu_seconds, agent.cgroups)) for agent in agents}
