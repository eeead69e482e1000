"""The method `twin`: two processes, one in the collectors' scope, load by turns; for `trial`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.load import record
from harness.model import Trial, Window
from harness.node.agent_process import switch_all
from harness.node.install import install
from harness.node.load_driver import Driver
from harness.node.switch import note_injected
from harness.node.testbed import Notes, Rest, Stage
from harness.node.warm_up import await_steady
from harness.node.windows import Meters, histograms, note_load, sleep_until, undisturbed
from harness.plan import experiment as experiments
from harness.results.run import WindowRow

CGROUP = "twin"


def run(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack, rest: Rest
) -> list[WindowRow]:
    """Start the twin, drive both by turns while the collectors are on, then the rest.

    The block's process is in scope in even blocks, the twin in odd ones, so that the luck of a
    process is no effect.
    """
    here, plain = _stage(stage, trial, folder, stack)
    notes.extra["scope"] = here.scope
    agents = install(here, stage.experiment.arm(trial.arm).collectors, folder, notes, stack)
    _warm(here, plain, folder, notes)
    on_cpu_seconds = -here.cpu_seconds(here.scope)
    switch_all(agents, True)
    path = folder / "requests.npz"
    here.driver.start(here.rate)
    time.sleep(here.experiment.settle_seconds)
    before, began_ns = [agent.stats() for agent in agents], time.monotonic_ns()
    with ExitStack() as files:
        meters = Meters(here, agents, files, {"cpu.twin": plain.scope})
        edges = _alternate(here, meters, trial.seed)
    after, ended_ns = [agent.stats() for agent in agents], time.monotonic_ns()
    summary = here.driver.finish(path)
    switch_all(agents, False)
    on_cpu_seconds += here.cpu_seconds(here.scope)
    for workload in (here.workload, plain.workload):
        workload.check()
    note_load(summary, path, here.rate, notes)
    note_injected(agents, before, after, _answered(path, [began_ns, ended_ns], False)[0], notes)
    rows = _rows(edges, path, trial.seed)
    notes.extra["latency_hdr"] = histograms(rows, path)
    rest(here, agents, on_cpu_seconds)
    return rows


def _stage(stage: Stage, trial: Trial, folder: Path, stack: ExitStack) -> tuple[Stage, Stage]:
    """The stage of the process in scope and that of the plain one; one driver drives both."""
    second = stage.service.start(
        log=folder / "twin.log",
        cgroup=stage.target.make(CGROUP),
        cpus=stage.placement.workload,
    )
    stack.callback(second.stop)
    first, other = stage, replace(stage, workload=second, scope=CGROUP)
    scoped, plain = (first, other) if trial.block % 2 == 0 else (other, first)
    driver = Driver(
        scoped.workload.url,
        plain.workload.url,
        locustfile=stage.service.locustfile,
        connections=stage.experiment.load(trial.workload).connections,
        seed=stage.experiment.seed,
        cgroup=stage.target.make("client"),
        cpus=stage.placement.load,
        log=folder / "twin-load.log",
        control=stage.target.socket("twin-load"),
    )
    stack.callback(driver.stop)
    return replace(scoped, driver=driver), replace(plain, driver=driver)


def _warm(here: Stage, plain: Stage, folder: Path, notes: Notes) -> None:
    """Drive the fresh twin until its CPU per request is steady, and the other a little."""
    e, fresh = here.experiment, here if here.scope == CGROUP else plain
    path = folder / "twin-warmup.npz"
    here.driver.start(here.rate)
    here.driver.aim(fresh is plain)
    seconds, steady = await_steady(
        lambda: fresh.cpu_seconds(CGROUP), e.warmup_seconds, e.warmup_limit_seconds, here.rate
    )
    here.driver.aim(fresh is here)
    time.sleep(e.settle_seconds)
    here.driver.finish(path)
    path.unlink()
    notes.add("twin_warmup_seconds", seconds, "s")
    notes.extra["warmup"] = {"arm": notes.trial.arm, "seconds": round(seconds, 2), "steady": steady}


@dataclass(frozen=True)
class _Edge:
    """When the load was aimed (`at_ns`), when the meters were read, and how long aiming took."""

    at_ns: int
    read_ns: int
    values: Mapping[str, float]
    aim_seconds: float


def _alternate(here: Stage, meters: Meters, seed: int) -> list[_Edge]:
    """Aim at the process in scope in on windows, at the other in off windows; all edges.

    No guard: requests of the window before have their own process and its own cgroup.
    """
    edges: list[_Edge] = []
    states = experiments.pattern(here.experiment.quadruples, seed)
    with undisturbed():
        due = time.monotonic()
        for on in (*states, True):
            sleep_until(due)
            begun = time.monotonic()
            at_ns = here.driver.aim(not on)
            took = time.monotonic() - begun
            edges.append(_Edge(at_ns, *meters.read(), took))
            due = max(due, begun) + here.experiment.window_seconds
    return edges


def _rows(edges: Sequence[_Edge], path: Path, seed: int) -> list[WindowRow]:
    """A window lasts from aim to aim; its meters from reading to reading, right after."""
    states = experiments.pattern(len(edges) // 4, seed)
    readings = [edge.read_ns for edge in edges]
    scoped, plain = (_answered(path, readings, twin) for twin in (False, True))
    rows = []
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        values = {name: end.values[name] - begin.values[name] for name in end.values}
        values["seconds"] = (end.read_ns - begin.read_ns) / 1e9
        values["switch_seconds"] = begin.aim_seconds
        values["requests"], values["requests.twin"] = scoped[i], plain[i]
        window = Window(i, i // 4, states[i], begin.at_ns, end.at_ns)
        rows.append(WindowRow(window, values))
    return rows


def _answered(path: Path, edges: Sequence[int], twin: bool) -> list[float]:
    """How many requests of the plain twin, or of the one in scope, were answered between edges."""
    log = record.read(path)
    ends = np.sort(log.end_ns[(log.status > 0) & (log.twin == twin)])
    return [float(count) for count in np.diff(np.searchsorted(ends, np.array(edges)))]
