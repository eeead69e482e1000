"""When backends that can be asked find records, and what they cost; for `always_on`.

Both are apart from the steady part's figures: questions cost the backends CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.linux import cgroup, processes
from harness.meters.memory import pss_bytes
from harness.model import Part
from harness.node.agent_process import AgentProcess
from harness.node.testbed import Testbed, TrialLog, cpu_seconds
from harness.wire.spec import CollectorSpec
from harness.wire.telemetry import SIGNALS, SPREAD

TAIL_SECONDS = 3.0  # after the last export by the clock: for the way into the backends
SETTLE_SECONDS = 2.0  # until what was flushed has been written
EXECUTIONS = 100  # so that there is something to tell of
LEAST = {"spans": 20, "logs": 20, "metrics": 2}  # records; of metrics exports: each is an interval
LATE_SECONDS = 30.0  # what was not found by then counts as that late
SLOW_SECONDS = 1.0  # from question to question: data latency is not known well


class Bill:
    """What the components of the receiver use from now until it has taken what is flushed.

    What was flushed before is not in it: one that is to be asked has time to take that first.
    """

    def __init__(self, testbed: Testbed) -> None:
        self._testbed, self._cgroups = testbed, testbed.receiver.cgroups
        if testbed.receiver.poll_seconds:
            time.sleep(SETTLE_SECONDS)
        self._taken = testbed.receiver.read()
        self._began, self._before = time.monotonic(), self._cpu()

    def note(self, notes: TrialLog) -> None:
        """Note each component's CPU and memory and how many records it was; waits a little."""
        if not self._taken:
            return
        time.sleep(SETTLE_SECONDS)
        seconds, after = time.monotonic() - self._began, self._cpu()
        notes.add("stack_seconds", seconds, "s")
        for name, path in self._cgroups.items():
            used = after[name] - self._before[name]
            notes.add("stack_cpu_seconds", used, "s", component=name)
            pids = cgroup.processes(path)
            notes.add("stack_pss_bytes", pss_bytes(pids), "By", component=name)
        for kind, count in self._testbed.receiver.read().items():
            name, title = self._testbed.receiver.keepers[kind]
            notes.add(
                "stack_records", count - self._taken[kind], "{record}",
                kind=kind, component=name, title=title,
            )  # fmt: skip

    def _cpu(self) -> Mapping[str, float]:
        return {name: cpu_seconds(path) for name, path in self._cgroups.items()}


def run(
    testbed: Testbed, agents: Sequence[AgentProcess], folder: Path, notes: TrialLog, mark: int
) -> None:
    """Load goes on, collectors export by their own clock, and every record's first sight is noted.

    The backends are asked until the last export by the clock is due, and on until all is found
    that was sent; what is not found then counts as late, so that nothing is left out for that.
    """
    seconds, since_ns = notes.spec.timing.watched, time.monotonic_ns()
    wanted = [
        (a, Part(a.spec.scope, mark, since_ns, instance=a.instance), kind)
        for a in agents
        for kind in kinds(a.spec)
    ]
    if not wanted:
        return
    path, before = folder / "watched.npz", {a.name: a.stats().get("spans", 0) for a in agents}
    last = max(agent.spec.export_seconds for agent in agents) + TAIL_SECONDS

    def missing(agent: AgentProcess, part: Part, kind: str) -> int:
        """How many records less were found than are known to have been sent."""
        found = _records(testbed.receiver.data_latency(part, kind), kind)
        sent = int(seconds / agent.spec.export_seconds)
        if kind == "spans":
            sent = int(agent.stats().get("spans", 0)) - before[agent.name]
        if kind == "logs":  # none at all: a policy that does not tell executions
            sent = executed() if found else 0
        return max(0, sent - found)

    testbed.driver.start(testbed.rate, max(20, round(testbed.rate * seconds)))
    with _executing(testbed, folder, seconds, any(k == "logs" for *_, k in wanted)) as executed:
        testbed.receiver.watch(
            [(part, kind) for _, part, kind in wanted],
            seconds + last,
            lambda: not any(missing(*each) for each in wanted),
        )
    testbed.driver.wait(path)
    path.unlink()
    testbed.service.check()
    apart = testbed.receiver.poll_seconds
    notes.add("data_latency_resolution_seconds", apart, "s")
    if apart > SLOW_SECONDS:
        notes.warn(
            f"The backends took {apart:.1f} s to say what is new, which slows them down: data "
            "latency is too long. Let collectors send fewer spans (http:sample=100)."
        )
    for agent, part, kind in wanted:
        found, late = testbed.receiver.data_latency(part, kind), missing(agent, part, kind)
        _note(found, late, agent.name, kind, notes)


def kinds(collector: CollectorSpec) -> list[str]:
    """The kinds of telemetry that a collector sends."""
    told = {SIGNALS[collector.signal].kind} if collector.signal else set()
    return sorted({*told, *((collector.telemetry,) if collector.telemetry else ())})


def _records(delays: NDArray[np.float64], kind: str) -> int:
    """How many records these delays are of; an export of metrics stands for several."""
    return len(delays) // (len(SPREAD) if kind == "metrics" else 1)


def _note(delays: NDArray[np.float64], late: int, name: str, kind: str, notes: TrialLog) -> None:
    """Percentiles of what was found, or a sentence where there are too few records for them.

    Those that are not between two of few records but the later of them; `late` were not found.
    """
    records = _records(delays, kind)
    labels = {"collector": name, "signal": kind}
    notes.add("data_latency_records", records, "{record}", **labels)
    if late:
        notes.add("data_latency_missing", late, "{record}", **labels)
        notes.warn(f"{name}: {late} {kind} were not found {LATE_SECONDS:g} s after the rest.")
    if records + late < LEAST[kind]:
        notes.warn(
            f"{name}: {records} {kind} were found while the backends were watched; "
            f"a percentile of their data latency takes {LEAST[kind]}."
        )
        return
    alike = len(SPREAD) if kind == "metrics" else 1
    every = np.append(delays, np.full(late * alike, LATE_SECONDS))
    for percentile, q in (("p50", 50), ("p99", 99)):
        value = float(np.percentile(every, q, method="higher"))
        notes.add(f"data_latency_{percentile}_seconds", value, "s", **labels)


@contextmanager
def _executing(
    testbed: Testbed, folder: Path, seconds: float, wanted: bool
) -> Iterator[Callable[[], int]]:
    """Executions in the scope of the collectors, spread over this time; how many, once it ends."""
    if not wanted:
        yield lambda: 0
        return
    script = f"for i in $(seq {EXECUTIONS}); do /bin/true; sleep {seconds / EXECUTIONS:.3f}; done"
    process = processes.spawn(
        ["/bin/sh", "-c", script], log=folder / "probe.log",
        cgroup=testbed.service.cgroup,
    )  # fmt: skip
    try:
        yield lambda: 2 * EXECUTIONS if process.poll() == 0 else 0  # of /bin/true and of sleep
    finally:
        processes.stop(process)
