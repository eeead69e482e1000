"""Keeps processes that run already on some CPUs for a while; `evaluate` does so with the stack."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.targets import cgroup


@contextlib.contextmanager
def held(cgroups: Iterable[Path], cpus: Iterable[int]) -> Iterator[None]:
    """Every thread of these cgroups runs on these CPUs only, then again where it did before.

    A thread that is made meanwhile inherits them from its maker, and is freed at the end with it.
    """
    paths, wanted = list(cgroups), set(cpus)
    before: dict[int, set[int]] = {}  # by process
    for pid in _pids(paths):
        with contextlib.suppress(ProcessLookupError):
            before[pid] = os.sched_getaffinity(pid)
    try:
        _set(dict.fromkeys(before, wanted))
        yield
    finally:
        _set(before)


def _pids(cgroups: Iterable[Path]) -> list[int]:
    return [pid for path in cgroups for pid in cgroup.processes(path)]


def _set(cpus: dict[int, set[int]]) -> None:
    """Of all threads, twice: one may be made while they are read."""
    for _ in range(2):
        for pid, wanted in cpus.items():
            for thread in _threads(pid):
                # it may have ended, or may not run there: then it stays where it is
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(thread, wanted)


def _threads(pid: int) -> list[int]:
    try:
        return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
