"""The switched part of a trial: collectors alternated in windows, meters read at their edges."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from harness.load import latency, record
from harness.meters.cgroup import CgroupCpu
from harness.meters.host import NodeCpu
from harness.model import Window
from harness.node.agent_process import AgentProcess
from harness.node.load_driver import LoadSummary
from harness.node.switch import Switch, note_injected
from harness.node.testbed import Notes, Stage
from harness.plan import experiment as experiments
from harness.results.run import WindowRow


@dataclass
class Alternation:
    """The windows, and the CPU seconds of the workload while it was observed.

    `cpu_seconds[True]` while the collectors were on, `[False]` while those against them were;
    `attached_ns` are the stretches, CLOCK_MONOTONIC, in which the collectors were on.
    """

    rows: list[WindowRow]
    cpu_seconds: dict[bool, float]
    attached_ns: list[tuple[int, int]]


def run(
    stage: Stage,
    agents: Sequence[AgentProcess],
    folder: Path,
    notes: Notes,
    against: Sequence[AgentProcess] = (),
) -> Alternation:
    """Drive the load, alternate, and note how the load went; its requests go to `folder`.

    The agents `against` are on while the others are off. All are off at the end.
    """
    path = folder / "requests.npz"
    stage.driver.start(stage.rate)
    time.sleep(stage.experiment.settle_seconds)
    before, before_them = ([agent.stats() for agent in each] for each in (agents, against))
    found = _alternate(stage, agents, against, notes.trial.seed)
    after, after_them = ([agent.stats() for agent in each] for each in (agents, against))
    summary = stage.driver.finish(path)
    stage.workload.check()
    note_load(summary, path, stage.rate, notes)
    requests = float(_within(found.attached_ns, path).sum())
    mine = notes.of("candidate" if against else "")
    note_injected(agents, before, after, requests, mine)
    note_injected(against, before_them, after_them, None, notes.of("reference"))
    found.rows = count_requests(found.rows, path)
    notes.extra["latency_hdr"] = histograms(found.rows, path)
    return found


def note_load(summary: LoadSummary, path: Path, rate: float, notes: Notes) -> None:
    """Note the load of a phase whose requests are in `path`."""
    log = record.read(path)
    answered = log.status > 0
    # n requests take n intervals: the last one that was due has its own still before it
    first_to_last = (log.due_ns.max() - log.due_ns.min()) / 1e9 if len(log.due_ns) > 1 else 1.0
    seconds = first_to_last * len(log.due_ns) / max(len(log.due_ns) - 1, 1)
    notes.add("rate_asked", rate, "{request}/s")
    notes.add("rate_achieved", answered.sum() / seconds, "{request}/s")
    notes.add("requests_total", summary.requests, "{request}")
    notes.add("errors_total", summary.errors, "{request}")
    notes.add("late_p99_ms", summary.late_p99_ms, "ms")
    notes.add("driver_cpu_share", summary.cpu_share, "1")
    if summary.saturated:
        notes.extra["saturated"] = summary.reason


def _alternate(
    stage: Stage, agents: Sequence[AgentProcess], against: Sequence[AgentProcess], seed: int
) -> Alternation:
    """Windows off-on-on-off; every meter is read after the guard time and at the window's end."""
    e = stage.experiment
    rows: list[WindowRow] = []
    with ExitStack() as stack:
        meters = Meters(stage, (*agents, *against), stack)
        switch = Switch(agents, against, meters.workload)
        stack.enter_context(undisturbed())
        edge = time.monotonic()
        for index, on in enumerate(experiments.pattern(e.quadruples, seed)):
            begun = time.monotonic()
            switch.to(on)
            ready = time.monotonic()
            metered_from = max(edge, ready) + e.guard_seconds
            sleep_until(metered_from)
            before_ns, before = meters.read()
            # a switch that took long moves the windows after it: half a window is the least
            shortest = (e.window_seconds - e.guard_seconds) / 2
            edge = max(edge + e.window_seconds, metered_from + shortest)
            sleep_until(edge)
            after_ns, after = meters.read()
            values = {name: after[name] - before[name] for name in after}
            values["seconds"] = (after_ns - before_ns) / 1e9
            values["switch_seconds"] = ready - begun
            rows.append(WindowRow(Window(index, index // 4, on, before_ns, after_ns), values))
        switch.to(None)
    return Alternation(rows, switch.used, switch.attached_ns)


class Meters:
    """All counters of a window's edges in one reading; files are closed with `stack`.

    `others` are more of the run's cgroups, by the name of their meter.
    """

    def __init__(
        self,
        stage: Stage,
        agents: Sequence[AgentProcess],
        stack: ExitStack,
        others: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        cgroup = stage.target.of
        cgroups = {
            "cpu.workload": [cgroup(stage.scope)],
            "cpu.client": [cgroup("client")],
            "cpu.agent": [cgroup(f"agent-{agent.name}") for agent in agents],
            "cpu.sink": [*stage.receiver.cgroups.values()],
            **{metric: [cgroup(name)] for metric, name in others.items()},
        }
        self._groups = {
            metric: [stack.enter_context(closing(CgroupCpu(path))) for path in paths]
            for metric, paths in cgroups.items()
        }
        self._node = stack.enter_context(closing(NodeCpu()))

    def workload(self) -> float:
        """CPU seconds of the workload so far."""
        return self._sum("cpu.workload")

    def read(self) -> tuple[int, dict[str, float]]:
        """CLOCK_MONOTONIC ns of the reading of the workload's counter, and all counters in s."""
        before = time.monotonic_ns()
        values = {"cpu.workload": self.workload()}
        at_ns = (before + time.monotonic_ns()) // 2
        values |= {name: self._sum(name) for name in self._groups if name != "cpu.workload"}
        node = self._node.read()
        values |= {f"cpu.{name}": node[f"{name}_seconds"] for name in ("host", "softirq", "steal")}
        return at_ns, values

    def _sum(self, metric: str) -> float:
        return sum(meter.read()["usage_seconds"] for meter in self._groups[metric])


def count_requests(rows: Sequence[WindowRow], path: Path) -> list[WindowRow]:
    """Add `requests`: those that were answered within the metered stretch of each window."""
    counts = _within([(row.window.start_ns, row.window.end_ns) for row in rows], path)
    return [
        replace(row, meters={**row.meters, "requests": float(count)})
        for row, count in zip(rows, counts, strict=True)
    ]


def _within(stretches: Sequence[tuple[int, int]], path: Path) -> NDArray[np.intp]:
    """How many requests were answered in each stretch of time (ns)."""
    log = record.read(path)
    ends = np.sort(log.end_ns[log.status > 0])
    edges = np.array(stretches, dtype=np.int64).reshape(-1, 2)
    return np.searchsorted(ends, edges[:, 1]) - np.searchsorted(ends, edges[:, 0])


def histograms(rows: Sequence[WindowRow], path: Path) -> dict[str, dict[str, str]]:
    """Encoded HDR histograms of latency by route and state: small enough to be kept for ever."""
    log = record.read(path)
    starts = np.array([row.window.start_ns for row in rows])
    place = np.searchsorted(starts, log.due_ns, side="right") - 1
    ends = np.array([row.window.end_ns for row in rows])
    states = np.array([row.window.on for row in rows])
    inside = (place >= 0) & (log.due_ns <= ends[place]) & (log.status > 0)
    kept = {}
    for number, route in enumerate(log.route_names):
        mine = inside & (log.route == number)
        kept[str(route)] = {
            name: latency.encode(latency.histogram((log.end_ns - log.due_ns)[mine & which]))
            for name, which in (("on", states[place]), ("off", ~states[place]))
        }
    return kept


def sleep_until(deadline: float) -> None:
    """Sleep until this time of CLOCK_MONOTONIC, seconds."""
    remaining = deadline - time.monotonic()
    if remaining > 0:
        time.sleep(remaining)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Read meters on time: real-time priority where allowed, and no garbage collection."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    gc.collect()
    gc.disable()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        gc.enable()
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, policy, parameters)
