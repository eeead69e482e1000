"""What the kernel has of a connection over loopback; for tests that wait for it."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from pathlib import Path

from tests.waiting import until

_ESTABLISHED = 1  # TCP_ESTABLISHED


def await_received(client: socket.socket) -> None:
    """What it sent has reached the other end's socket: on a busy machine that is a little later."""
    unsent = struct.Struct("i")

    def acknowledged() -> bool:
        answer = fcntl.ioctl(client, termios.TIOCOUTQ, bytes(unsent.size))
        return unsent.unpack(answer) == (0,)

    assert until(acknowledged)


def await_closed(port: int, client_port: int) -> None:
    """The server has closed its end of this connection, whatever that still has to send."""
    assert until(lambda: _state(port, client_port) != _ESTABLISHED)


def await_gone(port: int, client_port: int) -> None:
    """Nothing is left of the server's end of a connection that its client closed first."""
    assert until(lambda: _state(port, client_port) is None)


def _state(port: int, peer_port: int) -> int | None:
    """Of the end that has this port; None if it has none any more."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if (_port(local), _port(remote)) == (port, peer_port):
            return int(state, 16)
    return None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
