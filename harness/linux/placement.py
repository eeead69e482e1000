"""Which CPUs there are here, shared out among the roles; `session` and `doctor` ask."""

from __future__ import annotations

import os
from pathlib import Path

from harness.wire.placement import parse_cpus, plan
from harness.wire.spec import Placement

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def placement(service_cpus: int = 0, load_workers: int = 1) -> Placement:
    """The plan for the CPUs that this process may use; the others as `plan` takes them."""
    cpus = sorted(os.sched_getaffinity(0))
    return plan(cpus, {cpu: siblings(cpu) for cpu in cpus}, service_cpus, load_workers)


def beside(place: Placement) -> tuple[int, ...]:
    """Where what is neither workload nor load may run: their CPUs and the idle ones are left out.

    Where nothing is left, beside the collectors.
    """
    taken = {*place.workload, *place.load, *place.idle}
    return tuple(sorted(os.sched_getaffinity(0) - taken)) or place.collector


def siblings(cpu: int) -> list[int]:
    """The hardware threads of this CPU's core, itself among them."""
    path = Path(_TOPOLOGY.format(cpu))
    return parse_cpus(path.read_text()) if path.exists() else [cpu]
