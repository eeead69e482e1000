"""A made-up machine whose truth is known, and a calibration of it; for tests of certificates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis import switched, trust
from harness.analysis.effects import Windows
from harness.controller import calibrate
from harness.model import BASELINE, Arm, Measurement, Trial, Window, WindowRow
from harness.plan import calibration as planned_calibration
from harness.plan import experiment as experiments
from harness.plan.calibration import Asked
from harness.plan.experiment import Experiment
from harness.results.run import Run, TrialRecord

ATTACHED_US = 0.15  # what the program costs that burns nothing: its run time and its entry
ENTRY_NS = 50.0
CLOCK_US = 0.1  # between two readings of the clock: told as burnt where nothing is to be
AGENT_US = 4.0
BURNT_US = 47.0  # less than 5 % of a CPU at this rate: what was burnt counts, not what was asked
FACTS = {"cpu_model": "Synthetic", "cpus_online": 2, "kernel": "6.18", "distribution": "Debian"}
LEVEL_US, RATE = 100.0, 1000.0
FEW = {10.0: 40, 30.0: 20, 60.0: 20, 300.0: 10}  # draws for a power: enough for a test


def few_draws() -> Iterator[None]:
    """Meanwhile powers are drawn from few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "DRAWS", FEW)
        yield


def certified(folder: Path) -> Path:
    """A whole calibration, as its folder."""
    path = measured(folder)
    calibrate.certify(path)
    return path


def rows(
    rng: np.random.Generator,
    n: int,
    *,
    seconds: float = 0.05,
    states: list[bool] | None = None,
    effect_us: float = 0.0,
    noise_share: float = 0.02,
    drift: float = 0.0,
) -> list[WindowRow]:
    """Windows of a machine with heavy-tailed noise whose CPU per request may swing slowly."""
    states = states or [False] * n
    swing = 1 + drift * np.sin(2 * math.pi * np.arange(n) * seconds / 7 + rng.uniform(0, 6))
    levels = LEVEL_US * swing * (1 + noise_share * rng.standard_t(5, n) * math.sqrt(0.05 / seconds))
    count = RATE * seconds
    found = []
    for i, (level, on) in enumerate(zip(levels, states, strict=True)):
        cpu = 1e-6 * count * (level + effect_us * on)
        begin = round(1e9 * (1000 + i * seconds))
        window = Window(i, i // 4, on, begin, begin + round(1e9 * seconds))
        meters = {
            "cpu.workload": cpu, "cpu.client": 2 * cpu, "cpu.host": 3 * cpu, "requests": count,
            "cpu.agent": 0.0, "cpu.sink": 0.0, "cpu.softirq": 0.0, "cpu.steal": 0.0,
            "seconds": seconds, "switch_seconds": 0.0007,
        }  # fmt: skip
        found.append(WindowRow(window, meters))
    return found


def sample(
    seed: int, n: int, effect_us: float = 0.0, block: int = 0, noise_share: float = 0.02
) -> Windows:
    rng = np.random.default_rng(seed)
    states = experiments.pattern(n, seed)
    windows = rows(rng, 4 * n, states=states, effect_us=effect_us, noise_share=noise_share)
    return switched.windows(windows, ("cpu.workload",), block=block)


ASIDE = ",at=getsockopt"
EFFECTS = {"latency-1": 1.0, "cpu-5": 5.0, "agent-5": 0.0}


def injected_experiment(**changes: Any) -> Experiment:
    arms = (
        Arm(BASELINE),
        Arm("latency-1", ("inject:ns=1000",), against=("inject:ns=0",)),
        Arm("cpu-5", (f"inject:ns=5000{ASIDE}",), against=(f"inject:ns=0{ASIDE}",)),
        Arm("agent-5", ("inject:ns=0,agent_percent=5",)),
    )
    keys: dict[str, Any] = {
        "name": "injected", "workloads": ("go",), "arms": arms, "seed": 3, "blocks": 6,
        "switched_seconds": 20.0, "window_seconds": 0.05, "guard_seconds": 0.0,
    }  # fmt: skip
    return Experiment(**{**keys, **changes})


def write(path: Path, what: Experiment, scale: float = 1.0) -> Run:
    """A run in which the arms cost `scale` times what was injected."""
    run = Run.create(
        path, what, facts=FACTS, started="2025-11-02T10:00:00+00:00", complete=True,
        calibration={"go": {"rate": RATE}}, skipped_arms=[], warnings=[], claims=[],
        placement={}, primary_routes={}, command=[], instrument={},
    )  # fmt: skip
    for trial in experiments.plan(what):
        rng = np.random.default_rng([17, trial.index])
        effect = EFFECTS.get(trial.arm, 0.0)
        folder, windows = run.folder(trial), []
        if trial.kind == "switched":
            states = experiments.pattern(what.quadruples, trial.seed)
            attached = 0.0 if what.arm(trial.arm).against else ATTACHED_US
            on = scale * (effect + attached) if trial.arm != BASELINE else 0.0
            windows = rows(
                rng, len(states), seconds=what.window_seconds, states=states, effect_us=on
            )
            waits = not any("getsockopt" in spec for spec in what.arm(trial.arm).collectors)
            requests(folder / "requests.npz", windows, rng, effect * waits)
        run.append(TrialRecord(trial, "ok", values=tuple(values(what, trial, effect))), windows)
    return run


def requests(
    path: Path, windows: list[WindowRow], rng: np.random.Generator, effect_us: float
) -> None:
    """Latencies that grow by the effect in windows that are on."""
    due = np.arange(windows[0].window.start_ns, windows[-1].window.end_ns, int(1e9 / RATE))
    latency = (3e5 * np.exp(0.2 * rng.standard_normal(len(due)))).astype(np.int64)
    for row in windows:
        inside = (due >= row.window.start_ns) & (due <= row.window.end_ns)
        latency[inside] += int(1e3 * effect_us * row.window.on)
    np.savez(
        path, due_ns=due, start_ns=due, end_ns=due + latency, status=np.full(len(due), 200),
        route=np.zeros(len(due), np.uint8), route_names=np.array(["/"]), bytes=np.ones(len(due)),
    )  # fmt: skip


def values(what: Experiment, trial: Trial, effect_us: float) -> list[Measurement]:
    roles = ("candidate", "reference") if what.arm(trial.arm).against else ("",)

    def value(metric: str, number: float, role: str = "", **labels: str) -> Measurement:
        told = {**labels, **({"role": role} if role else {})}
        return Measurement(
            metric, number, "1", "go", trial.arm, trial.block, trial.name, None, told
        )

    n = RATE * what.switched_seconds / 2
    found = [value("rate_achieved", RATE), value("rate_asked", RATE)]
    if trial.arm == BASELINE:
        return found
    name = what.arm(trial.arm).collectors[0].replace(":", "-")
    if trial.kind == "metered":
        labels = {"collector": name, "program": "burn", "hook": "cgroup_skb"}
        run_us = effect_us + ATTACHED_US - 2 * ENTRY_NS / 1e3  # two runs a request
        found += [
            value("metered_requests", 1000.0),
            value("bpf_run_count", 2000.0, **labels),
            value("bpf_run_time_seconds", 1000 * run_us * 1e-6, **labels),
        ]
        return found
    agent = AGENT_US + (BURNT_US if trial.arm == "agent-5" else 0.0)
    for role in roles:
        burnt_us = CLOCK_US if role == "reference" else effect_us + CLOCK_US * bool(role)
        found += [
            value("injected_seconds", n * burnt_us * 1e-6, role, collector=name),
            value("injected_events", n, role, collector=name),
            value("injected_paused_seconds", 0.0, role, collector=name),
            value("injected_calm_seconds", n / 2 * burnt_us * 1e-6, role, collector=name),
            value("injected_calm_events", n / 2, role, collector=name),
            value("steady_requests", 1000.0, role),
            value("steady_agent_cpu_seconds", 1000 * agent * 1e-6, role, collector=name),
            value("agent_burnt_seconds", 1000 * (agent - AGENT_US) * 1e-6, role, collector=name),
        ]
    return [*found, value("injected_requests", n, roles[0], collector=name)]


def noise_run(path: Path) -> Run:
    asked = Asked(minutes=2.0, workload="go")
    what = replace(planned_calibration.noise_experiment(asked), switched_seconds=20.0)
    return write(path, what)


def measured(path: Path) -> Path:
    """What a calibration measures, made up; its certificate is still to be written."""
    calibrate.create(path, Asked(minutes=2.0, command=["harness", "calibrate", "--minutes", "2"]))
    noise_run(path / "noise")
    write(path / "injected", injected_experiment())
    entry = {"cgroup_skb": {"entry_ns": ENTRY_NS, "low": 40.0, "high": 60.0, "n": 30}}
    (path / "entry.json").write_text(json.dumps(entry))
    return path
