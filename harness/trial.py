"""One trial: collectors installed, alternated in windows or metered, removed; for `evaluate`."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from harness import alternation, shell, steady
from harness.agents import install, remove
from harness.collectors import AgentProcess
from harness.errors import HarnessError
from harness.meters.memory import cgroup_bytes, peak_rss_bytes, pss_bytes
from harness.meters.node import NodeCpu
from harness.model import Method, Trial
from harness.stage import Notes, Rest, Stage, Way
from harness.steady import Seen
from harness.store import TrialRecord, WindowRow


def run(stage: Stage, trial: Trial, folder: Path) -> tuple[TrialRecord, list[WindowRow]]:
    """Run a trial whose files go to `folder`; what it started is ended, however it ends."""
    notes = Notes(trial)
    rows: list[WindowRow] = []
    offset = stage.spool.stat().st_size
    with ExitStack() as stack:
        node = stack.enter_context(closing(NodeCpu()))
        before = node.read()
        if trial.kind == "switched":
            method = _METHODS[stage.experiment.arm(trial.arm).method]

            def rest(here: Stage, agents: Sequence[AgentProcess], on_cpu_seconds: float) -> None:
                so_far = Seen(offset, time.monotonic_ns(), on_cpu_seconds)
                steady.run(here, agents, folder, notes, so_far)
                _profile(here, folder, notes)
                _memory(here, agents, notes)
                remove(agents, notes)

            rows = method(stage, trial, folder, notes, stack, rest)
        else:
            specs = stage.experiment.arm(trial.arm).collectors
            agents = install(stage, specs, folder, notes, stack)
            steady.meter(stage, agents, folder, notes)
            _memory(stage, agents, notes)
            remove(agents, notes)
        notes.add("steal_share", _steal_share(before, node.read()), "1")
    return notes.record(), rows


def _switch(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack, rest: Rest
) -> list[WindowRow]:
    """The method `switch`: collectors turned on and off every window."""
    agents = install(stage, stage.experiment.arm(trial.arm).collectors, folder, notes, stack)
    found = alternation.run(stage, agents, folder, notes)
    rest(stage, agents, found.on_cpu_seconds)
    return found.rows


def _other(name: str) -> Way:
    """A method with a module of its own, which is imported when it is used."""

    def run(
        stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack, rest: Rest
    ) -> list[WindowRow]:
        way: Way = importlib.import_module(f"harness.{name}").run
        return way(stage, trial, folder, notes, stack, rest)

    return run


_METHODS: dict[Method, Way] = {
    "switch": _switch,
    "twin": _other("twin"),
    "block": _other("installation"),
}


def _memory(stage: Stage, agents: Sequence[AgentProcess], notes: Notes) -> None:
    for agent in agents:
        notes.add("agent_pss_bytes", pss_bytes([agent.pid]), "By", collector=agent.name)
        notes.add("agent_peak_rss_bytes", peak_rss_bytes(agent.pid), "By", collector=agent.name)
    notes.add("workload_pss_bytes", pss_bytes(stage.workload.pids()), "By")
    for name, value in cgroup_bytes(stage.target.cgroup("workload")).items():
        notes.add(f"workload_cgroup_{name}", value, "By")  # where a memory controller is there


def _profile(stage: Stage, folder: Path, notes: Notes) -> None:
    """Name the profile's addresses while the workload lives."""
    if not (folder / "pprof").is_dir():
        return
    pids = map(str, stage.workload.pids())
    argv = [sys.executable, "-m", "harness.report.symbols", str(folder / "pprof"), *pids]
    try:
        shell.run(argv, timeout=120)
        notes.extra["profile"] = "pprof/profile.folded"
    except HarnessError as error:
        notes.warn(f"The profile has no symbols: {error}")


def _steal_share(before: dict[str, float], after: dict[str, float]) -> float:
    """The share of the machine's time that the hypervisor gave to others."""
    used = {
        name: after[f"{name}_seconds"] - before[f"{name}_seconds"]
        for name in ("host", "idle", "steal")
    }
    return used["steal"] / max(sum(used.values()), 1e-9)
