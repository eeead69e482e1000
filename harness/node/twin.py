"""The method `twin`: two processes, one in the collectors' scope, load by turns; for `trial`.

The literature calls two versions that are driven side by side a duet.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.load.record import Requests
from harness.meters.edges import Edges
from harness.meters.memory import anonymous_bytes, peak_rss_bytes, resident_bytes
from harness.model import Window, WindowRow
from harness.node import (
    block,
    in_process,
    limited_log,
    profile_file,
    requests,
    service,
    subject_files,
)
from harness.node.agent_process import switch_all
from harness.node.install import install
from harness.node.switch import note_injected
from harness.node.testbed import Finish, Testbed, TrialLog, cpu_seconds
from harness.node.warm_up import await_steady
from harness.node.windows import open_edges, sleep_until, undisturbed
from harness.wire.spec import CollectorSpec, Spawn, WindowState

CGROUP = "twin"
PLAIN = "plain"  # the cgroup of a second fresh process, where the twin has the collector in it


def run(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack, finish: Finish
) -> list[WindowRow]:
    """Start the twin, drive both by turns while the collectors are on, then the rest.

    The block's process is in scope, or where the trial is swapped the twin, so that the luck of a
    process is no effect. A collector that runs within the service is in one of two fresh processes.
    """
    begin = _with_and_without if in_process.of(notes.spec) else _pair
    here, plain = begin(testbed, folder, notes, stack)
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
    _note_memory(here, plain, notes)
    finish(here, agents, {agent.name: on_cpu_seconds for agent in agents})
    return rows


def _pair(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack
) -> tuple[Testbed, Testbed]:
    """The testbed of the process in scope and that of the plain one; one driver drives both."""
    asked = testbed.block.service
    assert isinstance(asked, Spawn), "controller.resolved refuses twins of one that is found"
    second = _started(testbed, CGROUP, asked, folder, stack)
    first, other = testbed, replace(testbed, service=second, scope=CGROUP)
    scoped, plain = (other, first) if notes.spec.swapped else (first, other)
    return _driven(scoped, plain, folder, stack)


def _with_and_without(
    testbed: Testbed, folder: Path, notes: TrialLog, stack: ExitStack
) -> tuple[Testbed, Testbed]:
    """Two fresh processes, one with the collector in it; which is started first takes turns."""
    asked, collector = testbed.block.service, in_process.of(notes.spec)
    assert isinstance(asked, Spawn)
    assert collector is not None
    # entered before the services are started, so that it is left after they have ended
    own = stack.enter_context(subject_files.folder(testbed.machine.scratch, collector.name))
    stack.push(partial(_note_profile, collector, own, notes))
    log = stack.enter_context(
        limited_log.limited(folder / f"{CGROUP}.log", collector.name, notes.warn)
    )
    wanted = {
        PLAIN: asked,
        CGROUP: in_process.instrumented(
            asked, collector, testbed.receiver.url, own, testbed.attend
        ),
    }
    found: dict[str, Testbed] = {}
    for name in sorted(wanted, reverse=notes.spec.swapped):
        begun = time.monotonic()
        started = _started(testbed, name, wanted[name], folder, stack)
        metric = "startup_seconds" if name == CGROUP else "startup_plain_seconds"
        notes.add(metric, time.monotonic() - begun, "s", collector=collector.name)
        found[name] = replace(testbed, service=started, scope=name)
    log.keep()  # after that, so that it delays no start
    return _driven(found[CGROUP], found[PLAIN], folder, stack)


def _note_profile(
    collector: CollectorSpec, own: Path, notes: TrialLog, failed: type | None, *_: object
) -> None:
    """Once its service has ended, and the trial did not fail: nobody waits for that then."""
    if failed is None:
        profile_file.note(collector, own, notes)


def _started(
    testbed: Testbed, name: str, asked: Spawn, folder: Path, stack: ExitStack
) -> service.SpawnedService:
    """Another process of the service, in a cgroup of this name; `stack` ends it."""
    started = service.spawn(
        asked,
        log=folder / f"{name}.log",
        cgroup=testbed.machine.make(name),
        cpus=testbed.placement.workload,
    )
    stack.callback(started.stop)
    return started


def _driven(
    scoped: Testbed, plain: Testbed, folder: Path, stack: ExitStack
) -> tuple[Testbed, Testbed]:
    """Both with one driver that drives them."""
    driver = block.driver(
        scoped.machine, scoped.placement, scoped.block,
        [scoped.service.url, plain.service.url],
        log=folder / "twin-load.log", control="twin-load.sock", file=folder / "locustfile.py",
    )  # fmt: skip
    stack.callback(driver.stop)
    return replace(scoped, driver=driver), replace(plain, driver=driver)


def _warm(here: Testbed, plain: Testbed, folder: Path, notes: TrialLog) -> None:
    """Drive each fresh process until its CPU a request is steady, and an older one a little."""
    timing = notes.spec.timing
    fresh = [each for each in (plain, here) if each.scope in (CGROUP, PLAIN)]
    path = folder / "twin-warmup.npz"
    here.driver.start(here.rate)
    took: list[tuple[float, bool]] = []
    for each in fresh:
        here.driver.aim(each is plain)
        took.append(
            await_steady(
                partial(cpu_seconds, each.service.cgroup),
                timing.warmup,
                timing.warmup_limit,
                here.rate,
                here.attend,
            )
        )
    here.driver.aim(fresh[-1] is here)
    time.sleep(timing.settle)
    here.driver.finish(path)
    path.unlink()
    seconds, steady = max(each for each, _ in took), all(good for _, good in took)
    notes.add("twin_warmup_seconds", seconds, "s")
    notes.details["warmup"] = {"seconds": round(seconds, 2), "steady": steady}


def _note_memory(here: Testbed, plain: Testbed, notes: TrialLog) -> None:
    """What the process with a collector in it has more than the one without: the agent has it."""
    if (collector := in_process.of(notes.spec)) is None:
        return
    both = [each.service.pids() for each in (here, plain)]
    (rss, plain_rss), (pss, plain_pss) = (
        [resident_bytes(pids)[kind] for pids in both] for kind in ("rss", "pss")
    )
    peak, plain_peak = (sum(map(peak_rss_bytes, pids)) for pids in both)
    heap, plain_heap = map(anonymous_bytes, both)
    if heap is not None and plain_heap is not None:
        notes.add("service_heap_bytes", heap, "By", collector=collector.name)
        notes.add("plain_heap_bytes", plain_heap, "By", collector=collector.name)
    for metric, value in {
        "service_rss_bytes": rss,
        "plain_rss_bytes": plain_rss,
        "agent_pss_bytes": pss - plain_pss,
        "agent_peak_rss_bytes": peak - plain_peak,
    }.items():
        notes.add(metric, value, "By", collector=collector.name)


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
