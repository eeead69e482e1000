"""What is compared with what, by an arm's method; `cell` and `validity` call it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from harness.analysis import compare, metrics
from harness.analysis.compare import Quadruples
from harness.model import Method, WindowRow
from harness.plan import parts

OWN, TWIN = "cpu.workload", "cpu.twin"  # the process in scope, and the plain one
TWINS = {OWN: TWIN, **{name: f"{name}.twin" for name in metrics.COUNTED.values()}}
Group = Sequence[WindowRow]


def pairs(
    rows: Iterable[WindowRow],
    method: Method,
    meters: Sequence[str],
    less: Sequence[str] = (),
    least_seconds: float = 0.0,
    block: int = 0,
) -> Quadruples:
    """CPU per request (us) of the `meters` less others, with and without the collectors.

    `switch`: on and off windows of each quadruple. `twin`: the process in scope and the plain one
    over all windows of each quadruple; other meters by who was driven. `block`: all parts of
    the trial, one pair; trials of earlier versions have two. What is not whole is left out; windows
    shorter than `least_seconds` are not whole.
    """
    if method == "switch":
        return compare.quadruples(rows, meters, less, least_seconds, block)
    needed = (*meters, *_COUNTED[method])
    groups = [g for g in _groups(rows) if _is_whole(g, method, needed, least_seconds)]
    sides = _twin if method == "twin" else _parts
    found = np.array([sides(g, meters, less) for g in groups], dtype=float).reshape(-1, 4)
    on_us, off_us, on_requests, off_requests = found.T
    numbers = np.full(len(groups), block, dtype=np.int64)
    return Quadruples(on_us, off_us, on_requests, off_requests, numbers)


_COUNTED = {"twin": (TWIN, "requests", "requests.twin"), "block": ("requests",)}


def _groups(rows: Iterable[WindowRow]) -> list[list[WindowRow]]:
    groups: dict[int, list[WindowRow]] = defaultdict(list)
    for row in rows:
        groups[row.window.quadruple].append(row)
    return [group for _, group in sorted(groups.items())]


def _is_whole(group: Group, method: Method, meters: Sequence[str], least_seconds: float) -> bool:
    states = [row.window.on for row in group]
    if method == "twin" and (len(states), sum(states)) != (4, 2):
        return False
    if method == "block" and not parts.are_whole(states):
        return False
    if any(meter not in row.meters for row in group for meter in meters):
        return False
    if any(row.window.end_ns - row.window.start_ns < 1e9 * least_seconds for row in group):
        return False
    if method == "twin":
        return _sum(group, "requests") > 0 and _sum(group, "requests.twin") > 0
    return all(row.meters["requests"] > 0 for row in group)


def _twin(group: Group, meters: Sequence[str], less: Sequence[str]) -> tuple[float, ...]:
    """us a request of the twin in scope and of the plain one, and their requests.

    Each twin's CPU is summed over all four windows: what it does by itself while it is not driven
    (timers, collections) is then in both alike, and so is what it does late. What has one meter
    for both, such as the client's CPU, goes to the twin that was driven meanwhile. Where the
    service's CPU is taken off, it is that of both twins: the host pays for both.
    """
    less = (*less, TWIN) if OWN in less else less
    sides = []
    own = [meter for meter in meters if meter in TWINS]
    for on, requests in ((True, "requests"), (False, "requests.twin")):
        driven = [row for row in group if row.window.on == on]
        answered, served = _sum(group, requests), _answered(driven)
        shared = sum(_sum(driven, meter) for meter in meters if meter not in TWINS)
        shared -= sum(_sum(driven, meter) for meter in less)
        alone = sum(_sum(group, meter if on else TWINS[meter]) for meter in own)
        us = 1e6 * (alone / answered + (shared / served if served else 0.0))
        sides.append((us, answered if own else served))
    (on_us, on_requests), (off_us, off_requests) = sides
    return on_us, off_us, on_requests, off_requests


def _parts(group: Group, meters: Sequence[str], less: Sequence[str]) -> tuple[float, ...]:
    """us a request with the collectors and without them, less a straight drift; their requests.

    The cost y of a request in the parts, with n requests each around the time t, is taken to be
    level + difference x on + slope x t. By least squares, weighted by n (Seber and Lee 2003,
    Linear Regression Analysis, 3.7):

        difference = sum(w y), w = n z / sum(n z on), z = on less its own line over t

    If both states have the same mean time, that is the difference of their sums (a trend-free
    order: Cox 1951, Biometrika 38, 312). They have it but for what coming takes longer than going,
    which z takes off. The variance of a trial's difference is sum(w_i w_j C_ij), with the
    covariances C of the noise in the parts (ibid., 1.4); they are not known, so that intervals are
    of trials. Two halves leave no slope to be told: their drift is in the difference.
    """
    on = np.array([row.window.on for row in group], dtype=float)
    n = np.array([row.meters["requests"] for row in group])
    y = 1e6 * np.array([_sum([row], *meters) - _sum([row], *less) for row in group]) / n
    off_us = float(np.average(y, weights=n * (1 - on)))
    difference = float(np.average(y, weights=n * on)) - off_us
    if len(group) > parts.HALVES:
        middle = [(row.window.start_ns + row.window.end_ns) / 2e9 for row in group]
        t = np.array(middle) - np.average(middle, weights=n)
        z = on - np.average(on, weights=n)
        w = n * (z - t * (n * t @ z) / (n * t @ t))
        difference = float(w @ y / (w @ on))
    return off_us + difference, off_us, float(n @ on), float(n @ (1 - on))


def _answered(group: Group) -> float:
    return _sum(group, "requests", "requests.twin")


def _sum(group: Group, *meters: str) -> float:
    return sum(row.meters.get(meter, 0.0) for row in group for meter in meters)
