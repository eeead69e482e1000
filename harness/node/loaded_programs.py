"""Which BPF programs a collector loaded that does not tell.

For `placed_agent`, `part_agent` and `subject_process`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing

from harness.linux import bpf_programs
from harness.linux.procfs import HOST
from harness.meters.bpfstats import Watched

_OF_RUNTIMES = {"cgroup_device"}  # what a container's runtime loads for each container


def since(
    before: Collection[int],
    pids: Callable[[], Collection[int]],
    attend: Callable[[], None],
    *,
    calm_seconds: float,
    limit_seconds: float,
) -> Mapping[int, str]:
    """The type of each program, by id, that was loaded since `before`, once no more come.

    For `calm_seconds` none came, or `limit_seconds` are over: some load programs for ever, as
    processes come and go. Those that another process than one of `pids` holds are not its own; what
    nobody holds is pinned or attached, the kernel does not say by whom. It calls `attend` often.
    """
    known = calm(before, attend, calm_seconds=calm_seconds, limit_seconds=limit_seconds)
    mine = set(pids())
    others = {each for pid in HOST.pids() if pid not in mine for each in bpf_programs.held(pid)}
    with closing(Watched(known)) as watched:
        types = {number: each.type for number, each in watched.read().items()}
    return {
        number: kind
        for number, kind in types.items()
        if number not in others and kind not in _OF_RUNTIMES
    }


def calm(
    before: Collection[int],
    attend: Callable[[], None],
    *,
    calm_seconds: float,
    limit_seconds: float,
) -> frozenset[int]:
    """What was loaded since `before`, by whomever, once none came or went for so long."""
    begun = still = time.monotonic()
    known: frozenset[int] = frozenset()
    while time.monotonic() - still < calm_seconds and time.monotonic() - begun < limit_seconds:
        if (now := bpf_programs.ids() - {*before}) != known:
            known, still = now, time.monotonic()
        attend()
        time.sleep(0.1)
    return known
