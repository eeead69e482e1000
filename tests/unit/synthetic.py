"""Writes a run directory as an evaluation would, with known effects; for tests of the analysis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import experiment as experiments
from harness.experiment import Experiment
from harness.model import Arm, Measurement, Trial, Window
from harness.store import Run, TrialRecord, WindowRow

COLLECTORS = ("http", "flows", "profile", "guard")
LEVEL_US = {"go": 32.0, "flask": 560.0, "java": 68.0}
LATENCY_US = {"go": 210.0, "flask": 900.0, "java": 320.0}
RATE = {"go": 2500.0, "flask": 350.0, "java": 1800.0}
PROGRAMS = {
    "http": (("http_ingress", 1.12, 260.0), ("http_egress", 1.12, 290.0)),
    "flows": (("flow_bytes", 2.3, 140.0), ("flow_state", 0.01, 400.0)),
    "profile": (("on_sample", 0.008, 2100.0),),
    "guard": (("on_exec", 0.0005, 1800.0), ("on_open", 0.002, 900.0)),
}
TICK = 0.01  # s; softirq time moves by these
SIGNAL = {"http": "requests", "flows": "connections", "profile": "samples", "guard": "executions"}
SEEN = {"flows": (10, 10), "profile": (16, 17.2), "guard": (9, 10)}  # of each trial
CLAIMS = [
    ("http", "Beyla: < 0.5 % CPU, 50 MB; 500 ns a request", "Grafana Beyla documentation, 2025-02"),
    (
        "http",
        "Beyla in the field: +43 % CPU in a Go service",
        "github.com/grafana/beyla/issues/2425",
    ),
    ("flows", "Hubble: 1-15 %", "Cilium documentation, performance tuning"),
    ("profile", "Parca: 0.6 % CPU, 200 MB", "the founding guide's table, no method given"),
    ("guard", "Tetragon: 0.5 % CPU, 100 MB", "the founding guide's table, no method given"),
]


@dataclass(frozen=True)
class Truth:
    """What the synthetic machine does: effects in us a request, noise as shares."""

    cpu_us: Mapping[str, float] = field(
        default_factory=lambda: {"http": 0.55, "flows": 0.35, "profile": 0.05, "guard": 0.01}
    )
    latency_us: Mapping[str, float] = field(
        default_factory=lambda: {"http": 2.0, "flows": 0.8, "profile": 0.1, "guard": 0.0}
    )
    drift: float = 0.15  # slow swing of CPU per request, as a share
    noise: float = 0.03  # of one window, as a share; heavy-tailed
    softirq_us: float = 0.0
    outliers: float = 0.02  # share of windows that something else disturbed


def experiment(**changes: Any) -> Experiment:
    """The shape of the quick experiment."""
    arms = (Arm("baseline"), *(Arm(name, (name,)) for name in COLLECTORS), Arm("all", COLLECTORS))
    keys: dict[str, Any] = {
        "name": "quick", "workloads": ("go", "flask", "java"), "arms": arms, "seed": 7, "blocks": 2,
    }  # fmt: skip
    return Experiment(**{**keys, **changes})


def write(
    path: Path,
    what: Experiment | None = None,
    truth: Truth | None = None,
    *,
    seed: int = 1,
    only: Iterable[int] | None = None,
    **about: Any,
) -> Run:
    """Write a run whose trials with an index in `only` (all, if None) were finished."""
    what, truth = what or experiment(), truth or Truth()
    run = Run.create(path, what, **{**_about(what), **about})
    wanted = None if only is None else set(only)
    for trial in experiments.plan(what):
        if wanted is None or trial.index in wanted:
            rng = np.random.default_rng([seed, trial.index])
            add(run, what, trial, truth, rng)
    return run


def add(
    run: Run, what: Experiment, trial: Trial, truth: Truth, rng: np.random.Generator
) -> TrialRecord:
    """Write one finished trial."""
    folder = run.folder(trial)
    rows = windows(what, trial, truth, rng) if trial.kind == "switched" else []
    extra: dict[str, Any] = {}
    if rows:
        requests(folder / "requests.npz", what, trial, truth, rows, rng)
    if trial.kind == "switched" and "profile" in what.arm(trial.arm).collectors:
        (folder / "pprof").mkdir()
        (folder / "pprof/profile.folded").write_text(FOLDED)
        extra["profile"] = "pprof/profile.folded"
    record = TrialRecord(trial, "ok", values=tuple(_values(what, trial, rng)), extra=extra)
    run.append(record, rows)
    return record


def windows(
    what: Experiment, trial: Trial, truth: Truth, rng: np.random.Generator
) -> list[WindowRow]:
    """Windows of a machine that drifts, with heavy-tailed noise and the arm's effect when on."""
    level, rate = LEVEL_US.get(trial.workload, 50.0), RATE.get(trial.workload, 1000.0)
    states = experiments.pattern(what.quadruples, trial.seed)
    seconds, begin = what.window_seconds - what.guard_seconds, int(1e12) + trial.index * 10**11
    t = np.arange(len(states)) * what.window_seconds
    drift = 1 + truth.drift * np.sin(2 * math.pi * (t / 37 + rng.random())) * rng.choice([-1, 1])
    noise = truth.noise * rng.standard_t(4, len(t)) + (rng.random(len(t)) < truth.outliers) * 0.4
    effect = sum(truth.cpu_us.get(c, 0.0) for c in what.arm(trial.arm).collectors)
    rows, softirq = [], rng.random() * TICK
    for i, on in enumerate(states):
        count = max(1.0, round(rate * seconds + rng.normal(0, 0.5)))
        cpu = count * (level * drift[i] * (1 + noise[i]) + effect * on) * 1e-6
        client = count * (120 * drift[i] * (1 + noise[i] / 2) + 0.4 * effect * on) * 1e-6
        start = begin + int((t[i] + what.guard_seconds) * 1e9)
        after = softirq + count * (5.0 + truth.softirq_us * on) * 1e-6
        meters = {
            "seconds": seconds, "requests": count, "cpu.workload": cpu, "cpu.client": client,
            "cpu.agent": 0.0004, "cpu.sink": 0.0001, "cpu.host": cpu + client + 0.002,
            "cpu.softirq": (after // TICK - softirq // TICK) * TICK, "cpu.steal": 0.0,
            "switch_seconds": 0.0006 if i and on != states[i - 1] else 0.0,
        }  # fmt: skip
        softirq = after
        rows.append(WindowRow(Window(i, i // 4, on, start, start + int(seconds * 1e9)), meters))
    return rows


def requests(
    path: Path,
    what: Experiment,
    trial: Trial,
    truth: Truth,
    rows: list[WindowRow],
    rng: np.random.Generator,
) -> None:
    """requests.npz: log-normal latencies with a tail, shifted in on windows."""
    rate = RATE.get(trial.workload, 1000.0)
    first, last = rows[0].window.start_ns, rows[-1].window.end_ns
    due = np.arange(first, last, int(1e9 / rate), dtype=np.int64)
    base = LATENCY_US.get(trial.workload, 300.0) * np.exp(0.18 * rng.standard_normal(len(due)))
    base += (rng.random(len(due)) < 0.02) * rng.exponential(3000, len(due))
    at = np.searchsorted([row.window.start_ns for row in rows], due, side="right") - 1
    on = np.array([row.window.on for row in rows])[at]
    effect = sum(truth.latency_us.get(c, 0.0) for c in what.arm(trial.arm).collectors)
    route = (np.arange(len(due)) % 10 == 9).astype(np.uint8)
    latency = ((base + on * effect) * 1e3 + route * 3e6).astype(np.int64)
    np.savez(
        path, due_ns=due, start_ns=due + 5000, end_ns=due + latency,
        status=np.full(len(due), 200, np.int16), route=route,
        route_names=np.array(["/", "/api/users/<id>"]), bytes=np.full(len(due), 180, np.int32),
    )  # fmt: skip


def _values(what: Experiment, trial: Trial, rng: np.random.Generator) -> Iterable[Measurement]:
    def value(metric: str, number: float, unit: str, **labels: str) -> Measurement:
        return Measurement(
            metric, float(number), unit, trial.workload, trial.arm, trial.block, trial.name,
            None, labels,
        )  # fmt: skip

    rate = RATE.get(trial.workload, 1000.0)
    n = round(rate * what.steady_seconds)
    yield value("requests_total", n * 5, "{request}")
    yield value("errors_total", 0, "{request}")
    yield value("rate_asked", rate, "{request}/s")
    yield value("rate_achieved", rate * 0.999, "{request}/s")
    yield value("late_p99_ms", 0.4, "ms")
    yield value("driver_cpu_share", 0.42, "1")
    yield value("workload_pss_bytes", 31e6, "By")
    if trial.kind == "metered":
        yield value("metered_requests", n, "{request}")
        yield value("metered_seconds", what.metered_seconds, "s")
    else:
        yield value("steady_requests", n, "{request}")
        yield value("steady_seconds", what.steady_seconds, "s")
    for c in what.arm(trial.arm).collectors:
        if trial.kind == "metered":
            for program, runs, ns in PROGRAMS[c]:
                labels = {"collector": c, "program": program}
                yield value("bpf_run_count", runs * n, "{run}", **labels)
                yield value("bpf_run_time_seconds", runs * n * ns * 1e-9, "s", **labels)
            continue
        yield value("load_seconds", 0.06 + 0.01 * rng.random(), "s", collector=c)
        yield value("attach_seconds", 0.0004 + 0.0002 * rng.random(), "s", collector=c)
        yield value("detach_seconds", 0.0003 + 0.0002 * rng.random(), "s", collector=c)
        yield value("agent_pss_bytes", (26 + 2 * rng.random()) * 1e6, "By", collector=c)
        yield value("agent_peak_rss_bytes", 34e6, "By", collector=c)
        yield value("map_bytes", 1.4e6, "By", collector=c)
        used = n * (0.9 + 0.4 * rng.random()) * 1e-6
        yield value("steady_agent_cpu_seconds", used, "s", collector=c)
        yield value("events", n, "{event}", collector=c)
        yield value("events_lost", 0, "{event}", collector=c)
        labels = {"collector": c, "signal": SIGNAL[c]}
        seen, made = SEEN.get(c, (n, n))
        yield value("signal_seen", seen, "1", **labels)
        yield value("signal_made", made, "1", **labels)
        yield value("data_latency_p50_seconds", 0.52 + 0.05 * rng.random(), "s", **labels)
        yield value("data_latency_p99_seconds", 1.02 + 0.05 * rng.random(), "s", **labels)


def _about(what: Experiment) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "started": "2025-11-02T10:00:00+00:00",
        "ended": "2025-11-02T10:09:41+00:00",
        "command": ["harness", "evaluate", "quick"],
        "primary_routes": {},
        "calibration": {
            w: {"capacity": 3.3 * rate, "driver_cpu_share": 0.73, "rate": rate}
            for w in what.workloads
            for rate in (RATE.get(w, 1000.0),)
        },
        "skipped_arms": [],
        "warnings": [],
        "complete": True,
        "stopped_by": "",
        "claims": [{"collector": c, "text": t, "source": s} for c, t, s in CLAIMS],
        "placement": {
            "workload": [0], "load": [1], "collector": [1], "orchestrator": [1], "idle": [],
            "why": "2 CPUs: the workload alone on the first, everything else on the second.",
        },
        "facts": {
            "kernel": "6.18.0", "architecture": "x86_64", "distribution": "Debian GNU/Linux 12",
            "cpu_model": "Synthetic CPU @ 2.60GHz", "cpus_online": 2, "memory_bytes": 25e9,
            "virtualisation": "kvm", "cgroup_mode": "hybrid", "btf": True,
            "versions": {"python": "3.11.2", "locust": "2.47", "go": "1.26"},
        },
    }  # fmt: skip


FOLDED = """\
main;net/http.(*conn).serve;main.index;fmt.Fprintln;syscall.write;[kernel];tcp_sendmsg 210
main;net/http.(*conn).serve;net/http.(*conn).readRequest;bufio.(*Reader).ReadLine 160
main;net/http.(*conn).serve;net/http.(*response).finishRequest;bufio.(*Writer).Flush 120
main;runtime.schedule;runtime.findRunnable;runtime.netpoll;[kernel];do_epoll_wait 260
main;runtime.gcBgMarkWorker;runtime.gcDrain;runtime.scanobject 40
"""
