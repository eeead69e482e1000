"""A service that runs already: found, watched, left where it is, never signalled; for `block`.

Blocks are repeats on the same process. Where the runtime leaves a service in one cgroup v2 with
others, as on hosts with v1 controllers, its processes are lent to a cgroup of ours meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, NeedError, WorkloadError
from harness.linux import adoption, cgroup, containers, listeners, mount, units
from harness.linux.containers import Container
from harness.linux.procfs import HOST, V2
from harness.node.machine import Machine
from harness.node.scope import check_scope
from harness.node.service import answers
from harness.wire.spec import Found

__all__ = ["FoundService", "Subject", "attach", "check_scope", "subject"]

ANSWER_SECONDS = 10.0
LENT = (
    "The service shares its cgroup v2 with others, so that its processes were moved to one of ours "
    "for as long as they are measured. Sockets that were open before stay with the old one: "
    "collectors that take packets by cgroup do not see what comes through them."
)


@dataclass(frozen=True)
class Subject:
    """What was named: the cgroup v2 it is in, its processes, the first one or 0.

    `whole`: the cgroup is the service's own, so that its processes are those of the service.
    """

    home: Path
    members: Callable[[], set[int]]
    leader: int = 0
    whole: bool = False

    def strangers(self) -> set[int]:
        """Who else lives in the cgroup."""
        if self.whole:
            return set()
        before, members = set(cgroup.processes(self.home)), self.members()
        return before & set(cgroup.processes(self.home)) - members  # some ended meanwhile


@dataclass(frozen=True)
class FoundService:
    """A service that somebody else started; `inode` is that of its cgroup, which tells a new one.

    `leader` is the process by which it was found, or 0, and `started` when that began.
    """

    name: str
    url: str
    cgroup: Path
    inode: int
    leader: int = 0
    started: int | None = None
    warnings: tuple[str, ...] = ()

    def alive(self) -> bool:
        """Whether it still runs, in the same cgroup, with the same first process."""
        return not self._end()

    def check(self) -> None:
        """WorkloadError if it has ended, or was started anew."""
        if end := self._end():
            raise WorkloadError(
                f"The service {self.name!r} is no longer the one that was measured: {end}.",
                "A process that was started anew has other caches, connections and memory.",
                "What was measured is kept. Once it runs again: harness evaluate --resume RUN.",
            )

    def pids(self) -> list[int]:
        """Its processes."""
        return cgroup.processes(self.cgroup)

    def stop(self) -> None:
        """Nothing: it is not ours."""

    def await_answer(self) -> None:
        """Wait until its URL answers, whatever it says; WorkloadError if it never does."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not answers(self.url):
            self.check()
            if time.monotonic() > deadline:
                there = ", ".join(map(str, listeners.held(self.pids()))) or "no TCP port"
                raise WorkloadError(
                    f"{self.name!r} runs, but nothing answers at {self.url}.",
                    f"Its processes listen on {there}.",
                    "Check --url: address, port and path.",
                )
            time.sleep(0.1)

    def _end(self) -> str:
        try:
            inode = self.cgroup.stat().st_ino
        except OSError:
            return f"its cgroup {self.cgroup} is gone"
        if inode != self.inode:
            return f"its cgroup {self.cgroup} was made anew, as by a restart"
        if not cgroup.populated(self.cgroup):
            return f"no process is left in its cgroup {self.cgroup}"
        if self.leader and HOST.started(self.leader) != self.started:
            return f"process {self.leader}, by which it was found, has ended"
        return ""


def attach(asked: Found, machine: Machine, ends: ExitStack) -> FoundService:
    """Find the service, wait until it answers; `ends` gives back what had to be lent.

    InputError or NeedError where it cannot be found or told apart, WorkloadError if it is silent.
    """
    seen = subject(asked)
    _refuse_ourselves(seen)
    home, warnings = seen.home, tuple[str, ...]()
    if seen.strangers():
        home, warnings = _lend(seen, machine, ends), (LENT,)
    found = FoundService(
        asked.name, asked.url, home, home.stat().st_ino,
        seen.leader, HOST.started(seen.leader) if seen.leader else None, warnings,
    )  # fmt: skip
    found.await_answer()
    return found


def subject(asked: Found) -> Subject:
    """What the one option that is given names; InputError if it names nothing that runs."""
    if asked.pid:
        return _of_pid(asked.pid)
    if asked.container:
        return _of_container(containers.find(asked.container))
    if asked.unit:
        return _of_unit(units.find(asked.unit))
    return _of_cgroup(asked.cgroup)


def _of_pid(pid: int) -> Subject:
    """Its container if it is in one, else its cgroup, but of the root only it and its children."""
    if HOST.started(pid) is None:
        raise InputError(f"There is no process {pid}.", "", "`ss -tlnp` shows who listens.")
    if not HOST.argv(pid):
        raise InputError(f"Process {pid} is a thread of the kernel.", "", "Name a service.")
    if container := containers.id_of(pid):
        return _of_container(Container(container, pid))
    home = _home(pid)
    if home == _root():
        return Subject(home, lambda: HOST.family(pid), pid)
    return _whole(home, pid)


def _of_container(container: Container) -> Subject:
    if own := containers.place(container):
        return _whole(_v2(own), container.pid)
    return Subject(_home(container.pid), lambda: containers.members(container), container.pid)


def _of_unit(unit: units.Unit) -> Subject:
    path = _root() / unit.control_group.lstrip("/")
    if path != _root() and cgroup.populated(path):
        return _whole(path, unit.main_pid)
    inside = containers.within("name=systemd", unit.control_group)
    if not inside:
        raise InputError(
            f"The unit {unit.name} has no process.",
            f"Its cgroup is {unit.control_group}.",
            "Name the service by --pid instead.",
        )
    first = unit.main_pid or min(inside)
    return Subject(
        _home(first), lambda: containers.within("name=systemd", unit.control_group), unit.main_pid
    )


def _of_cgroup(text: str) -> Subject:
    """A folder of either version, or a path as /proc/PID/cgroup has it."""
    path = next(
        (each for each in (Path(text), _v2(text)) if (each / "cgroup.procs").is_file()), None
    )
    if path is None or not Path(text).is_absolute():
        raise InputError(
            f"There is no cgroup {text}.",
            f"Neither is it one, nor is there one of this name below {_root()}.",
            "Give a path as in /proc/PID/cgroup, or its folder.",
        )
    path = path.resolve()
    inside = cgroup.processes(path)
    if path == _root() or not inside:
        why = "It is the root, which has them all." if path == _root() else "No process is in it."
        raise InputError(f"The cgroup {path} is not that of a service.", why, "Name another one.")
    if (path / "cgroup.events").exists():
        return _whole(path)
    return Subject(_home(inside[0]), lambda: set(cgroup.processes(path)))  # of version 1


def _whole(path: Path, leader: int = 0) -> Subject:
    return Subject(path, lambda: set(cgroup.processes(path)), leader, whole=True)


def _lend(seen: Subject, machine: Machine, ends: ExitStack) -> Path:
    elsewhere = seen.members() - set(cgroup.processes(seen.home))
    if any(HOST.started(pid) is not None and _home(pid) != seen.home for pid in elsewhere):
        raise InputError(
            f"The service is in {seen.home}, which it shares with others, and in other cgroups.",
            "What is in more than one cgroup cannot be measured as one.",
            "Run it in a cgroup of its own, and name that by --cgroup.",
        )
    own = adoption.plan(seen.home, f"harness-{machine.run}")
    machine.lent(own)
    ends.callback(adoption.adopt(own, seen.members))
    return own


def _refuse_ourselves(seen: Subject) -> None:
    if os.getpid() in seen.members():
        raise InputError(
            f"The harness itself is among what would be measured, in the cgroup {seen.home}.",
            "It was started in the same session, unit or container as the service.",
            "Start one of the two elsewhere, for example by systemd-run --scope, or name another.",
        )


def _home(pid: int) -> Path:
    return _v2(HOST.cgroups(pid).get(V2, "/.."))


def _v2(path: str) -> Path:
    """The folder of a cgroup v2; NeedError if it is outside of what is seen from here."""
    if path.startswith("/.."):
        raise NeedError(
            "The service's cgroup cannot be seen from here.",
            "This process is in a cgroup namespace of its own, and the service is outside of it.",
            "Run the harness on the host itself (docker run --cgroupns=host).",
        )
    return _root() / path.lstrip("/")


def _root() -> Path:
    root = mount.find("cgroup2")
    if root is None:
        raise NeedError(
            "cgroup v2 is not mounted.",
            "What a service costs is read from it.",
            "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified.",
        )
    return root
