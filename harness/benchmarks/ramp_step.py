"""Holds one rate for some seconds and reads everything meanwhile; `ramp` asks for each step."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.ramp import Step
from harness.errors import ComponentError
from harness.linux import cgroup, processes
from harness.meters.cgroup import CgroupCpu
from harness.meters.host import NodeCpu
from harness.meters.memory import pss_bytes
from harness.stack import catalog, counters
from harness.stack.config import Stack
from harness.stack.marks import Mark, Marks
from harness.wire.telemetry import RECORDS

SETTLE = 0.2  # of a step, which is not metered
START_SECONDS = 30.0  # for the generator to begin
ANSWER_SECONDS = 20.0  # for the last answers, after the generator was stopped
DRAIN_SECONDS = 120.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Edge:
    """All meters at one moment (monotonic seconds); `cpu` in seconds used so far.

    The backend is asked last and has a time of its own.
    """

    time: float
    collector: Mapping[str, float]
    cpu: Mapping[str, float]
    node: Mapping[str, float]
    backend_time: float
    backend: Mapping[str, float]


class Bench:
    """What a step is held on: the stack, the cgroups of its components, and the generator's."""

    def __init__(
        self, stack: Stack, components: Mapping[str, Path], generator: Path, folder: Path
    ) -> None:
        self.stack = stack
        self._cgroups, self._own, self._folder = dict(components), generator, folder
        paths = {**components, "generator": generator}
        self._cpus = {name: CgroupCpu(path) for name, path in paths.items()}
        self._node = NodeCpu()

    def close(self) -> None:
        """Close the meters' files."""
        for meter in self._cpus.values():
            meter.close()
        self._node.close()

    def hold(self, signal: str, rate: float, seconds: float, mark: str) -> tuple[Step, list[str]]:
        """Send at a rate (0: nothing) for so long; what was seen, and traces that were sent.

        It returns when nothing waits any more, or when that took too long. ComponentError if the
        stack or the generator does not answer.
        """
        marks, said = Marks.of(self.stack, signal), list[dict[str, Any]]()
        before = self._counts(signal)
        marks.start()
        with ExitStack() as ends:
            ends.callback(marks.stop, 0.0)
            process = self._generator(signal, rate, mark, ends) if rate else None
            time.sleep(SETTLE * seconds)
            first = self._edge(signal)
            queue = self._watch(signal, first.time + (1 - SETTLE) * seconds)
            last = self._edge(signal)
            memory = self._memory()
            if process is not None:
                said = self._end(process)
            found, drained = self._drain(signal, marks)
        counts = _gain(before, self._counts(signal))
        counts["unmarked"] = float(sum(one.refused for one in found))
        span, accepted = last.time - first.time, _gain(first.collector, last.collector)
        arrived = accepted["sent"] / span
        if signal != "points":
            there = _gain(first.backend, last.backend)["arrived"]
            arrived = there / (last.backend_time - first.backend_time)
        step = Step(
            signal, rate, span,
            accepted=accepted["accepted"] / span,
            arrived=arrived,
            sent=_tally(said),
            counts={k: v for k, v in counts.items() if k != "queue"},
            queue=queue,
            lags=tuple(one.lag for one in found if not one.refused),
            cpu={name: used / span for name, used in _gain(first.cpu, last.cpu).items()},
            memory=memory,
            drained=drained,
            keeper=self.stack.keeps[RECORDS[signal]],
            titles={name: catalog.known()[name].title for name in self._cgroups},
            **_shares(_gain(first.node, last.node)),
        )  # fmt: skip
        return step, [line["trace"] for line in said if line.get("trace")]

    @property
    def _out(self) -> Path:
        return self._folder / "generator.jsonl"

    def _generator(self, signal: str, rate: float, mark: str, ends: ExitStack) -> processes.Process:
        log = self._folder / "generator.log"
        argv = [
            sys.executable, "-m", "harness.stack.generator", "--signal", signal,
            "--url", self.stack.otlp_url, "--rate", str(rate),
            "--mark", mark, "--out", str(self._out),
        ]  # fmt: skip
        process = processes.spawn(argv, log=log, cgroup=self._own)
        ends.callback(processes.stop, process)
        if processes.announced(process, START_SECONDS) is None:
            raise ComponentError("The generator did not begin.", next_step=f"See {log}.")
        return process

    def _end(self, process: processes.Process) -> list[dict[str, Any]]:
        """Stop the generator and read what it did; ComponentError if it ended by itself."""
        ended = process.poll() is not None
        code = processes.stop(process, grace_seconds=ANSWER_SECONDS)
        said = _lines(self._out)
        if ended or code or not said or not said[-1].get("done"):
            raise ComponentError(
                f"The generator ended ({code}) before it was told to, or did not end.",
                next_step=f"See {self._folder / 'generator.log'}.",
            )
        return said

    def _counts(self, signal: str) -> dict[str, float]:
        otlp = RECORDS[signal]
        return counters.of_collector(self.stack, otlp) | counters.of_backend(self.stack, otlp)

    def _edge(self, signal: str) -> Edge:
        """Read what is divided by the same time close together; the backend may be slow to tell."""
        collector = counters.of_collector(self.stack, RECORDS[signal])
        now, node = time.monotonic(), self._node.read()
        cpu = {name: meter.read()["usage_seconds"] for name, meter in self._cpus.items()}
        own = {"harness": time.process_time(), "host": node["host_seconds"]}
        backend = counters.of_backend(self.stack, RECORDS[signal])
        return Edge(now, collector, cpu | own, node, time.monotonic(), backend)

    def _waiting(self, signal: str) -> float:
        return counters.of_collector(self.stack, RECORDS[signal])["queue"]

    def _watch(self, signal: str, until: float) -> tuple[float, ...]:
        """How much waits in the queue, each second."""
        queue = []
        due = time.monotonic()
        while due < until:
            queue.append(self._waiting(signal))
            due += 1.0
            time.sleep(max(0.0, min(due, until) - time.monotonic()))
        return (*queue, self._waiting(signal))

    def _memory(self) -> dict[str, float]:
        paths = {**self._cgroups, "generator": self._own}
        return {name: pss_bytes(cgroup.processes(path)) / 1e6 for name, path in paths.items()}

    def _drain(self, signal: str, marks: Marks) -> tuple[list[Mark], float | None]:
        """Wait until every mark is found and nothing waits; seconds, None after too many."""
        began = time.monotonic()
        found = marks.stop(DRAIN_SECONDS)
        whole = all(mark.lag is not None or mark.refused for mark in found)
        while self._waiting(signal) > 0:
            if time.monotonic() - began > DRAIN_SECONDS:
                return found, None
            time.sleep(POLL_SECONDS)
        return found, time.monotonic() - began if whole else None


def _gain(first: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    """What was added between two readings; a counter that appeared later began at 0."""
    return {key: value - first.get(key, 0.0) for key, value in last.items()}


def _shares(node: Mapping[str, float]) -> dict[str, float]:
    whole = node["host_seconds"] + node["idle_seconds"] + node["steal_seconds"]
    return {
        "idle": node["idle_seconds"] / whole if whole else 0.0,
        "steal": node["steal_seconds"] / whole if whole else 0.0,
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise ComponentError(
            f"The generator's {path.name} cannot be read.", f"{error}.", "Begin the ramp again."
        ) from error


def _tally(said: list[dict[str, Any]]) -> dict[str, Any]:
    """The generator's last words, without what is said of time and traces."""
    last = said[-1] if said else {}
    return {key: value for key, value in last.items() if key not in ("time", "trace", "done")}
