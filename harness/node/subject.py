"""What an option names of a service that runs: its cgroup v2 and its processes; for `found`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, NeedError
from harness.linux import cgroup, containers, mount, units
from harness.linux.containers import Container
from harness.linux.procfs import HOST, V2
from harness.wire.spec import Found


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


def of(asked: Found) -> Subject:
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
    home = home_of(pid)
    if home == _root():
        return Subject(home, lambda: HOST.family(pid), pid)
    return _whole(home, pid)


def _of_container(container: Container) -> Subject:
    if own := containers.place(container):
        return _whole(_v2(own), container.pid)
    return Subject(home_of(container.pid), lambda: containers.members(container), container.pid)


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
        home_of(first), lambda: containers.within("name=systemd", unit.control_group), unit.main_pid
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
    return Subject(home_of(inside[0]), lambda: set(cgroup.processes(path)))  # of version 1


def _whole(path: Path, leader: int = 0) -> Subject:
    return Subject(path, lambda: set(cgroup.processes(path)), leader, whole=True)


def home_of(pid: int) -> Path:
    """The folder of a process's cgroup v2; NeedError if it is outside of what is seen from here."""
    return _v2(HOST.cgroups(pid).get(V2, "/.."))


def _v2(path: str) -> Path:
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
