"""Which process runs on which CPU; `evaluate` asks, the report repeats the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclass(frozen=True)
class Placement:
    """CPU numbers for each role, and why; `idle` are left alone beside the workload."""

    workload: tuple[int, ...]
    load: tuple[int, ...]
    collector: tuple[int, ...]
    orchestrator: tuple[int, ...]
    why: str
    idle: tuple[int, ...] = ()


def placement() -> Placement:
    """The plan for the CPUs that this process may use."""
    cpus = sorted(os.sched_getaffinity(0))
    return plan(cpus, {cpu: _siblings(cpu) for cpu in cpus})


def beside(place: Placement) -> tuple[int, ...]:
    """Where what is neither workload nor load may run: their CPUs and the idle ones are left out.

    Where nothing is left, beside the collectors.
    """
    taken = {*place.workload, *place.load, *place.idle}
    return tuple(sorted(os.sched_getaffinity(0) - taken)) or place.collector


def plan(cpus: Sequence[int], siblings: Mapping[int, Sequence[int]]) -> Placement:
    """Share out `cpus`; `siblings` maps each to the hardware threads of its core."""
    first, others = cpus[0], list(cpus[1:])
    if not others:
        why = "1 CPU: the workload, the load and the collectors share it and disturb each other."
        return _shared((first,), (first,), why)
    twins = tuple(cpu for cpu in others if cpu in siblings.get(first, ()))
    if len(others) == 1:
        why = "2 CPUs: the workload alone on the first, everything else on the second."
        if twins:
            why += " They are two threads of one core, so each slows the other."
        return _shared((first,), tuple(others), why)
    return _spread(first, others, twins)


def _spread(first: int, others: list[int], twins: tuple[int, ...]) -> Placement:
    apart = [cpu for cpu in others if cpu not in twins]
    idle, free = (twins, apart) if len(apart) >= 2 else ((), others)
    why = f"{len(others) + 1} CPUs: the workload, the load and the collectors each on their own"
    if idle:
        why += f"; {_names(idle)}, the other thread of the workload's core, stays idle"
    elif twins:
        why += f"; {_names(twins)} shares the workload's core, because there are too few"
    orchestrator = free[min(2, len(free) - 1)]
    return Placement((first,), (free[0],), (free[1],), (orchestrator,), why + ".", idle)


def _shared(workload: tuple[int, ...], rest: tuple[int, ...], why: str) -> Placement:
    return Placement(workload, rest, rest, rest, why)


def _names(cpus: tuple[int, ...]) -> str:
    return "CPU " + ", ".join(map(str, cpus))


def _siblings(cpu: int) -> list[int]:
    path = Path(_TOPOLOGY.format(cpu))
    return parse_cpus(path.read_text()) if path.exists() else [cpu]


def parse_cpus(text: str) -> list[int]:
    """The CPU numbers of a kernel list such as `0-2,7`."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low:
            cpus += range(int(low), int(high or low) + 1)
    return cpus
