"""What the coins might as well have drawn: the variance over all redraws; `effects` calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.analysis.compare import Array

if TYPE_CHECKING:
    from harness.analysis.effects import Windows


def variance(windows: Windows, score: Array) -> Array:
    """Covariance (k, k) of the sums of states x score (n,) if the states were drawn again.

    One factor: each quadruple's states are mirrored by a fair coin, which leaves the squares of the
    quadruples' own sums. Several: the rows of states are permuted within each group (Hoeffding
    1951, Annals of Mathematical Statistics 22).
    """
    group, sizes = _groups(windows)
    if windows.states.shape[1] == 1:
        signed = np.where(windows.states[:, 0], score, -score) / 2
        return np.array([[float(np.sum(np.bincount(group, signed) ** 2))]])
    centred = _centred(windows.states.astype(float), group, sizes)
    squares = np.bincount(group, _centred(score[:, None], group, sizes)[:, 0] ** 2)
    each = squares / np.maximum(sizes - 1, 1)
    found: Array = centred.T @ (each[group][:, None] * centred)
    return found


def centred(windows: Windows) -> Array:
    """The states (n, k), each less its mean within its group."""
    group, sizes = _groups(windows)
    return _centred(windows.states.astype(float), group, sizes)


def degrees(windows: Windows, free: int) -> float:
    """Of freedom by which that variance is known; `free` is windows less parameters."""
    if windows.states.shape[1] > 1:
        return float(free)
    return float(min(free, len(np.unique(windows.group)) - 1))


def redrawn(windows: Windows, random: np.random.Generator) -> NDArray[np.bool_]:
    """States (n, k) as the coins might have drawn them."""
    group, _ = _groups(windows)
    if windows.states.shape[1] == 1:
        mirrored = random.random(int(group.max()) + 1) < 0.5
        return windows.states ^ mirrored[group][:, None]
    order = np.lexsort((random.random(len(group)), group))
    states = np.empty_like(windows.states)
    states[np.argsort(group, kind="stable")] = windows.states[order]
    return states


def _groups(windows: Windows) -> tuple[NDArray[np.int64], Array]:
    """Each window's group, numbered from 0 over all blocks, and the size of each."""
    both = np.column_stack([windows.block, windows.group])
    _, group = np.unique(both, axis=0, return_inverse=True)
    group = group.reshape(-1).astype(np.int64)
    return group, np.bincount(group).astype(float)


def _centred(columns: Array, group: NDArray[np.int64], sizes: Array) -> Array:
    means = np.column_stack([np.bincount(group, each) / sizes for each in columns.T])
    rest: Array = columns - means[group]
    return rest
