"""The method `switch`: collectors switched window by window, meters read at the edges; `trial`."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.load.record import Requests
from harness.meters.edges import Edges
from harness.model import Window, WindowRow
from harness.node import requests
from harness.node.agent_process import AgentProcess
from harness.node.switch import Switch, note_injected
from harness.node.testbed import Attend, Testbed, TrialLog
from harness.wire.spec import Timing, TrialSpec, WindowState


@dataclass
class Alternation:
    """The windows, and the CPU seconds of the service while each collector was on, by its name."""

    rows: list[WindowRow]
    cpu_seconds: Mapping[str, float]


class Clock(Protocol):
    """Time as the window loop sees it: CLOCK_MONOTONIC in seconds."""

    def monotonic(self) -> float:
        """Now."""
        ...

    def sleep_until(self, deadline: float) -> None:
        """Wait until then; at once if that is past."""
        ...


class MonotonicClock:
    """The kernel's."""

    def monotonic(self) -> float:
        """Now."""
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        """Wait until then; at once if that is past."""
        sleep_until(deadline)


def run(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    folder: Path,
    notes: TrialLog,
    against: Sequence[AgentProcess] = (),
) -> Alternation:
    """Drive the load, alternate, and note how the load went; its requests go to `folder`.

    `agents` are the candidates, `against` the references. All are off at the end.
    """
    path, spec, every = folder / "requests.npz", notes.spec, (*agents, *against)
    plan = windows_of(every, spec)
    testbed.driver.start(testbed.rate)
    time.sleep(spec.timing.settle)
    before, before_them = ([agent.stats() for agent in each] for each in (agents, against))
    with ExitStack() as files:
        edges = open_edges(testbed, every, files)
        switch = Switch(every, edges.service)
        files.enter_context(undisturbed())
        rows = alternate(
            plan, spec.timing, switch, edges.read, testbed.attend, MonotonicClock(), spec.cycle
        )
    after, after_them = ([agent.stats() for agent in each] for each in (agents, against))
    summary = testbed.driver.finish(path)
    testbed.service.check()
    requests.note_load(summary, path, testbed.rate, notes)
    log = requests.read(path)
    answered = [float(requests.within(each, log).sum()) for each in switch.attached_ns]
    mine = notes.of("candidate" if against else "")
    note_injected(agents, before, after, answered[: len(agents)], mine)
    note_injected(against, before_them, after_them, None, notes.of("reference"))
    rows = requests.count(rows, log)
    notes.details["latency_hdr"] = _histograms(rows, log, agents, plan, spec)
    return Alternation(rows, dict(zip([agent.name for agent in every], switch.used, strict=True)))


def windows_of(agents: Sequence[AgentProcess], spec: TrialSpec) -> list[WindowState]:
    """The windows with the states of these agents: of those that were not left out."""
    names = [each.name for each in (*spec.candidates, *spec.references)]
    places = [names.index(agent.name) for agent in agents]
    return [
        replace(window, collectors=tuple(window.collectors[i] for i in places))
        for window in spec.windows
    ]


def _histograms(
    rows: Sequence[WindowRow],
    log: Requests,
    agents: Sequence[AgentProcess],
    plan: Sequence[WindowState],
    spec: TrialSpec,
) -> Mapping[str, Any]:
    """Latencies by the state of the windows; in a shared trial by that of each collector."""
    if not spec.shared:
        return requests.histograms(rows, log)
    return {
        agent.name: requests.histograms(
            [
                replace(row, window=replace(row.window, on=window.collectors[i]))
                for row, window in zip(rows, plan, strict=True)
            ],
            log,
        )
        for i, agent in enumerate(agents)
    }


def alternate(
    plan: Sequence[WindowState],
    timing: Timing,
    switch: Switch,
    read: Callable[[], tuple[int, Mapping[str, float]]],
    attend: Attend,
    clock: Clock,
    cycle: int = 4,
) -> list[WindowRow]:
    """Switch for each window, read every meter after the guard time and at the window's end.

    What is asked of the outside (`attend`) falls into the guard time, once in four windows. Windows
    of one `cycle` have one number. Of a design's windows it is kept how long each switch took.
    """
    rows: list[WindowRow] = []
    edge = clock.monotonic()
    for index, window in enumerate(plan):
        begun = clock.monotonic()
        took = switch.to(window.collectors)
        ready = clock.monotonic()
        if index % 4 == 0:
            attend()
        metered_from = max(max(edge, ready) + timing.guard, clock.monotonic())
        clock.sleep_until(metered_from)
        before_ns, before = read()
        # a switch that took long moves the windows after it: half a window is the least
        shortest = (timing.window - timing.guard) / 2
        edge = max(edge + timing.window, metered_from + shortest)
        clock.sleep_until(edge)
        after_ns, after = read()
        values = {name: after[name] - before[name] for name in after}
        values["seconds"] = (after_ns - before_ns) / 1e9
        values["switch_seconds"] = ready - begun
        if window.states:
            values |= {f"switch_seconds[{name}]": seconds for name, seconds in took.items()}
        seen = Window(index, index // cycle, window.on, before_ns, after_ns, window.states)
        rows.append(WindowRow(seen, values))
    switch.off()
    return rows


def open_edges(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    files: ExitStack,
    others: Mapping[str, Path] | None = None,
) -> Edges:
    """The meters of all that takes part; `others` are more cgroups, by the name of their meter.

    Instructions are counted of the service, and of those others.
    """
    counted = {"": testbed.service.cgroup}
    for metric, path in (others or {}).items():
        counted[f".{metric.partition('.')[2]}"] = path
    return Edges(
        {
            "cpu.workload": [testbed.service.cgroup],
            "cpu.client": testbed.load_cgroups(),
            "cpu.agent": [path for agent in agents for path in agent.cgroups],
            "cpu.sink": [*testbed.receiver.cgroups.values()],
            **{metric: [path] for metric, path in (others or {}).items()},
        },
        files,
        counted if testbed.block.count_instructions else {},
    )


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
