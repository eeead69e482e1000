"""One trial: collectors alternated in windows, then kept on for a stretch; called by `evaluate`."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from harness import experiment as experiments
from harness import shell
from harness.collectors import REGISTRY, AgentProcess
from harness.collectors.included import EXPORT_SECONDS, switch_all
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.load.client import Driver, LoadSummary
from harness.meters.bpfstats import StatsEnabled, programs
from harness.meters.cgroup import CgroupCpu
from harness.meters.coverage import Tally, tally
from harness.meters.memory import peak_rss_bytes, pss_bytes
from harness.meters.node import NodeCpu
from harness.model import Measurement, Trial, Window
from harness.store import TrialRecord, WindowRow
from harness.targets.local import Local
from harness.targets.placement import Placement
from harness.workloads import RunningWorkload

PROBES = 10


@dataclass
class Stage:
    """What runs while the trials of one block run."""

    experiment: Experiment
    target: Local
    placement: Placement
    sink_url: str
    spool: Path
    sockets: Path
    workload: RunningWorkload
    driver: Driver
    rate: float


@dataclass
class Notes:
    """Collects the values of a trial."""

    trial: Trial
    values: list[Measurement] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def add(self, metric: str, value: float, unit: str, **labels: str) -> None:
        """Note one value of the whole trial."""
        t = self.trial
        self.values.append(
            Measurement(
                metric, float(value), unit, t.workload, t.arm, t.block, t.name, None, labels
            )
        )

    def record(self) -> TrialRecord:
        """The finished trial; whether it is valid is decided by the analysis, by stated rules."""
        return TrialRecord(self.trial, "ok", values=tuple(self.values), extra=self.extra)


def run(stage: Stage, trial: Trial, folder: Path) -> tuple[TrialRecord, list[WindowRow]]:
    """Run a trial whose files go to `folder`; what it started is ended, however it ends."""
    notes = Notes(trial)
    rows: list[WindowRow] = []
    with ExitStack() as stack:
        node = stack.enter_context(closing(NodeCpu()))
        before = node.read()
        agents = _install(stage, trial, folder, notes, stack)
        if trial.kind == "switched":
            rows = _switched(stage, trial, agents, folder, notes)
            _steady(stage, agents, folder, notes)
        else:
            _metered(stage, agents, folder, notes)
        _memory(stage, agents, notes)
        _profile(stage, folder, notes)
        notes.add("steal_share", _steal_share(before, node.read()), "1")
        for agent in agents:
            detached = agent.remove()
            notes.add("detach_seconds", detached["detach_seconds"], "s", collector=agent.name)
    return notes.record(), rows


def _install(
    stage: Stage, trial: Trial, folder: Path, notes: Notes, stack: ExitStack
) -> list[AgentProcess]:
    agents = [
        AgentProcess(
            REGISTRY[name],
            target_cgroup=stage.target.cgroup("workload"),
            own_cgroup=stage.target.cgroup(f"agent-{name}"),
            otlp_url=stage.sink_url,
            folder=folder,
            socket=stage.sockets / f"{name}.sock",
            cpus=stage.placement.collector,
            service_name=trial.workload,
        )
        for name in stage.experiment.arm(trial.arm).collectors
    ]
    notes.extra["hooks"] = {}
    for agent in agents:
        agent.start()
        stack.callback(agent.kill)
    for agent in agents:
        agent.await_ready()
        notes.extra["hooks"][agent.name] = agent.ready["hooks"]
        notes.add("load_seconds", agent.ready["load_seconds"], "s", collector=agent.name)
    for agent in agents:
        attached = agent.switch(True)
        notes.add("attach_seconds", attached["seconds"], "s", collector=agent.name)
        agent.switch(False)
    return agents


def _switched(
    stage: Stage, trial: Trial, agents: Sequence[AgentProcess], folder: Path, notes: Notes
) -> list[WindowRow]:
    stage.driver.start(stage.rate)
    time.sleep(stage.experiment.settle_seconds)
    rows = _alternate(stage, trial, agents)
    path = folder / "requests.npz"
    summary = stage.driver.finish(path)
    stage.workload.check()
    _load_values(summary, path, stage.rate, notes)
    return _count_requests(rows, path)


def _alternate(stage: Stage, trial: Trial, agents: Sequence[AgentProcess]) -> list[WindowRow]:
    """Windows off-on-on-off; every meter is read after the guard time and at the window's end."""
    e = stage.experiment
    rows: list[WindowRow] = []
    state = False
    with ExitStack() as stack:
        meters = Meters(stage, agents, stack)
        stack.enter_context(_undisturbed())
        edge = time.monotonic()
        for index, on in enumerate(experiments.pattern(e.quadruples, trial.seed)):
            begun = time.monotonic()
            if on != state:
                switch_all(agents, on)
                state = on
            switched = time.monotonic() - begun
            edge = max(edge, begun)
            _sleep_until(max(edge + e.guard_seconds, time.monotonic() + e.guard_seconds / 4))
            before_ns, before = meters.read()
            edge += e.window_seconds
            _sleep_until(edge)
            after_ns, after = meters.read()
            values = {name: after[name] - before[name] for name in after}
            values["seconds"] = (after_ns - before_ns) / 1e9
            values["switch_seconds"] = switched
            rows.append(WindowRow(Window(index, index // 4, on, before_ns, after_ns), values))
    switch_all(agents, False)
    return rows


def _steady(stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes) -> None:
    """Collectors on, exactly N requests, nothing else: coverage, data latency, the agent's CPU."""
    requests = max(20, round(stage.rate * stage.experiment.steady_seconds))
    switch_all(agents, True)
    for agent in agents:
        agent.flush()
    since_ns = time.monotonic_ns()
    cpu = {agent.name: _cpu(stage, f"agent-{agent.name}") for agent in agents}
    begun, begun_cpu = time.monotonic(), _cpu(stage, "workload")
    stage.driver.start(stage.rate, requests)
    if agents:
        _probe(stage, folder)
    summary = stage.driver.wait(folder / "steady.npz")
    workload_seconds = _cpu(stage, "workload") - begun_cpu
    seconds = time.monotonic() - begun
    drained = {agent.name: _cpu(stage, f"agent-{agent.name}") for agent in agents}
    stats = {agent.name: agent.flush() for agent in agents}
    stage.workload.check()
    notes.add("steady_requests", summary.requests, "{request}")
    notes.add("steady_seconds", seconds, "s")
    for agent in agents:
        seen = tally(stage.spool, since_ns, scope=f"harness.{agent.name}")
        # the part is shorter than an export interval: of its one export it bears its share
        export = _cpu(stage, f"agent-{agent.name}") - drained[agent.name]
        used = drained[agent.name] - cpu[agent.name] + export * seconds / EXPORT_SECONDS
        notes.add("steady_agent_cpu_seconds", used, "s", collector=agent.name)
        _seen(agent, seen, summary, workload_seconds, notes)
        _counted(agent, stats[agent.name], notes)
    switch_all(agents, False)


def _metered(stage: Stage, agents: Sequence[AgentProcess], folder: Path, notes: Notes) -> None:
    """Collectors on throughout, the kernel's run-time statistics enabled."""
    requests = max(20, round(stage.rate * stage.experiment.metered_seconds))
    path = folder / "requests.npz"
    switch_all(agents, True)
    with StatsEnabled():
        before = {p.id: p for p in programs()}
        begun = time.monotonic()
        stage.driver.start(stage.rate, requests)
        summary = stage.driver.wait(path)
        seconds = time.monotonic() - begun
        after = {p.id: p for p in programs()}
    stage.workload.check()
    _load_values(summary, path, stage.rate, notes)
    notes.add("metered_requests", summary.requests, "{request}")
    notes.add("metered_seconds", seconds, "s")
    for agent in agents:
        for program in agent.program_ids:
            labels = {"collector": agent.name, "program": after[program].name}
            ran = (after[program].run_time_ns - before[program].run_time_ns) / 1e9
            count = after[program].run_cnt - before[program].run_cnt
            notes.add("bpf_run_time_seconds", ran, "s", **labels)
            notes.add("bpf_run_count", count, "{run}", **labels)
        _counted(agent, agent.flush(), notes)
    switch_all(agents, False)


def _steal_share(before: dict[str, float], after: dict[str, float]) -> float:
    """The share of the machine's time that the hypervisor gave to others."""
    used = {name: after[f"{name}_seconds"] - before[f"{name}_seconds"]
            for name in ("host", "idle", "steal")}  # fmt: skip
    return used["steal"] / max(sum(used.values()), 1e-9)


class Meters:
    """All counters of a window's edges in one reading; files are closed with `stack`."""

    def __init__(self, stage: Stage, agents: Sequence[AgentProcess], stack: ExitStack) -> None:
        cgroups = {
            "cpu.workload": ["workload"],
            "cpu.client": ["client"],
            "cpu.agent": [f"agent-{agent.name}" for agent in agents],
            "cpu.sink": ["sink"],
        }
        self._groups = {
            metric: [
                stack.enter_context(closing(CgroupCpu(stage.target.cgroup(name)))) for name in names
            ]
            for metric, names in cgroups.items()
        }
        self._node = stack.enter_context(closing(NodeCpu()))

    def read(self) -> tuple[int, dict[str, float]]:
        """CLOCK_MONOTONIC ns of the reading of the workload's counter, and all counters in s."""
        before = time.monotonic_ns()
        values = {"cpu.workload": self._groups["cpu.workload"][0].read()["usage_seconds"]}
        at_ns = (before + time.monotonic_ns()) // 2
        for name in ("cpu.client", "cpu.agent", "cpu.sink"):
            values[name] = sum(meter.read()["usage_seconds"] for meter in self._groups[name])
        node = self._node.read()
        values |= {f"cpu.{name}": node[f"{name}_seconds"] for name in ("host", "softirq", "steal")}
        return at_ns, values


def _count_requests(rows: Sequence[WindowRow], path: Path) -> list[WindowRow]:
    """Add `requests`: those that were answered within the metered stretch of each window."""
    with np.load(path) as log:
        ends = np.sort(log["end_ns"][log["status"] > 0])
    edges = np.array([[row.window.start_ns, row.window.end_ns] for row in rows])
    counts = np.searchsorted(ends, edges[:, 1]) - np.searchsorted(ends, edges[:, 0])
    return [
        replace(row, meters={**row.meters, "requests": float(count)})
        for row, count in zip(rows, counts, strict=True)
    ]


def _load_values(summary: LoadSummary, path: Path, rate: float, notes: Notes) -> None:
    notes.add("rate_asked", rate, "{request}/s")
    notes.add("rate_achieved", _achieved(path), "{request}/s")
    notes.add("requests_total", summary.requests, "{request}")
    notes.add("errors_total", summary.errors, "{request}")
    notes.add("late_p99_ms", summary.late_p99_ms, "ms")
    notes.add("driver_cpu_share", summary.cpu_share, "1")
    if summary.saturated:
        notes.extra["saturated"] = summary.reason


def _achieved(path: Path) -> float:
    """Requests answered a second, from the first that was due to the last answer."""
    with np.load(path) as log:
        answered = log["status"] > 0
        if not answered.any():
            return 0.0
        return float(answered.sum() / ((log["end_ns"].max() - log["due_ns"].min()) / 1e9))


def _cpu(stage: Stage, cgroup: str) -> float:
    """CPU seconds that one of the run's cgroups has used so far."""
    with closing(CgroupCpu(stage.target.cgroup(cgroup))) as meter:
        return meter.read()["usage_seconds"]


def _seen(
    agent: AgentProcess, seen: Tally, load: LoadSummary, cpu_seconds: float, notes: Notes
) -> None:
    """What arrived at the receiver, over what was made."""
    signal = agent.definition.signal
    made = {
        "requests": float(load.requests),
        "connections": float(PROBES),
        "executions": float(PROBES),
        "samples": cpu_seconds * float(agent.ready.get("frequency", 19)),
    }[signal]
    labels = {"collector": agent.name, "signal": signal}
    notes.add("signal_seen", seen.counts.get(signal, 0.0), "1", **labels)
    notes.add("signal_made", made, "1", **labels)
    if made:
        notes.add("coverage_ratio", seen.counts.get(signal, 0.0) / made, "1", **labels)
    for kind, latencies in seen.latency_seconds.items():
        if kind in _DATA[agent.name] and len(latencies):
            for name, q in (("p50", 50), ("p99", 99)):
                notes.add(
                    f"data_latency_{name}_seconds", float(np.percentile(latencies, q)), "s",
                    collector=agent.name, signal=kind,
                )  # fmt: skip


_DATA = {"http": {"spans"}, "flows": {"metrics"}, "profile": {"metrics"}, "guard": {"logs"}}


def _counted(agent: AgentProcess, stats: dict[str, Any], notes: Notes) -> None:
    notes.add("events", stats["events"], "{event}", collector=agent.name)
    notes.add("events_lost", stats["lost"], "{event}", collector=agent.name)
    notes.add("map_bytes", stats["map_bytes"], "By", collector=agent.name)


def _memory(stage: Stage, agents: Sequence[AgentProcess], notes: Notes) -> None:
    for agent in agents:
        notes.add("agent_pss_bytes", pss_bytes([agent.pid]), "By", collector=agent.name)
        notes.add("agent_peak_rss_bytes", peak_rss_bytes(agent.pid), "By", collector=agent.name)
    notes.add("workload_pss_bytes", pss_bytes(stage.workload.pids()), "By")


def _probe(stage: Stage, folder: Path) -> None:
    """Known events of our own: PROBES connections and PROBES executions inside the scope."""
    url = urlsplit(stage.workload.url)
    for _ in range(PROBES):
        socket.create_connection((url.hostname, url.port), timeout=5).close()
        shell.stop(
            shell.spawn(["/bin/true"], log=folder / "probe.log", cgroup=stage.workload.cgroup)
        )


def _profile(stage: Stage, folder: Path, notes: Notes) -> None:
    if not (folder / "pprof").is_dir():
        return
    from harness.report import symbols  # BCC is large; it is needed only where profiles were made

    try:
        symbols.symbolize(folder / "pprof", stage.workload.pids())
        notes.extra["profile"] = "pprof/profile.folded"
    except (OSError, HarnessError) as error:
        notes.extra.setdefault("warnings", []).append(f"The profile has no symbols: {error}")


def _sleep_until(deadline: float) -> None:
    remaining = deadline - time.monotonic()
    if remaining > 0:
        time.sleep(remaining)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Read meters on time: real-time priority where allowed, and no garbage collection."""
    gc.collect()
    gc.disable()
    realtime = True
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        realtime = False
    try:
        yield
    finally:
        gc.enable()
        if realtime:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
