"""What is compared with what, by an arm's method; `cell` and `validity` call it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from harness.analysis import compare, metrics
from harness.analysis.compare import Quadruples
from harness.model import Method, WindowRow

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
    over all windows of each quadruple; other meters by who was driven. `block`: the two halves of
    the trial, one pair. What is not whole is left out; windows shorter than `least_seconds` are
    not whole.
    """
    if method == "switch":
        return compare.quadruples(rows, meters, less, least_seconds, block)
    needed = (*meters, *_COUNTED[method])
    groups = [g for g in _groups(rows) if _is_whole(g, method, needed, least_seconds)]
    sides = _twin if method == "twin" else _halves
    found = np.array([sides(g, meters, less) for g in groups], dtype=float).reshape(-1, 4)
    on_us, off_us, on_requests, off_requests = found.T
    numbers = np.full(len(groups), block, dtype=np.int64)
    return Quadruples(on_us, off_us, on_requests, off_requests, numbers)


_COUNTED = {"twin": (TWIN, "requests", "requests.twin"), "block": ("requests",)}
_WINDOWS = {"twin": 4, "block": 2}


def _groups(rows: Iterable[WindowRow]) -> list[list[WindowRow]]:
    groups: dict[int, list[WindowRow]] = defaultdict(list)
    for row in rows:
        groups[row.window.quadruple].append(row)
    return [group for _, group in sorted(groups.items())]


def _is_whole(group: Group, method: Method, meters: Sequence[str], least_seconds: float) -> bool:
    windows = _WINDOWS[method]
    if len(group) != windows or sum(row.window.on for row in group) != windows // 2:
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


def _halves(group: Group, meters: Sequence[str], less: Sequence[str]) -> tuple[float, ...]:
    """us a request of the half with the collectors and of the one without, and their requests."""
    us, requests = {}, {}
    for row in group:
        on = row.window.on
        paid = _sum([row], *meters) - _sum([row], *less)
        us[on], requests[on] = 1e6 * paid / row.meters["requests"], row.meters["requests"]
    return us[True], us[False], requests[True], requests[False]


def _answered(group: Group) -> float:
    return _sum(group, "requests", "requests.twin")


def _sum(group: Group, *meters: str) -> float:
    return sum(row.meters.get(meter, 0.0) for row in group for meter in meters)
