"""Writes a run directory as an evaluation would, with known effects; for tests of the analysis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.model import FACTORIAL, Arm, Measurement, Trial, Window, WindowRow
from harness.plan import design, saturation
from harness.plan import experiment as experiments
from harness.plan.experiment import Experiment
from harness.results.run import Run, TrialRecord

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
EVENTS = {"http": 1.0, "flows": 0.03, "profile": 0.008, "guard": 0.002}  # of each request
HOOKS = {
    "http_ingress": "cgroup_skb", "http_egress": "cgroup_skb", "flow_bytes": "cgroup_skb",
    "flow_state": "sock_ops", "on_sample": "perf_event", "on_exec": "tp_btf", "on_open": "fentry",
}  # fmt: skip
INSTRUMENT = {
    "window_seconds": 0.05,
    "entry_ns": {
        hook: {"entry_ns": 40.0, "low": 35.0, "high": 45.0, "n": 200}
        for hook in sorted(set(HOOKS.values()))
    },
}
SATURATED = (
    ("saturated_requests", 20_000.0, "{request}"),
    ("saturated_errors", 2.0, "{request}"),
    ("saturated_connections", 16.0, "{connection}"),
    ("saturated_cpus", 1.0, "{cpu}"),
    ("driver_cpu_share", 0.6, "1"),
    ("service_starved_share", 0.01, "1"),
    ("driver_starved_share", 0.02, "1"),
    ("steal_share", 0.0, "1"),
    ("cpu_pressure_share", 0.9, "1"),
)
BENT = 1e-4  # CPU of an agent at the low rate, beyond the line through none and the whole rate
SLICE_SECONDS = 0.25
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
    driver_share: float = 0.6  # of the load driver's CPU, while the service is full


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
    arm = what.arm(trial.arm)
    make = {"twin": twins, "block": installed}.get(arm.method, windows)
    switched = trial.kind == "switched"
    rows = make(what, trial, truth, rng) if switched else (
        full(what, trial, truth, rng) if trial.kind == "saturated" else slices(what, trial, rng)
    )  # fmt: skip
    extra: dict[str, Any] = {}
    if rows and switched:
        requests(folder / "requests.npz", what, trial, truth, rows, rng)
    if trial.kind == "saturated":
        extra["saturated_on"] = {"service": [0], "load": [1]}
    if switched and "profile" in arm.collectors:
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
    states = _states(what, trial)
    seconds, begin = what.window_seconds - what.guard_seconds, int(1e12) + trial.index * 10**11
    t = np.arange(len(states)) * what.window_seconds
    drift = 1 + truth.drift * np.sin(2 * math.pi * (t / 37 + rng.random())) * rng.choice([-1, 1])
    noise = truth.noise * rng.standard_t(4, len(t)) + (rng.random(len(t)) < truth.outliers) * 0.4
    effects = [_effect(what, trial, each, truth.cpu_us) for each in states]
    rows, softirq = [], rng.random() * TICK
    for i, (on, factors) in enumerate(states):
        count = max(1.0, round(rate * seconds + rng.normal(0, 0.5)))
        cpu = count * (level * drift[i] * (1 + noise[i]) + effects[i]) * 1e-6
        client = count * (120 * drift[i] * (1 + noise[i] / 2) + 0.4 * effects[i]) * 1e-6
        start = begin + int((t[i] + what.guard_seconds) * 1e9)
        after = softirq + count * (5.0 + truth.softirq_us * on) * 1e-6
        meters = {
            "seconds": seconds, "requests": count, "cpu.workload": cpu, "cpu.client": client,
            "cpu.agent": 0.0004, "cpu.sink": 0.0001, "cpu.host": cpu + client + 0.002,
            "cpu.softirq": (after // TICK - softirq // TICK) * TICK, "cpu.steal": 0.0,
            "switch_seconds": 0.0006 if i and on != states[i - 1][0] else 0.0,
            **_switches(what, factors, states[i - 1][1] if i else (False,) * len(factors)),
        }  # fmt: skip
        softirq = after
        number = i // (design.cycle(len(factors)) if factors else 4)
        window = Window(i, number, on, start, start + int(seconds * 1e9), factors)
        rows.append(WindowRow(window, meters))
    return rows


def full(what: Experiment, trial: Trial, truth: Truth, rng: np.random.Generator) -> list[WindowRow]:
    """A closed loop: as many requests as the service's CPU, less 3 %, is enough for."""
    level = LEVEL_US.get(trial.workload, 50.0)
    guard, length = saturation.guard_seconds(what), saturation.window_seconds(what)
    seconds, begin = length - guard, int(3e12) + trial.index * 10**11
    states = _states(what, trial)
    phase, rows = rng.random(), []
    for i, (on, factors) in enumerate(states):
        drift = 1 + truth.drift * math.sin(2 * math.pi * (i * length / 37 + phase))
        noise = truth.noise * rng.standard_t(4) + (rng.random() < truth.outliers) * 0.4
        us = level * drift * (1 + noise) + _effect(what, trial, (on, factors), truth.cpu_us)
        start = begin + int((i * length + guard) * 1e9)
        meters = {
            "seconds": seconds, "requests": 0.97e6 * seconds / us, "cpu.workload": 0.97 * seconds,
            "cpu.client": truth.driver_share * seconds, "cpu.steal": 0.0,
        }  # fmt: skip
        number = i // (design.cycle(len(factors)) if factors else 4)
        window = Window(i, number, on, start, start + round(seconds * 1e9), factors)
        rows.append(WindowRow(window, meters))
    return rows


State = tuple[bool, design.States]


def _states(what: Experiment, trial: Trial) -> list[State]:
    """Whether each window is on, and of a shared trial which factors are."""
    is_full = trial.kind == "saturated"
    if trial.arm != FACTORIAL:
        quadruples = what.quadruples_in(what.seconds_of(trial))
        quadruples = saturation.quadruples(what) if is_full else quadruples
        return [(on, ()) for on in experiments.pattern(quadruples, trial.seed)]
    factors = design.factors(what)
    cycles = design.cycles(what, what.seconds_of(trial))
    cycles = saturation.cycles(what) if is_full else cycles
    drawn = design.states(len(factors), cycles, trial.seed)
    return [(any(states[:-1]), states) for states in drawn]


def _effect(what: Experiment, trial: Trial, state: State, of: Mapping[str, float]) -> float:
    """What the collectors cost that are on in a window."""
    on, factors = state
    if not factors:
        return _effects(what, trial, of)[on]
    names = design.factors(what)[:-1]
    return sum(of.get(c, 0.0) for c, each in zip(names, factors, strict=False) if each)


def _switches(
    what: Experiment, states: design.States, before: design.States
) -> Mapping[str, float]:
    """How long each collector took that was switched."""
    changed = zip(design.factors(what)[:-1], states, before, strict=False)
    return {f"switch_seconds[{name}]": 0.0006 for name, now, then in changed if now != then}


def _effects(what: Experiment, trial: Trial, of: Mapping[str, float]) -> dict[bool, float]:
    """What the collectors cost that are on, and those that are on while they are off."""
    arm = what.arm(trial.arm)
    return {
        on: sum(of.get(c, 0.0) for c in names)
        for on, names in ((True, arm.collectors), (False, arm.against))
    }


def twins(
    what: Experiment, trial: Trial, truth: Truth, rng: np.random.Generator
) -> list[WindowRow]:
    """The same machine, the load alternating between the process in scope and a plain one."""
    rows = []
    for row in windows(what, trial, truth, rng):
        m, on = row.meters, row.window.on
        idle = 2e-6 * m["seconds"]
        meters = {
            **m, "cpu.workload": m["cpu.workload"] if on else idle,
            "cpu.twin": idle if on else m["cpu.workload"],
            "requests": m["requests"] * on, "requests.twin": m["requests"] * (not on),
        }  # fmt: skip
        del meters["switch_seconds"]
        rows.append(WindowRow(row.window, meters))
    return rows


def installed(
    what: Experiment, trial: Trial, truth: Truth, rng: np.random.Generator
) -> list[WindowRow]:
    """The same machine without switching: five long windows, on in every second or the others."""
    rows = windows(what, trial, truth, rng)
    found, ends = [], [round(len(rows) * eighths / 8) for eighths in (0, 1, 3, 5, 7, 8)]
    for index, (begin, stop) in enumerate(itertools.pairwise(ends)):
        part, on = rows[begin:stop], index % 2 != trial.block % 2
        extra = sum(r.meters["requests"] for r in part if r.window.on != on)
        effect = 1e-6 * extra * _effects(what, trial, truth.cpu_us)[True] * (1 if on else -1)
        meters = {name: sum(r.meters[name] for r in part) for name in part[0].meters}
        for name, share in (("cpu.workload", 1.0), ("cpu.client", 0.4), ("cpu.host", 1.4)):
            meters[name] += share * effect
        start, end = part[0].window.start_ns, part[-1].window.end_ns
        found.append(WindowRow(Window(index, 0, on, start, end), meters))
    return found


def slices(what: Experiment, trial: Trial, rng: np.random.Generator) -> list[WindowRow]:
    """A metered trial: BPF run time of whichever set is on, a row a quarter of a second."""
    arm, rate = what.arm(trial.arm), RATE.get(trial.workload, 1000.0)
    count = max(4, round(what.metered_seconds / SLICE_SECONDS))
    states = experiments.pattern(count // 4, trial.seed) if arm.against else [True] * count
    rows, begin = [], int(2e12) + trial.index * 10**11
    for i, on in enumerate(states):
        names = arm.collectors if on else arm.against
        runs = sum(each for c in names for _, each, _ in PROGRAMS[c]) * rate * SLICE_SECONDS
        us = sum(each * ns for c in names for _, each, ns in PROGRAMS[c]) / 1e3
        seconds = 1e-6 * us * rate * SLICE_SECONDS * (1 + 0.02 * rng.standard_normal())
        start = begin + int(i * SLICE_SECONDS * 1e9)
        meters = {"seconds": SLICE_SECONDS, "requests": rate * SLICE_SECONDS,
                  "bpf.run": seconds, "bpf.runs": runs}  # fmt: skip
        if trial.arm == FACTORIAL:
            meters |= _apart(names, rate * SLICE_SECONDS, seconds / us)
        rows.append(WindowRow(Window(i, i // 4, on, start, start + int(2.4e8)), meters))
    return rows


def _apart(names: Iterable[str], requests: float, scale: float) -> Mapping[str, float]:
    """The same of each collector; `scale` is s a slice for each us a request."""
    found = {}
    for c in names:
        found[f"bpf.run[{c}]"] = scale * sum(each * ns for _, each, ns in PROGRAMS[c]) / 1e3
        found[f"bpf.runs[{c}]"] = requests * sum(each for _, each, _ in PROGRAMS[c])
    return found


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
    states = [(row.window.on, row.window.states) for row in rows]
    effects = np.array([_effect(what, trial, each, truth.latency_us) for each in states])
    route = (np.arange(len(due)) % 10 == 9).astype(np.uint8)
    shift = effects[at]
    latency = ((base + shift) * 1e3 + route * 3e6).astype(np.int64)
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
    if trial.kind == "saturated":
        for metric, number, unit in SATURATED:
            yield value(metric, number, unit)
        return
    yield value("requests_total", n * 5, "{request}")
    yield value("errors_total", 0, "{request}")
    yield value("rate_asked", rate, "{request}/s")
    yield value("rate_achieved", rate * 0.999, "{request}/s")
    yield value("late_p99_ms", 0.4, "ms")
    yield value("driver_cpu_share", 0.42, "1")
    yield value("workload_pss_bytes", 31e6, "By")
    arm = what.arm(trial.arm)
    sets = [("candidate", arm.collectors), ("reference", arm.against)]
    for role, names in sets if arm.against else [("", arm.collectors)]:
        role_label = {"role": role} if role else {}
        whole = _metered(what, names, n) if trial.kind == "metered" else _steady(names, n, rng)
        for metric, number, unit, labels in whole:
            yield value(metric, number, unit, **labels, **role_label)


Told = tuple[str, float, str, dict[str, str]]


def _metered(what: Experiment, names: Iterable[str], n: float) -> Iterable[Told]:
    yield "metered_requests", n, "{request}", {}
    yield "metered_seconds", what.metered_seconds, "s", {}
    if what.idle_seconds:
        yield "idle_seconds", what.idle_seconds, "s", {}
    shares = {"low_rate": what.low_rate_fraction, "full_rate": 1.0}
    rate = n / what.steady_seconds
    for part, share in shares.items() if what.low_rate_fraction else ():
        yield f"{part}_seconds", 3.0, "s", {}
        yield f"{part}_requests", 3.0 * share * rate, "{request}", {}
    for c in names:
        for part, share in shares.items() if what.low_rate_fraction else ():
            bend = BENT if part == "low_rate" else 0.0
            used = 3.0 * (0.002 + 1e-6 * share * rate + bend)
            yield f"{part}_agent_cpu_seconds", used, "s", {"collector": c}
            yield f"{part}_bpf_seconds", 3.0 * (1e-4 + 5e-7 * share * rate), "s", {"collector": c}
        yield "metered_events", round(EVENTS[c] * n), "{event}", {"collector": c}
        if what.idle_seconds:
            yield "idle_agent_cpu_seconds", 0.002 * what.idle_seconds, "s", {"collector": c}
            yield "idle_bpf_seconds", 1e-4 * what.idle_seconds, "s", {"collector": c}
        if c == "http":
            yield "metered_spans", round(n / 100), "{span}", {"collector": c}
        for program, runs, ns in PROGRAMS[c]:
            labels = {"collector": c, "program": program, "hook": HOOKS[program]}
            yield "bpf_run_count", runs * n, "{run}", labels
            yield "bpf_run_time_seconds", runs * n * ns * 1e-9, "s", labels


def _steady(names: Iterable[str], n: float, rng: np.random.Generator) -> Iterable[Told]:
    yield "steady_requests", n, "{request}", {}
    yield "steady_sink_cpu_seconds", n * (0.5 + 0.05 * rng.random()) * 1e-6, "s", {}
    for c in names:
        who = {"collector": c}
        yield "load_seconds", 0.06 + 0.01 * rng.random(), "s", who
        yield "attach_seconds", 0.0004 + 0.0002 * rng.random(), "s", who
        yield "detach_seconds", 0.0003 + 0.0002 * rng.random(), "s", who
        yield "agent_pss_bytes", (26 + 2 * rng.random()) * 1e6, "By", who
        yield "agent_peak_rss_bytes", 34e6, "By", who
        yield "map_bytes", 1.4e6, "By", who
        yield "map_bytes_on_many_cpus", 21e6, "By", who
        yield "steady_agent_cpu_seconds", n * (0.9 + 0.4 * rng.random()) * 1e-6, "s", who
        yield "events", n, "{event}", who
        yield "events_lost", 0, "{event}", who
        labels = {**who, "signal": SIGNAL[c]}
        seen, made = SEEN.get(c, (n, n))
        yield "signal_seen", seen, "1", labels
        yield "signal_made", made, "1", labels
        yield "data_latency_p50_seconds", 0.52 + 0.05 * rng.random(), "s", labels
        yield "data_latency_p99_seconds", 1.02 + 0.05 * rng.random(), "s", labels


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
        "idle_poll": True,
        "instrument": INSTRUMENT,
        "warmups": [
            {"workload": w, "block": b, "seconds": 4.5 + b, "steady": True}
            for w in what.workloads
            for b in range(what.blocks)
        ],
        "ended_early": {},
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
