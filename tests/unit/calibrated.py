"""A made-up machine whose truth is known; for the tests of certificates and their statistics."""

from __future__ import annotations

import math

import numpy as np

from harness.analysis import switched
from harness.analysis.effects import Windows
from harness.model import Window, WindowRow
from harness.plan import experiment as experiments

LEVEL_US, RATE = 100.0, 1000.0


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
