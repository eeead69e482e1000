"""The method `install`: some of a trial with the collectors installed, some without; for `trial`.

An experiment calls it `block`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.model import Window, WindowRow
from harness.node import requests
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.install import install, remove, require_absent, staying
from harness.node.switch import note_injected
from harness.node.testbed import Finish, Testbed, TrialLog, cpu_seconds
from harness.node.windows import open_edges, sleep_until, undisturbed


def run(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, finish: Finish
) -> list[WindowRow]:
    """Drive the load throughout, install and remove the collectors meanwhile; the rest.

    The parts of the trial are one pair, so the trial is the unit. The controller says which of them
    have the collectors, each unlike the last, and turns that round with each block. The first and
    the last are half as long as the others: a drift that goes straight on cancels.
    """
    parts = _Parts(testbed, folder, notes, stack)
    path, states = folder / "requests.npz", [state.on for state in notes.spec.windows]
    parts.turn(states[0])
    testbed.driver.start(testbed.rate)
    rows = [parts.meter(index, on) for index, on in enumerate(states)]
    summary = testbed.driver.finish(path)
    testbed.service.check()
    requests.note_load(summary, path, testbed.rate, notes)
    log = requests.read(path)
    rows = requests.count(rows, log)
    parts.note([row for row in rows if row.window.on])
    notes.details["latency_hdr"] = requests.histograms(rows, log)
    agents = parts.left()
    finish(testbed, agents, {agent.name: parts.on_cpu_seconds for agent in agents})
    return rows


class _Parts:
    """Has the collectors there or not, and meters a part of the trial meanwhile.

    A collector that is a part of what goes on without it is one from the first to the last:
    the cgroups of the agent that does it are metered in both states.
    """

    def __init__(self, testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack) -> None:
        self._testbed, self._folder, self._notes, self._stack = testbed, folder, notes, stack
        self._noted: TrialLog = notes
        self._agents: list[AgentProcess] | None = None  # while they are there
        self._staying = staying(testbed, notes.spec.candidates, folder)
        self._stats: list[tuple[Sequence[AgentProcess], list[Any], list[Any]]] = []
        self._beside: dict[str, float] = defaultdict(float)
        self.on_cpu_seconds = 0.0

    def turn(self, on: bool) -> None:
        """Install the collectors and switch them on, or remove them, if it is not so already."""
        if on and self._agents is None:
            self._agents = self._install()
            self.on_cpu_seconds -= self._testbed.cpu_seconds()
            switch_all(self._agents, True)
        elif not on and self._agents is not None:
            self._switch_off(self._agents)
            remove(self._agents, self._notes, strictly=True)
            self._agents = None

    def meter(self, index: int, on: bool) -> WindowRow:
        """A part of the trial, after the settling, in this state."""
        self.turn(on)
        timing, there = self._notes.spec.timing, self._agents
        agents = self._off() if there is None else there
        time.sleep(timing.settle)
        with ExitStack() as files, undisturbed():
            edges = open_edges(self._testbed, agents, files)
            told, used = _stats(agents), _cpu(agents)
            before_ns, before = edges.read()
            sleep_until(before_ns / 1e9 + timing.switched * self._share(index))
            after_ns, after = edges.read()
            told_after, used_after = _stats(agents), _cpu(agents)
        self._testbed.attend()
        if there is None:
            for name, seconds in used_after.items():
                self._beside[name] += seconds - used[name]
            require_absent(self._testbed, self._notes.spec)
        else:
            self._stats.append((agents, told, told_after))
        values = {name: after[name] - before[name] for name in after}
        values["seconds"] = (after_ns - before_ns) / 1e9
        return WindowRow(Window(index, 0, on, before_ns, after_ns), values)

    def note(self, rows: Sequence[WindowRow]) -> None:
        """What a collector of a known cost burnt in the parts with it, which are these.

        And what the agent of a part of it used in those without.
        """
        for row, (agents, before, after) in zip(rows, self._stats, strict=True):
            requests = [row.meters["requests"]] * len(agents)
            note_injected(agents, before, after, requests, self._notes)
        for name, seconds in self._beside.items():
            self._notes.add("beside_cpu_seconds", seconds, "s", collector=name)

    def left(self) -> list[AgentProcess]:
        """The collectors, installed and off, for the rest of the trial."""
        if self._agents is None:
            self._agents = self._install()
        else:
            self._switch_off(self._agents)
        return self._agents

    def _install(self) -> list[AgentProcess]:
        """What an installation is like is noted at the first."""
        log, self._noted = self._noted, TrialLog(self._notes.spec)
        specs = self._notes.spec.candidates
        return install(self._testbed, specs, self._folder, log, self._stack, self._staying)

    def _switch_off(self, agents: Sequence[AgentProcess]) -> None:
        switch_all(agents, False)
        self.on_cpu_seconds += self._testbed.cpu_seconds()

    def _off(self) -> list[AgentProcess]:
        """Those that go on without what was turned off, with their cgroups."""
        for each in self._staying:
            each.find()
        return list(self._staying)

    def _share(self, index: int) -> float:
        """Of the switched time, which is told by the number of parts."""
        last = len(self._notes.spec.windows) - 1
        return (0.5 if index in (0, last) else 1.0) / last


def _stats(agents: Sequence[AgentProcess]) -> list[dict[str, Any]]:
    return [agent.stats() for agent in agents]


def _cpu(agents: Sequence[AgentProcess]) -> dict[str, float]:
    return {agent.name: sum(map(cpu_seconds, agent.cgroups)) for agent in agents}
