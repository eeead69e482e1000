"""Who listens on a TCP port, from /proc; asked before a program is started that will."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from harness.errors import NeedError

_LISTEN = "0A"


def holder(port: int) -> str | None:
    """The process that listens on this port, as `process 123 (nginx)`; None if nobody does."""
    inodes = set(_listening(port))
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if inodes & set(_sockets(process)):
            name = (process / "comm").read_text(errors="replace").strip()
            return f"process {process.name} ({name})"
    return "a process that cannot be seen from here"


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


def _listening(port: int) -> Iterator[str]:
    """Inodes of listening sockets; columns as in the kernel's proc_net_tcp document."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]


def _sockets(process: Path) -> Iterator[str]:
    try:
        for descriptor in (process / "fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:  # it ended meanwhile, or is not ours to see
        return
