"""The traced cgroup, its processes and who of them listens; used by runtime and collectors."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from harness.agent.errors import AgentError

_LISTEN = b"0A"  # TCP_LISTEN in /proc/net/tcp


class Scope:
    """The cgroup that is traced: a path, and the directory that is there now.

    When a unit restarts, its cgroup is removed, and another one is made under the same path.
    """

    def __init__(self, path: Path) -> None:
        check(path)
        self.path = path
        self.directory = self._opened()
        self._identity = _identity(os.fstat(self.directory))

    def renew(self) -> bool:
        """Open the directory again if another one is there by now; whether it was."""
        try:
            if _identity(os.stat(self.path)) == self._identity:
                return False
            directory = self._opened()
        except (OSError, AgentError):  # nothing is there: it may come back
            return False
        os.close(self.directory)
        self.directory, self._identity = directory, _identity(os.fstat(directory))
        return True

    @property
    def gone(self) -> bool:
        """Whether there is no such cgroup now."""
        return not self.path.is_dir()

    def require(self) -> None:
        """AgentError if it is gone."""
        if self.gone:
            raise _gone(self.path)

    def close(self) -> None:
        """Let the directory go."""
        os.close(self.directory)

    def _opened(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _gone(self.path) from error


def check(cgroup: Path) -> None:
    """AgentError unless `cgroup` is a cgroup v2 directory."""
    if not (cgroup / "cgroup.procs").is_file() or not (cgroup / "cgroup.type").is_file():
        raise AgentError(
            f"{cgroup} is not a cgroup v2 directory.",
            "It does not exist, is the root, or belongs to a v1 hierarchy.",
            "Give a directory below the cgroup2 mount point, see /proc/self/mountinfo.",
        )


def folders(cgroup: Path) -> Iterator[Path]:
    """It and all below it, each before what is in it is looked at; they nest deeper than calls."""
    waiting = [cgroup]
    while waiting:
        found = waiting.pop()
        yield found
        with contextlib.suppress(OSError):  # it is gone
            entries = os.scandir(found)
            waiting += [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]


def pids(cgroup: Path) -> list[int]:
    """The processes in `cgroup` itself and in the cgroups below it; none when it is gone.

    A process that cannot be seen from this PID namespace is listed as 0, which to kill would be to
    kill oneself.
    """
    found = {int(pid) for each in folders(cgroup) for pid in _lines(each / "cgroup.procs")}
    return sorted(found - {0})


def kill(pid: int, within: Path) -> None:
    """SIGKILL for `pid` if it is in the cgroup `within`; a reused pid is not hit."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # it has ended
        return
    try:
        if pid in pids(within):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def server_pid(cgroup: Path) -> int | None:
    """The lowest pid that listens on TCP, else the lowest pid, else None."""
    everyone = pids(cgroup)
    return next((pid for pid in everyone if listening_ports(pid)), next(iter(everyone), None))


def listening_ports(pid: int) -> set[int]:
    """The TCP ports on which the process listens, in its own network namespace."""
    open_sockets = _sockets(pid)
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in _lines(Path(f"/proc/{pid}/net/{table}"))[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in open_sockets:
                ports.add(int(fields[1].rsplit(b":", 1)[1], 16))
    return ports


def _sockets(pid: int) -> set[bytes]:
    """Inodes of the sockets a process holds; empty when it has just ended."""
    inodes = set()
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd".encode()):
            target = os.readlink(descriptor.path)
            if target.startswith(b"socket:["):
                inodes.add(target[8:-1])
    except OSError:
        pass
    return inodes


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _gone(path: Path) -> AgentError:
    return AgentError(
        f"The cgroup {path} is gone.",
        "It is removed with the last process in it, as when a unit stops.",
        "Start the service again: the agent attaches to the cgroup that is then made in its place.",
    )
