"""What only backends that can be asked tell: when records are found, and what they cost; `steady`.

Both are apart from the steady part's figures: questions cost the backends CPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness import shell
from harness.collectors import AgentProcess, Definition
from harness.meters.memory import pss_bytes
from harness.model import Part
from harness.signals import KINDS, SPREAD
from harness.stage import Notes, Stage, cpu_seconds

TAIL_SECONDS = 3.0  # after the last export by the clock: for the way into the backends
SETTLE_SECONDS = 2.0  # until what was flushed has been written
EXECUTIONS = 100  # so that there is something to tell of
LEAST = {"spans": 20, "logs": 20, "metrics": 2}  # records; of metrics exports: each is an interval


class Bill:
    """What the components of the receiver use from now until it has taken what is flushed.

    What was flushed before is not in it: one that is to be asked has time to take that first.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, self._cgroups = stage, stage.receiver.cgroups
        if stage.receiver.poll_seconds:
            time.sleep(SETTLE_SECONDS)
        self._taken = stage.receiver.read()
        self._began, self._before = time.monotonic(), self._cpu()

    def note(self, notes: Notes) -> None:
        """Note each component's CPU and memory and how many records it was; waits a little."""
        if not self._taken:
            return
        time.sleep(SETTLE_SECONDS)
        seconds, after = time.monotonic() - self._began, self._cpu()
        notes.add("stack_seconds", seconds, "s")
        for name, path in self._cgroups.items():
            used = after[name] - self._before[name]
            notes.add("stack_cpu_seconds", used, "s", component=name)
            pids = map(int, (path / "cgroup.procs").read_text().split())
            notes.add("stack_pss_bytes", pss_bytes(pids), "By", component=name)
        for kind, count in self._stage.receiver.read().items():
            notes.add("stack_records", count - self._taken[kind], "{record}", kind=kind)

    def _cpu(self) -> Mapping[str, float]:
        return {name: cpu_seconds(path) for name, path in self._cgroups.items()}


def run(
    stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes, mark: int
) -> None:
    """Load goes on, collectors export by their own clock, and every record's first sight is noted.

    The backends are asked until the last export by the clock must have been found, so that no
    record is left out for being late.
    """
    seconds = stage.experiment.watched_seconds
    wanted = [
        (Part(a.definition.scope, mark, time.monotonic_ns(), instance=a.instance), kind)
        for a in agents
        for kind in kinds(a.definition)
    ]
    if not wanted:
        return
    path = folder / "watched.npz"
    last = max(agent.definition.export_seconds for agent in agents) + TAIL_SECONDS
    stage.driver.start(stage.rate, max(20, round(stage.rate * seconds)))
    with _executing(stage, folder, seconds, any(kind == "logs" for _, kind in wanted)):
        stage.receiver.watch(wanted, seconds + last)
    stage.driver.wait(path)
    path.unlink()
    stage.workload.check()
    notes.add("data_latency_resolution_seconds", stage.receiver.poll_seconds, "s")
    names = {agent.instance: agent.name for agent in agents}
    for part, kind in wanted:
        _note(stage.receiver.data_latency(part, kind), names[part.instance], kind, notes)


def kinds(definition: Definition) -> list[str]:
    """The kinds of telemetry that a collector sends."""
    told = {KINDS[definition.signal]} if definition.signal else set()
    return sorted(told | ({definition.telemetry} if definition.telemetry else set()))


def percentiles(delays: NDArray[np.float64]) -> Mapping[str, float]:
    """Median and 99th percentile."""
    return {name: float(np.percentile(delays, q)) for name, q in (("p50", 50), ("p99", 99))}


def _note(delays: NDArray[np.float64], name: str, kind: str, notes: Notes) -> None:
    """Percentiles, or a sentence where there are too few records for them."""
    records = len(delays) // (len(SPREAD) if kind == "metrics" else 1)
    labels = {"collector": name, "signal": kind}
    notes.add("data_latency_records", records, "{record}", **labels)
    if records < LEAST[kind]:
        notes.warn(
            f"{name}: {records} {kind} were found while the backends were watched; "
            f"a percentile of their data latency takes {LEAST[kind]}."
        )
        return
    for percentile, value in percentiles(delays).items():
        notes.add(f"data_latency_{percentile}_seconds", value, "s", **labels)


@contextmanager
def _executing(stage: Stage, folder: Path, seconds: float, wanted: bool) -> Iterator[None]:
    """Executions in the scope of the collectors, spread over this time."""
    if not wanted:
        yield
        return
    script = f"for i in $(seq {EXECUTIONS}); do /bin/true; sleep {seconds / EXECUTIONS:.3f}; done"
    process = shell.spawn(
        ["/bin/sh", "-c", script], log=folder / "probe.log",
        cgroup=stage.target.cgroup(stage.scope),
    )  # fmt: skip
    try:
        yield
    finally:
        shell.stop(process)
