"""Ends what a service's command started outside of its cgroup, through a daemon; for `block`.

What is ended began after the command, on a port that was free before, so that it is the command's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import CommandError, HarnessError, InputError, NeedError
from harness.linux import cgroup, containers, processes, units
from harness.linux.procfs import HOST
from harness.node import scope
from harness.node.scope import Owner

GRACE_SECONDS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


def now() -> int:
    """The moment, as /proc tells when a process started: clock ticks since boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def check_started(url: str, path: Path, since: int) -> str:
    """As `scope.check_scope`, for a command that was started after `since` (see `now`).

    Where somebody else answers, who began since then is ended, and the error says so.
    """
    try:
        return scope.check_scope(url, path)
    except InputError as error:
        done = " ".join(end(url, path, since))
        raise InputError(error.what, f"{error.why} {done}".strip(), error.next_step) from error


def end(url: str, path: Path, since: int) -> list[str]:
    """End who answers at the URL outside of the cgroup and began after `since`; sentences."""
    inside = set(cgroup.processes(path))
    others = scope.outside(scope.doors(url, inside), inside)
    return [said for owner in scope.owners(others) for said in _end(owner, since)]


def _end(owner: Owner, since: int) -> Iterator[str]:
    pid = owner.behind or owner.pid
    if owner.forwards and not owner.behind:
        yield f"Process {pid} ({HOST.name(pid)}) runs on: what it forwards to is not known."
    elif container := containers.id_of(pid):
        yield from _end_container(container, since)
    elif unit := scope.unit_of(pid):
        yield from _end_unit(unit, since)
    elif _began(pid, since):
        name = HOST.name(pid)
        _end_processes(HOST.family(pid))
        yield f"Process {pid} ({name}), which the command had started, was ended."


def _end_container(container: str, since: int) -> Iterator[str]:
    short = containers.shortened(container)
    with contextlib.suppress(HarnessError):  # it has ended meanwhile
        found = containers.find(container)
        if _began(found.pid, since):
            if not containers.stop(found):
                _end_processes({found.pid})
            yield f"The container {short}, which the command had started, was stopped."


def _end_unit(name: str, since: int) -> Iterator[str]:
    try:
        unit = units.find(name)
        if _began(unit.main_pid, since):
            processes.run(["systemctl", "stop", "--", unit.name], timeout=60)
            yield f"The unit {unit.name}, which the command had started, was stopped."
    except (CommandError, NeedError) as error:
        yield f"The unit {name} runs on: {error.what}"
    except HarnessError:
        return  # it has ended meanwhile


def _began(pid: int, since: int) -> bool:
    started = HOST.started(pid) if pid else None
    return started is not None and started >= since


def _end_processes(pids: set[int]) -> None:
    """SIGTERM, and SIGKILL to those that are left after the grace time."""
    with contextlib.ExitStack() as ends:
        left: list[int] = []  # descriptors, since numbers are given away anew
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                left.append(os.pidfd_open(pid))
                ends.callback(os.close, left[-1])
        for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 1.0)):
            for pidfd in left:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
            deadline = time.monotonic() + seconds
            while left and time.monotonic() < deadline:
                left = [pidfd for pidfd in left if not _has_ended(pidfd, 0.02)]


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
