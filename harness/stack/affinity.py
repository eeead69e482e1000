"""Keeps processes that run already on some CPUs for a while; for `receivers`.

Where they ran before is noted beside the stack first, so that `clean` can undo it after `kill -9`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.linux import cgroup, owned_file
from harness.stack import ledger

NOTE = "cpus.json"


@contextlib.contextmanager
def held(cgroups: Iterable[Path], cpus: Iterable[int]) -> Iterator[None]:
    """Every thread of these cgroups runs on these CPUs only, then again where it did before.

    A thread that is made meanwhile inherits them from its maker, and is freed at the end with it.
    """
    paths, wanted = list(cgroups), set(cpus)
    free()
    before: dict[int, set[int]] = {}  # by process
    for pid in _pids(paths):
        with contextlib.suppress(ProcessLookupError):
            before[pid] = os.sched_getaffinity(pid)
    with _noted(before):
        try:
            _set(dict.fromkeys(before, wanted))
            yield
        finally:
            _set(before)


def free() -> list[str]:
    """Undo what an evaluation that was killed did to the stack; says in sentences what was done."""
    note = ledger.DIRECTORY / NOTE
    try:
        text, owned = owned_file.read(note)
    except FileNotFoundError:
        return []
    if owned:
        return []
    noted = json.loads(text)
    now = ledger.state()
    running = _pids(Path(one.cgroup) for one in now.components) if now else []
    before = {int(pid): set(cpus) for pid, cpus in noted["cpus"].items() if int(pid) in running}
    _set(before)
    note.unlink(missing_ok=True)
    return ["The stack may use all its CPUs again."]


@contextlib.contextmanager
def _noted(before: dict[int, set[int]]) -> Iterator[None]:
    """Say where these processes ran, in a file that is ours as long as we live."""
    if not before:
        yield
        return
    note, cpus = ledger.DIRECTORY / NOTE, {pid: [*each] for pid, each in before.items()}
    descriptor = owned_file.write(note, json.dumps({"cpus": cpus}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        os.close(descriptor)


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
