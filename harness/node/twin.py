"""The method `twin`: two processes, one in the collectors' scope, load by turns; for `trial`.

The literature calls two versions that are driven side by side a duet.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from harness.load.record import Requests
from harness.meters.edges import Edges
from harness.model import Window, WindowRow
from harness.node import block, requests, service
from harness.node.agent_process import switch_all
from harness.node.install import install
from harness.node.switch import note_injected
from harness.node.testbed import Finish, Testbed, TrialLog, cpu_seconds
from harness.node.warm_up import await_steady
from harness.node.windows import open_edges, sleep_until, undisturbed
from harness.wire.spec import Spawn, WindowState

CGROUP = "twin"


def run(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, finish: Finish
) -> list[WindowRow]:
    """Start the twin, drive both by turns while the collectors are on, then the rest.

    The block's process is in scope, or where the trial is swapped the twin, so that the luck of a
    process is no effect.
    """
    here, plain = _pair(testbed, folder, notes, stack)
    spec = notes.spec
    notes.details["scope"] = here.scope
    agents = install(here, spec.candidates, folder, notes, stack)
    _warm(here, plain, folder, notes)
    on_cpu_seconds = -here.cpu_seconds()
    switch_all(agents, True)
    path = folder / "requests.npz"
    here.driver.start(here.rate)
    time.sleep(spec.timing.settle)
    before, began_ns = [agent.stats() for agent in agents], time.monotonic_ns()
    with ExitStack() as files:
        edges = open_edges(here, agents, files, {"cpu.twin": plain.service.cgroup})
        read = _alternate(here, edges, spec.windows, spec.timing.window)
    after, ended_ns = [agent.stats() for agent in agents], time.monotonic_ns()
    summary = here.driver.finish(path)
    switch_all(agents, False)
    on_cpu_seconds += here.cpu_seconds()
    for each in (here.service, plain.service):
        each.check()
    requests.note_load(summary, path, here.rate, notes)
    log = requests.read(path)
    meanwhile = requests.between([began_ns, ended_ns], log, False)[0]
    note_injected(agents, before, after, [meanwhile] * len(agents), notes)
    rows = _rows(read, log, spec.windows)
    notes.details["latency_hdr"] = requests.histograms(rows, log)
    finish(here, agents, {agent.name: on_cpu_seconds for agent in agents})
    return rows


def _pair(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack
) -> tuple[Testbed, Testbed]:
    """The testbed of the process in scope and that of the plain one; one driver drives both."""
    asked = testbed.block.service
    assert isinstance(asked, Spawn), "plan.experiment refuses twins of a service that is found"
    second = service.spawn(
        asked,
        log=folder / "twin.log",
        cgroup=testbed.machine.make(CGROUP),
        cpus=testbed.placement.workload,
    )
    stack.callback(second.stop)
    first, other = testbed, replace(testbed, service=second, scope=CGROUP)
    scoped, plain = (other, first) if notes.spec.swapped else (first, other)
    driver = block.driver(
        testbed.machine, testbed.placement, testbed.block,
        [scoped.service.url, plain.service.url],
        log=folder / "twin-load.log", control="twin-load.sock", file=folder / "locustfile.py",
    )  # fmt: skip
    stack.callback(driver.stop)
    return replace(scoped, driver=driver), replace(plain, driver=driver)


def _warm(here: Testbed, plain: Testbed, folder: Path, notes: TrialLog) -> None:
    """Drive the fresh twin until its CPU per request is steady, and the other a little."""
    timing, fresh = notes.spec.timing, here if here.scope == CGROUP else plain
    path = folder / "twin-warmup.npz"
    here.driver.start(here.rate)
    here.driver.aim(fresh is plain)
    seconds, steady = await_steady(
        lambda: cpu_seconds(fresh.service.cgroup),
        timing.warmup, timing.warmup_limit, here.rate, here.attend,
    )  # fmt: skip
    here.driver.aim(fresh is here)
    time.sleep(timing.settle)
    here.driver.finish(path)
    path.unlink()
    notes.add("twin_warmup_seconds", seconds, "s")
    notes.details["warmup"] = {"seconds": round(seconds, 2), "steady": steady}


@dataclass(frozen=True)
class _Edge:
    """When the load was aimed (`at_ns`), when the meters were read, and how long aiming took."""

    at_ns: int
    read_ns: int
    values: Mapping[str, float]
    aim_seconds: float


def _alternate(
    here: Testbed, edges: Edges, plan: Sequence[WindowState], window_seconds: float
) -> list[_Edge]:
    """Aim at the process in scope in on windows, at the other in off windows; all edges.

    No guard: requests of the window before have their own process and its own cgroup.
    """
    found: list[_Edge] = []
    with undisturbed():
        due = time.monotonic()
        for index, on in enumerate((*(window.on for window in plan), True)):
            sleep_until(due)
            begun = time.monotonic()
            at_ns = here.driver.aim(not on)
            took = time.monotonic() - begun
            found.append(_Edge(at_ns, *edges.read(), took))
            if index % 4 == 0:
                here.attend()
            due = max(due, begun) + window_seconds
    return found


def _rows(edges: Sequence[_Edge], log: Requests, plan: Sequence[WindowState]) -> list[WindowRow]:
    """A window lasts from aim to aim; its meters from reading to reading, right after."""
    readings = [edge.read_ns for edge in edges]
    scoped, plain = (requests.between(readings, log, twin) for twin in (False, True))
    rows = []
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        values = {name: end.values[name] - begin.values[name] for name in end.values}
        values["seconds"] = (end.read_ns - begin.read_ns) / 1e9
        values["switch_seconds"] = begin.aim_seconds
        values["requests"], values["requests.twin"] = scoped[i], plain[i]
        rows.append(WindowRow(Window(i, i // 4, plan[i].on, begin.at_ns, end.at_ns), values))
    return rows
