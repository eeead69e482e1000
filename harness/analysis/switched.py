"""Windows of switched trials as the estimator takes them; for `cell`, `injection`, `trust`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from harness.analysis import effects, hierarchy
from harness.analysis.compare import Estimate
from harness.analysis.effects import Windows
from harness.model import Window, WindowRow


def windows(
    rows: Iterable[WindowRow],
    meters: Sequence[str],
    less: Sequence[str] = (),
    least_seconds: float = 0.0,
    block: int = 0,
) -> Windows:
    """The `meters` (seconds) of each window less others, in us a request; weights are requests.

    Left out are windows that are shorter than `least_seconds`, in which a meter was not read or
    that no request ended in.
    """
    good = [row for row in rows if _is_good(row, meters, least_seconds)]
    requests = np.array([row.meters["requests"] for row in good], dtype=float)
    seconds = np.array([_seconds(row, meters, less) for row in good], dtype=float)
    states = np.array([states_of(row.window) for row in good], dtype=bool)
    return Windows(
        1e6 * seconds / requests,
        requests,
        states.reshape(len(good), -1) if good else np.empty((0, 1), dtype=bool),
        np.array([row.window.quadruple for row in good], dtype=np.int64),
        np.full(len(good), block, dtype=np.int64),
        np.array([row.window.start_ns / 1e9 for row in good], dtype=float),
    )


def states_of(window: Window) -> tuple[bool, ...]:
    """Of each factor that is switched; a window of one arm has one."""
    return window.states or (window.on,)


def _is_good(row: WindowRow, meters: Sequence[str], least_seconds: float) -> bool:
    if any(meter not in row.meters for meter in (*meters, "requests")):
        return False
    length = row.window.end_ns - row.window.start_ns
    return length >= 1e9 * least_seconds and row.meters["requests"] > 0


def _seconds(row: WindowRow, meters: Sequence[str], less: Sequence[str]) -> float:
    paid = sum(row.meters[meter] for meter in meters)
    return paid - sum(row.meters.get(meter, 0.0) for meter in less)


def join(parts: Sequence[Windows]) -> Windows:
    """The windows of several trials as one sample; at least one."""
    return Windows(
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.weight for p in parts]),
        np.concatenate([p.states for p in parts]),
        np.concatenate([p.group for p in parts]),
        np.concatenate([p.block for p in parts]),
        np.concatenate([p.time for p in parts]),
    )


def combine(sample: Windows) -> Estimate:
    """The mean over processes of one switched arm, alone; in the unit of the values."""
    arm = hierarchy.of(effects.fit(sample, [[1.0]])[0])
    return hierarchy.widened(arm, hierarchy.pooled([arm]))
