"""A service that runs already: found, watched, left where it is, never signalled; for `block`.

Blocks are repeats on the same process. Where the runtime leaves a service in one cgroup v2 with
others, as on hosts with v1 controllers, its processes are lent to a cgroup of ours meanwhile.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, UnavailableError, WorkloadError
from harness.linux import adoption, cgroup, listeners
from harness.linux.procfs import HOST
from harness.node import silence, subject
from harness.node.machine import Machine
from harness.node.scope import check_scope
from harness.node.service import Service
from harness.node.subject import Subject
from harness.wire.spec import CollectorSpec, Found

__all__ = ["FoundService", "attach", "check_scope", "require_seen"]

ANSWER_SECONDS = 10.0
LENT = (
    "The service shares its cgroup v2 with others, so that its processes were moved to one of ours "
    "for as long as they are measured. Collectors that look at sockets of a cgroup are skipped: "
    "those that were open before stay with the old one."
)


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
    is_lent: bool = False

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
        asked = silence.Asked(self.url, ANSWER_SECONDS)
        while why := asked.why():
            self.check()
            if asked.over:
                there = ", ".join(map(str, listeners.held(self.pids()))) or "no TCP port"
                what, next_step = asked.told(self.name)
                raise WorkloadError(what, f"{why} Its processes listen on {there}.", next_step)
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
    seen = subject.of(asked)
    _refuse_ourselves(seen)
    is_lent = bool(seen.strangers())
    home = _lend(seen, machine, ends) if is_lent else seen.home
    found = FoundService(
        asked.name, asked.url, home, home.stat().st_ino, seen.leader,
        HOST.started(seen.leader) if seen.leader else None, (LENT,) if is_lent else (), is_lent,
    )  # fmt: skip
    found.await_answer()
    return found


def require_seen(service: Service, collector: CollectorSpec) -> None:
    """UnavailableError if the collector would see nothing of the service, and so cost nothing.

    A socket keeps the cgroup in which it was made, and hands it on to what it accepts.
    """
    if collector.by_socket and isinstance(service, FoundService) and service.is_lent:
        raise UnavailableError(
            f"Collector {collector.name!r} would see nothing of the service {service.name!r}.",
            "It knows the service by the cgroup of its sockets, and those were opened in a cgroup "
            "that the service shares with others.",
            "Start the service in a cgroup v2 of its own (in a node of kind: mount the machine's "
            "cgroup2 there by extraMounts).",
        )


def _lend(seen: Subject, machine: Machine, ends: ExitStack) -> Path:
    elsewhere = seen.members() - set(cgroup.processes(seen.home))
    if any(
        HOST.started(pid) is not None and subject.home_of(pid) != seen.home for pid in elsewhere
    ):
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
