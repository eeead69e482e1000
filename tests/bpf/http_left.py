"""Clients of a server that does not answer each request, and how they leave; for `http`'s tests."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path
from typing import Any

from tests.bpf.loopback import await_received
from tests.waiting import until

UNANSWERED = Path(__file__).with_name("http_unanswered.py")


def serve(service: Any) -> int:
    """The port of the server."""
    return int(service.serve(sys.executable, str(UNANSWERED)))


def leave(port: int, path: str, *, read: bool = True, reset: bool = False) -> None:
    """Ask, wait for the end of the connection or not, and end it."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while read and client.recv(4096):
            pass
        if not read:
            await_received(client)
        if reset:
            reset_at_close(client)


def reset_at_close(client: socket.socket) -> None:
    """Its close sends no FIN but an RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def await_events(agent: Any, events: int) -> dict[str, Any]:
    """What is told when so many requests ended: the server notices a little later."""
    assert until(lambda: agent.call("stats")["events"] >= events)
    told: dict[str, Any] = agent.call("flush")
    return told
