"""A saturated trial: a closed loop keeps the service full, collectors are switched; for `trial`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from harness.load.phase import MAX_CPU_SHARE
from harness.load.record import Requests
from harness.meters.cgroup import starved_seconds
from harness.model import WindowRow
from harness.node import requests
from harness.node.agent_process import AgentProcess
from harness.node.load_driver import LoadSummary
from harness.node.switch import Switch
from harness.node.testbed import Testbed, TrialLog
from harness.node.windows import MonotonicClock, alternate, open_edges, undisturbed, windows_of

TRY_SECONDS = 1.0


def is_filled(testbed: Testbed, notes: TrialLog) -> bool:
    """Whether the load driver can fill the service; tried before any collector is there.

    What it reached otherwise is noted in place of windows, so that no time goes into them.
    """
    if notes.spec.references:  # they are never all off
        return True
    found = testbed.driver.capacity(TRY_SECONDS)
    testbed.service.check()
    if found.cpu_share <= MAX_CPU_SHARE:
        return True
    notes.details["unfilled"] = {"driver_cpu_share": found.cpu_share, "per_s": found.rate}
    return False


def run(
    testbed: Testbed,
    agents: Sequence[AgentProcess],
    notes: TrialLog,
    against: Sequence[AgentProcess] = (),
) -> list[WindowRow]:
    """Every connection asks again as soon as it is answered; a row's `requests` were answered well.

    `agents` are the candidates, `against` the references. All are off at the end. The requests
    themselves are not kept: there are many, and their latency is that of a full service.
    """
    path, spec, every = testbed.machine.scratch / "saturated.npz", notes.spec, (*agents, *against)
    plan = windows_of(every, spec)
    testbed.driver.start(None)
    time.sleep(spec.timing.settle)
    with ExitStack() as files:
        edges = open_edges(testbed, every, files)
        switch = Switch(every, edges.service)
        files.enter_context(undisturbed())
        began, before = time.monotonic(), _starved(testbed)
        rows = alternate(
            plan, spec.timing, switch, edges.read, testbed.attend, MonotonicClock(), spec.cycle
        )
        seconds, after = time.monotonic() - began, _starved(testbed)
    cpus = usable_cpus(testbed.service.pids())
    summary = testbed.driver.finish(path)
    testbed.service.check()
    log = requests.read(path)
    path.unlink()
    _note(testbed, summary, log, cpus, notes)
    for who, until in after.items():
        notes.add(f"{who}_starved_share", (until - before[who]) / seconds, "1")
    return requests.count_well(rows, log)


def usable_cpus(pids: Iterable[int]) -> list[int]:
    """The CPUs on which any of these processes may run; those that ended are left out."""
    found: set[int] = set()
    for pid in pids:
        with suppress(OSError):
            found |= os.sched_getaffinity(pid)
    return sorted(found)


def _starved(testbed: Testbed) -> dict[str, float]:
    """Seconds so far in which others kept service or load driver from running."""
    who: dict[str, list[Path]] = {
        "service": [testbed.service.cgroup], "driver": testbed.load_cgroups()
    }  # fmt: skip
    return {name: sum(map(starved_seconds, paths)) for name, paths in who.items()}


def _note(
    testbed: Testbed, summary: LoadSummary, log: Requests, cpus: Sequence[int], notes: TrialLog
) -> None:
    """Under which conditions it was full, by which the analysis tells whose limit was met.

    Nothing is noted under the names by which a rate is judged: none was asked for.
    """
    notes.add("saturated_requests", len(log.end_ns), "{request}")
    notes.add("saturated_errors", summary.errors, "{request}")
    notes.add("saturated_connections", testbed.block.connections, "{connection}")
    notes.add("saturated_cpus", len(cpus), "{cpu}")
    notes.add("driver_cpu_share", summary.cpu_share, "1")
    if summary.workers and not testbed.block.elsewhere:
        usable = min(len(summary.workers), len(testbed.placement.load))
        notes.add("saturated_driver_cpus", usable, "{cpu}")
    notes.details["saturated_on"] = {"service": list(cpus), "load": _load_cpus(testbed)}


def _load_cpus(testbed: Testbed) -> list[int]:
    """Those of the load driver; none where it is on another node."""
    return [] if testbed.block.elsewhere else list(testbed.placement.load)
