"""Which collectors the failed requests of a shared trial go with, and what of it is still sound.

Every collector has its own state in each window, so that a contrast of the windows tells: under no
blame the states of a cycle might as well have come in another order. `summary` and the controller
call it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from harness.analysis import effects, factorial, redraw, tallies
from harness.analysis.compare import Array
from harness.analysis.harms import UNLIKELY
from harness.analysis.validity import MAX_ERROR_SHARE, Judged
from harness.model import FACTORIAL, WindowRow
from harness.results import requests
from harness.results.requests import Requests
from harness.results.run import TrialRecord

BLAMED = (
    "blamed"  # of a trial's extra: the collectors that were left out of the next attempt for it
)

Rows = Sequence[WindowRow]


def of_trial(folder: Path, rows: Rows, names: Sequence[str]) -> dict[str, str]:
    """The collectors to blame, and why, of a trial whose requests lie in `folder`; see `found`."""
    path = folder / requests.NAME
    return found(requests.read(path), rows, names) if path.exists() and rows else {}


def found(log: Requests, rows: Rows, names: Sequence[str]) -> dict[str, str]:
    """The collectors with which requests fail, and by how much, as a sentence each.

    `names` are those of the factors, the null factor's last. Nobody is blamed, so that the whole
    trial is not used, unless without those to blame few enough requests fail, or if failures go
    with the null factor, which switches nothing.
    """
    due, failed = _counts(log, rows)
    states = np.array([row.window.states for row in rows], dtype=bool)
    if states.shape[1:] != (len(names),) or not failed.any():
        return {}
    p = _chance(rows, states, failed - due * failed.sum() / max(due.sum(), 1))
    shares = {on: _shares(due, failed, states == on) for on in (True, False)}
    more = shares[True] - shares[False] > MAX_ERROR_SHARE
    blamed = more & (p < UNLIKELY / len(names))
    sound = ~states[:, blamed].any(axis=1)
    left = float(failed[sound].sum()) / max(float(due[sound].sum()), 1.0)
    if not blamed.any() or blamed[-1] or left > MAX_ERROR_SHARE:
        return {}
    return {
        names[i]: f"{shares[True][i]:.2%} of the requests failed with {names[i]} on, "
        f"{shares[False][i]:.2%} with it off (p {_p(p[i])})."
        for i in np.flatnonzero(blamed).tolist()
    }


def without(
    record: TrialRecord, rows: Rows, names: Sequence[str], blamed: Mapping[str, str]
) -> tuple[TrialRecord, list[WindowRow]]:
    """What of a trial the other collectors can be told from.

    The windows in which none to blame was on: there the states of the others are still balanced,
    and were drawn as before, so that their estimates have no bias by what fails in other windows.
    Not the values of its steady part, in which all collectors are on.
    """
    out = [i for i, name in enumerate(names) if name in blamed]
    kept = [row for row in rows if not any(row.window.states[i] for i in out)]
    extra = {**record.extra, factorial.LEFT_OUT: {**_left_out(record), **blamed}}
    return replace(record, values=(), extra=extra), kept


def sound(
    judged: Judged, rows: tuple[WindowRow, ...], names: Sequence[str]
) -> tuple[TrialRecord, tuple[WindowRow, ...]]:
    """A chosen trial with its windows, as far as no collector made its requests fail."""
    if judged.usable:
        return judged.record, rows
    record, kept = without(judged.record, rows, names, judged.blamed)
    return record, tuple(kept)


def _left_out(record: TrialRecord) -> Mapping[str, str]:
    told: Mapping[str, str] = record.extra.get(factorial.LEFT_OUT, {})
    return told


def _counts(log: Requests, rows: Rows) -> tuple[Array, Array]:
    """Requests that were due in each window, and those that failed of them."""
    each = [replace(r, window=replace(r.window, quadruple=i)) for i, r in enumerate(rows)]
    tally = tallies.of(log, each, 1.0, FACTORIAL)
    if tally is None:
        return np.zeros(0), np.zeros(0)
    return tally.due.sum(axis=1), tally.failed.sum(axis=1)


def _shares(due: Array, failed: Array, which: np.typing.NDArray[np.bool_]) -> Array:
    """Of the requests due in the windows of each column the share that failed."""
    shares: Array = (failed @ which) / np.maximum(due @ which, 1.0)
    return shares


def _chance(rows: Rows, states: effects.States, score: Array) -> Array:
    """For each factor the one-sided p of so many failures in its windows, by redrawing them."""
    group = np.array([row.window.quadruple for row in rows], dtype=np.int64)
    n = len(rows)
    design = effects.Windows(
        score, np.ones(n), states, group, np.zeros(n, dtype=np.int64), np.arange(n, dtype=float)
    )
    spread = np.sqrt(np.maximum(np.diag(redraw.variance(design, score)), 1e-300))
    sums = redraw.centred(design).T @ score
    return np.asarray(stats.norm.sf(sums / spread), dtype=float)


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
