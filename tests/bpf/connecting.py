"""Servers and clients of TCP, and what `flows` told of them; for its tests."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

from tests.waiting import until

# Answers every line with a line of ten times its length, on as many connections as come.
SERVER = """
import json, socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line[:-1] * 10 + b"\\n")
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = True
with Server(("127.0.0.1", 0), Echo) as server:
    print(json.dumps({"ready": True, "port": server.server_address[1]}), flush=True)
    server.serve_forever()
"""


def start_server(service: Any) -> int:
    return int(service.serve(sys.executable, "-c", SERVER))


def exchange(connection: socket.socket, size: int) -> tuple[int, int]:
    """Send one line of `size` bytes and read its answer: bytes sent and received."""
    connection.sendall(b"x" * (size - 1) + b"\n")
    return size, len(connection.makefile("rb").readline())


def total(receiver: Any, name: str, **attributes: object) -> int:
    """The sum over the points of a metric that have all the attributes."""
    return sum(
        point.as_int
        for point in receiver.points(name)
        if attributes.items() <= receiver.attributes(point).items()
    )


def io(receiver: Any, transport: str = "tcp") -> tuple[int, int]:
    """Bytes received and transmitted."""
    direction, name = "network.io.direction", f"{transport}.io"
    received = total(receiver, name, **{direction: "receive"})
    return received, total(receiver, name, **{direction: "transmit"})


def counted(receiver: Any) -> tuple[int, int]:
    """Connections opened and closed."""
    return total(receiver, "tcp.connections.opened"), total(receiver, "tcp.connections.closed")


def failures(receiver: Any) -> dict[str, int]:
    """Connections that were not made, by why."""
    return by_error(receiver, "tcp.connections.failed")


def by_error(receiver: Any, name: str) -> dict[str, int]:
    """The sums over the points of a metric by error; empty: those without one."""
    found: dict[str, int] = {}
    for point in receiver.points(name):
        error = receiver.attributes(point).get("error.type", "")
        found[error] = found.get(error, 0) + point.as_int
    return found


def peers(receiver: Any) -> set[str]:
    """The addresses of the peers that are told one by one."""
    told = map(receiver.attributes, receiver.points("tcp.connections.opened"))
    return {each["network.peer.address"] for each in told if "network.peer.address" in each}


def flush_until(agent: Any, condition: Callable[[], bool]) -> None:
    """Connections end a little after close() returns."""
    until(lambda: agent.call("flush") and condition())
