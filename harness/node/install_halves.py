"""The method `block`: half a trial with the collectors installed, half without; for `trial`."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.model import Trial, Window
from harness.node.agent_process import AgentProcess, switch_all
from harness.node.install import install, remove
from harness.node.switch import note_injected
from harness.node.testbed import Notes, Rest, Stage
from harness.node.windows import (
    Meters,
    count_requests,
    histograms,
    note_load,
    sleep_until,
    undisturbed,
)
from harness.results.run import WindowRow


def run(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack, rest: Rest
) -> list[WindowRow]:
    """Drive the load throughout and install or remove the collectors in the middle; the rest.

    One pair, so the trial is the unit. Which half has the collectors is drawn for the arm and
    turns round with each block, so that a drift of the machine over a trial cancels.
    """
    half = _Half(stage, trial, folder, notes, stack)
    path = folder / "requests.npz"
    if first := installed_first(stage.experiment.seed, trial):
        agents = half.begin()
    stage.driver.start(stage.rate)
    if first:
        on = half.meter(0, agents)
        half.end(agents)
        remove(agents, notes)
        rows = [on, half.meter(1)]
    else:
        off = half.meter(0)
        agents = half.begin()
        rows = [off, half.meter(1, agents)]
        half.end(agents)
    summary = stage.driver.finish(path)
    stage.workload.check()
    note_load(summary, path, stage.rate, notes)
    rows = count_requests(rows, path)
    half.note_injected(agents, next(row for row in rows if row.window.on))
    notes.extra["latency_hdr"] = histograms(rows, path)
    if first:  # what an installation is like was noted at the first
        agents = install(stage, half.specs, folder, Notes(trial), stack)
    rest(stage, agents, half.on_cpu_seconds)
    return rows


def installed_first(seed: int, trial: Trial) -> bool:
    """Whether the collectors are installed in the first half: by turns over the blocks."""
    coin = random.Random(f"{seed}/{trial.workload}/{trial.arm}").random() < 0.5
    return (trial.block % 2 == 0) == coin


class _Half:
    """Installs the collectors and meters a half of the trial with them or without."""

    def __init__(
        self, stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack
    ) -> None:
        self._stage, self._folder, self._notes, self._stack = stage, folder, notes, stack
        self.specs = stage.experiment.arm(trial.arm).collectors
        self.on_cpu_seconds = 0.0

    def begin(self) -> list[AgentProcess]:
        """Install the collectors and switch them on."""
        stage = self._stage
        agents = install(stage, self.specs, self._folder, self._notes, self._stack)
        self.on_cpu_seconds -= stage.cpu_seconds(stage.scope)
        switch_all(agents, True)
        return agents

    def end(self, agents: Sequence[AgentProcess]) -> None:
        """Switch them off."""
        switch_all(agents, False)
        self.on_cpu_seconds += self._stage.cpu_seconds(self._stage.scope)

    def meter(self, index: int, agents: Sequence[AgentProcess] | None = None) -> WindowRow:
        """Half of the switched time, after the settling; `agents` are on, or None are there."""
        e, there = self._stage.experiment, agents or ()
        time.sleep(e.settle_seconds)
        told = [agent.stats() for agent in there]
        with ExitStack() as files, undisturbed():
            meters = Meters(self._stage, there, files)
            before_ns, before = meters.read()
            sleep_until(before_ns / 1e9 + e.switched_seconds / 2)
            after_ns, after = meters.read()
        if agents is not None:
            self._stats = told, [agent.stats() for agent in there]
        values = {name: after[name] - before[name] for name in after}
        values["seconds"] = (after_ns - before_ns) / 1e9
        return WindowRow(Window(index, 0, agents is not None, before_ns, after_ns), values)

    def note_injected(self, agents: Sequence[AgentProcess], row: WindowRow) -> None:
        """What a collector of a known cost burnt in the half with it."""
        note_injected(agents, *self._stats, row.meters["requests"], self._notes)
