"""Who has a TCP port, from /proc; asked before a program is started that will listen on it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import NeedError

LINGER_SECONDS = 75.0  # TIME_WAIT takes 60 s, a connection that is still being closed may take more
_LISTEN = "0A"
_FIRST_PORT = 10000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_NOBODY = "0"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LEAST_SECONDS, _MOST_SECONDS = 0.2, 5.0  # between two looks: a busy service leaves thousands


def holder(port: int) -> str | None:
    """The process that listens on this port, as `process 123 (nginx)`; None if nobody does."""
    inodes = set(_listening(port))
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if inodes & set(_sockets(process)):
                name = (process / "comm").read_text(errors="replace").strip()
                return f"process {process.name} ({name})"
    return "a process that cannot be seen from here" if inodes & set(_listening(port)) else None


def require_free(address: str, port: int, name: str) -> None:
    """NeedError, naming who holds it, if `name` could not listen on this address and port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            by = holder(port)
            raise NeedError(
                f"{name} cannot listen on {address}:{port}: {error.strerror}.",
                f"It is held by {by}." if by else "",
                "Stop what listens there. Ports cannot be chosen, and --bind moves only OTLP, "
                "queries and Grafana to another address.",
            ) from error


def unused() -> int:
    """A port where nobody listens, or waits, below those that connections get by themselves.

    Connections take ports of that range at any time, and keep a program from listening there: one
    of it is told only where it leaves no others, as on servers that widened it.
    """
    first = int(_EPHEMERAL.read_text().split()[0])
    taken = {each.port for each in _all_sockets()}
    free = [port for port in range(_FIRST_PORT, first) if port not in taken]
    if free:
        return random.choice(free)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lingering(port: int) -> float:
    """How long (seconds) the kernel keeps this port for connections without a process; 0: not.

    Most are in TIME_WAIT, on the side that closed first. Until then only a program that sets
    SO_REUSEADDR can listen there.
    """
    left = [each.seconds for each in _sockets_at(port) if each.inode == _NOBODY]
    return max(*left, _LEAST_SECONDS) if left else 0.0


def await_released(
    port: int, tell: Callable[[str], None], attend: Callable[[], None] = lambda: None
) -> None:
    """Wait until no connection without a process has this port; NeedError if that takes too long.

    `tell` is called once, with what is waited for, `attend` every few seconds.
    """
    deadline = time.monotonic() + LINGER_SECONDS
    if seconds := lingering(port):
        tell(
            f"waiting up to {seconds:.0f} s for port {port}, which the kernel still keeps for "
            "connections that were closed (TIME_WAIT)"
        )
    while seconds := lingering(port):
        if time.monotonic() > deadline:
            raise NeedError(
                f"Port {port} is still kept by the kernel after {LINGER_SECONDS:.0f} s.",
                "Somebody goes on opening and closing connections to it.",
                "Find them with `ss -tan`, or start your program on another port.",
            )
        time.sleep(min(seconds, _MOST_SECONDS))
        attend()


@dataclass(frozen=True)
class _Socket:
    """A line of the kernel's proc_net_tcp document; `seconds` until its timer fires."""

    port: int
    state: str
    inode: str
    seconds: float


def _sockets_at(port: int) -> Iterator[_Socket]:
    return (each for each in _all_sockets() if each.port == port)


def _all_sockets() -> Iterator[_Socket]:
    ticks = os.sysconf("SC_CLK_TCK")
    for table in filter(Path.exists, _TABLES):
        for line in table.read_text().splitlines()[1:]:
            columns = line.split()
            port, when = (int(columns[i].rpartition(":")[2], 16) for i in (1, 5))
            yield _Socket(port, columns[3], columns[9], when / ticks)


def _listening(port: int) -> Iterator[str]:
    """Inodes of listening sockets."""
    return (each.inode for each in _sockets_at(port) if each.state == _LISTEN)


def _sockets(process: Path) -> Iterator[str]:
    try:
        for descriptor in (process / "fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:  # it ended meanwhile, or is not ours to see
        return
