"""Creates and removes cgroups (v2) with everything in them; used by the local target."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from harness.errors import ComponentError, NeedError


def create(path: Path) -> None:
    """Make the cgroup and its parents; it may exist already. NeedError if that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NeedError(
            f"The cgroup {path} cannot be made: {error.strerror}.",
            "Each process of a run gets one, so that its CPU time is known.",
            "Run on the host itself, or in a container that may change cgroups (--privileged).",
        ) from error


def tree(path: Path) -> list[Path]:
    """`path` and all cgroups below it, the deepest first."""
    found = []
    for folder, _, _ in os.walk(path, topdown=False):
        found.append(Path(folder))
    return found


def processes(path: Path) -> list[int]:
    """The pids in the cgroup and in those below it."""
    pids: list[int] = []
    for folder in tree(path):
        with contextlib.suppress(OSError):
            pids += [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    return pids


def kill(path: Path) -> int:
    """SIGKILL everything in the cgroup and below it; returns how many processes there were."""
    pids = processes(path)
    switch = path / "cgroup.kill"
    if pids and switch.exists():
        switch.write_text("1")
    else:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return len(pids)


def remove(path: Path, *, timeout_seconds: float = 5.0) -> int:
    """Kill what is inside, then remove the cgroup and those below it; returns the number killed.

    ComponentError if it is not empty in time.
    """
    deadline = time.monotonic() + timeout_seconds
    killed = kill(path)
    while not _remove_empty(path):
        if time.monotonic() > deadline:
            raise ComponentError(
                f"The cgroup {path} cannot be removed.",
                f"Processes {processes(path)} in it do not end.",
                "Look what they wait for, then run `harness clean`.",
            )
        time.sleep(0.01)
        killed += kill(path)
    return killed


def _remove_empty(path: Path) -> bool:
    for folder in tree(path):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # EBUSY: a process in it has not gone yet
            return False
    return True
