"""What drifts slowly: a piecewise linear curve over time that a fit takes off; `effects` calls it.

Its normal equations are tridiagonal, so that an hour of windows costs no more a window than a
minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from harness.analysis.compare import Array

WINDOWS = 12  # from one knot to the next: three quadruples, half a second and more
GAP = 20.0  # times the usual distance of windows: beyond, a new curve begins
RIDGE = 1e-9  # where all windows about a knot have lost their weight


@dataclass(frozen=True)
class Drift:
    """For each window the knot before it, and where it lies between that and the next (0 to 1)."""

    before: NDArray[np.int64]
    between: Array
    knots: int

    @classmethod
    def of(cls, time: Array) -> Drift:
        """A knot each WINDOWS windows; `time` (n,) rises."""
        steps = np.diff(time)
        usual = float(np.median(steps)) if len(steps) else 0.0
        pieces = np.split(time, np.flatnonzero(steps > GAP * usual) + 1)
        before, between, knots = [], [], 0
        for piece in pieces:
            parts = max(1, round((len(piece) - 1) / WINDOWS))
            at = piece[np.round(np.linspace(0, len(piece) - 1, parts + 1)).astype(int)]
            place = np.interp(piece, at, np.arange(parts + 1))
            first = np.minimum(place.astype(np.int64), parts - 1)
            before.append(first + knots)
            between.append(place - first)
            knots += parts + 1
        return cls(np.concatenate(before), np.concatenate(between), knots)

    def without(self, weight: Array, columns: Array) -> Array:
        """`columns` (n,) or (n, c) less their weighted least-squares curves."""
        wide = columns.reshape(len(weight), -1)
        left, right = 1 - self.between, self.between
        diagonal = self._sums(weight * left**2, weight * right**2)
        beside = np.bincount(self.before, weight * left * right, self.knots)
        bands = np.zeros((2, self.knots))
        bands[0, 1:] = beside[:-1]
        bands[1] = diagonal + RIDGE * max(float(diagonal.max()), RIDGE)
        sums = np.column_stack(
            [self._sums(weight * left * each, weight * right * each) for each in wide.T]
        )
        heights = linalg.solveh_banded(bands, sums, check_finite=False)
        curves = left[:, None] * heights[self.before] + right[:, None] * heights[self.before + 1]
        rest: Array = (wide - curves).reshape(columns.shape)
        return rest

    def _sums(self, left: Array, right: Array) -> Array:
        """What windows give to the knots before and after them, summed by knot."""
        before = np.bincount(self.before, left, self.knots)
        after = np.bincount(self.before + 1, right, self.knots)
        return np.asarray(before + after, dtype=float)
