"""Creates, empties and removes cgroups (v2); used by `Machine`, the collectors and the stack.

All of ours are below one, `<cgroup2>/harness/`, which goes with the last of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from harness.errors import ComponentError, NeedError

PARENT = "harness"
TIMEOUT_SECONDS = 5.0
_AGAIN_SECONDS = 0.05  # until what was forked meanwhile is killed, too
_ATTEMPTS = 10


def create(path: Path) -> None:
    """Make the cgroup and its parents; it may exist already. NeedError if that is not allowed."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            path.mkdir(parents=True, exist_ok=True)
            return
        except OSError as error:
            if left and isinstance(error, FileNotFoundError):
                continue  # somebody else removes the parent, empty by then, at this moment
            raise NeedError(
                f"The cgroup {path} cannot be made: {error.strerror}.",
                "Each process of a run gets one, so that its CPU time is known.",
                "Run on the host itself, or in a container that may change cgroups (--privileged).",
            ) from error


def tree(path: Path) -> list[Path]:
    """`path` and all cgroups below it, the deepest first."""
    found = [path]
    for folder in found:  # not by calls, of which there may be fewer than levels
        with contextlib.suppress(OSError), os.scandir(folder) as inside:
            found += [Path(each.path) for each in inside if each.is_dir(follow_symlinks=False)]
    return found[::-1]


def processes(path: Path) -> list[int]:
    """The pids in the cgroup and in those below it, of those that have one here.

    A process of another PID namespace is listed as 0, which to kill would be to kill oneself.
    """
    pids: list[int] = []
    for folder in tree(path):
        with contextlib.suppress(OSError):
            pids += [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    return [pid for pid in pids if pid]


def populated(path: Path) -> bool:
    """Whether a process lives in the cgroup or below it, of whatever PID namespace."""
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except OSError:  # it is gone
        return False


def kill(path: Path) -> int:
    """SIGKILL everything in the cgroup and below it; returns how many processes there were."""
    pids = processes(path)
    try:
        _write(path / "cgroup.kill", "1")
    except OSError:  # a kernel before 5.14, a threaded cgroup, or it is gone
        _signal(pids, signal.SIGKILL)
    return len(pids)


def empty(path: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> int:
    """Kill everything in the cgroup and below it until nothing lives there; how many there were.

    ComponentError that names those that do not end in time.
    """
    deadline, killed = time.monotonic() + timeout_seconds, set[int]()
    while populated(path):
        killed.update(processes(path))
        kill(path)
        if not _await_end(path, min(_AGAIN_SECONDS, deadline - time.monotonic())):
            if time.monotonic() < deadline:
                continue
            raise ComponentError(
                f"The cgroup {path} cannot be emptied.",
                f"{_named(processes(path))} in it do not end, though they were killed.",
                "Look what they wait for, then run `harness clean`.",
            )
    return len(killed)


def terminate(path: Path, grace_seconds: float) -> int:
    """SIGTERM to everything in the cgroup and below it, SIGKILL to what is left after the grace.

    Returns how many had to be killed; ComponentError as `empty`.
    """
    _signal(processes(path), signal.SIGTERM)
    return 0 if _await_end(path, grace_seconds) else empty(path)


def remove(path: Path, *, timeout_seconds: float = TIMEOUT_SECONDS) -> int:
    """Kill what is inside, then remove the cgroup and those below it; returns the number killed.

    The parent of all of ours goes with the last one. ComponentError if it is not empty in time.
    """
    deadline, killed = time.monotonic() + timeout_seconds, empty(path, timeout_seconds)
    while (refused := _remove_empty(path)) is not None:
        if time.monotonic() > deadline:
            raise ComponentError(
                f"The cgroup {path} cannot be removed: {refused.strerror}.",
                f"What is in it: {_named(processes(path))}.",
                "Look what holds it, then run `harness clean`.",
            )
        killed += empty(path, timeout_seconds)
        time.sleep(0.01)
    if path.parent.name == PARENT:
        with contextlib.suppress(OSError):  # another one is in it
            path.parent.rmdir()
    return killed


def _remove_empty(path: Path) -> OSError | None:
    """Why it cannot be removed; None if it is gone."""
    for folder in tree(path):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:  # EBUSY: a process came into it
            return error
    return None


def _await_end(path: Path, seconds: float) -> bool:
    """Whether nothing lives in the cgroup any more, or ends within this time."""
    deadline = time.monotonic() + seconds
    try:
        events = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it is gone
        return True
    try:
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events, 4096, 0):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            changed.poll(left * 1000)
    except OSError:  # ENODEV: it was removed
        return True
    finally:
        os.close(events)
    return True


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # that one has ended: go on with the others
            os.kill(pid, number)


def _named(pids: list[int]) -> str:
    """These processes for a sentence; none are seen where they are of another PID namespace."""
    return f"Processes {pids}" if pids else "Processes of another PID namespace"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # never creates it
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
