"""Connections that were not made, and those that did not end by a FIN, each with its reason."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from harness.linux import processes
from tests.bpf.connecting import (
    by_error,
    counted,
    exchange,
    failures,
    flush_until,
    io,
    start_server,
    total,
)

pytestmark = pytest.mark.bpf

CLOSED = "tcp.connections.closed"
TCP_SYNCNT = 7

# Connects COUNT times to PORT; how is what follows: options of the socket, a time-out, an error.
CLIENT = """
import socket, sys
for _ in range(int(sys.argv[2])):
    connection = socket.socket()
    {how}
    try:
        connection.connect(("127.0.0.1", int(sys.argv[1])))
    except OSError as error:
        print(error)
    else:
        sys.exit("it was connected")
    connection.close()
"""

# In a network namespace of its own: a neighbour that never answers, and one port to connect from.
ALONE = """
import socket, subprocess
from pathlib import Path

def ip(words):
    subprocess.run(["ip", *words.split()], check=True)

def refused(address):
    connection = socket.socket()
    try:
        connection.connect(address)
    except OSError as error:
        print(error)
    else:
        raise SystemExit("it was connected")

ip("link set lo up")
ip("link add v0 type veth peer name v1")
ip("address add 198.51.100.1/24 dev v0")
ip("link set v0 up")
ip("link set v1 up")
Path("/proc/sys/net/ipv4/neigh/v0/retrans_time_ms").write_text("50")
refused(("198.51.100.2", 80))
Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40000")
server = socket.create_server(("127.0.0.1", 80))
first = socket.create_connection(("127.0.0.1", 80))
refused(("127.0.0.1", 80))
"""

# In a network namespace of its own: nothing that is sent arrives any more.
CUT = """
import socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 80))
connection = socket.create_connection(("127.0.0.1", 80))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
connection.send(b"x")
try:
    connection.recv(1)
except TimeoutError as error:
    print(error)
else:
    raise SystemExit("it ended otherwise")
"""

# One socket that connects twice, and lets the first peer go by connect(AF_UNSPEC).
AGAIN = """
import ctypes, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
with socket.socket() as connection:
    for port, size in zip(sys.argv[1:], (100, 200)):
        connection.connect(("127.0.0.1", int(port)))
        connection.sendall(b"x" * (size - 1) + b"\\n")
        connection.makefile("rb").readline()
        if size == 100:
            assert libc.connect(connection.fileno(), bytes(16), 16) == 0
"""


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a server whose queue is full: it answers no SYN."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.create_connection(server.getsockname()),
    ):
        yield server.getsockname()[1]


def connect(service: Any, port: int, count: int, how: str = "pass") -> None:
    process = service.start(sys.executable, "-c", CLIENT.format(how=how), str(port), str(count))
    assert process.wait(60) == 0, process.log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_23_refused_connections(service: Any, start_agent: Any, receiver: Any) -> None:
    agent, port = start_agent("flows"), free_port()
    connect(service, port, 23)
    assert agent.call("flush")["events"] == 23
    assert failures(receiver) == {"connection_refused": 23}
    (point,) = receiver.points("tcp.connections.failed")
    assert receiver.attributes(point) == {
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.peer.address": "127.0.0.1",
        "network.local.address": "127.0.0.1",
        "network.peer.port": port,
        "tcp.role": "client",
        "error.type": "connection_refused",
    }
    assert receiver.points("tcp.connections.opened") == []


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (f"connection.setsockopt(socket.IPPROTO_TCP, {TCP_SYNCNT}, 1)", "timeout"),
        ("connection.settimeout(0.1)", "connection_aborted"),
    ],
)
def test_the_kernel_times_out_or_the_client_gives_up(
    service: Any, start_agent: Any, receiver: Any, deaf: int, how: str, error: str
) -> None:
    agent = start_agent("flows")
    connect(service, deaf, 2, how)
    flush_until(agent, lambda: failures(receiver) == {error: 2})
    assert failures(receiver) == {error: 2}


def test_no_neighbour_and_no_port(service: Any, start_agent: Any, receiver: Any) -> None:
    pair = ["unshare", "--net", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]
    if processes.run(pair, check=False).returncode:
        pytest.skip("this kernel has no veth")
    agent = start_agent("flows")
    process = service.start("unshare", "--net", sys.executable, "-c", ALONE)
    assert process.wait(60) == 0, process.log.read_text()
    agent.call("flush")
    assert failures(receiver) == {"unreachable": 1, "address_not_available": 1}


def test_a_connection_that_times_out_is_told(service: Any, start_agent: Any, receiver: Any) -> None:
    agent = start_agent("flows")
    process = service.start("unshare", "--net", sys.executable, "-c", CUT)
    assert process.wait(60) == 0, process.log.read_text()
    flush_until(agent, lambda: by_error(receiver, CLOSED).get("timeout") == 1)
    assert by_error(receiver, CLOSED)["timeout"] == 1
    assert failures(receiver) == {}


def test_resets_are_told_from_ends(service: Any, start_agent: Any, receiver: Any) -> None:
    port = start_server(service)
    agent = start_agent("flows")
    for cut in (True, False, True, False, False):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            exchange(connection, 100)
            if cut:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    flush_until(agent, lambda: counted(receiver) == (5, 5))
    assert by_error(receiver, CLOSED) == {"": 3, "connection_reset": 2}
    assert failures(receiver) == {}


def test_resets_of_our_own_are_told(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    """A client that closes with data unread sends an RST, and has no error itself."""
    port = start_server(make_service("other"))
    agent = start_agent("flows")
    program = (
        "import socket, sys, time\n"
        "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as connection:\n"
        "    connection.sendall(b'x' * 99 + b'\\n')\n"
        "    connection.recv(1, socket.MSG_PEEK)\n"
    )
    for _ in range(3):
        assert service.start(sys.executable, "-c", program, str(port)).wait(60) == 0
    flush_until(agent, lambda: counted(receiver) == (3, 3))
    assert by_error(receiver, CLOSED) == {"": 0, "connection_reset": 3}


def test_a_socket_that_connects_again_is_another_connection(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    ports = [start_server(make_service(name)) for name in ("one", "two")]
    agent = start_agent("flows")
    process = service.start(sys.executable, "-c", AGAIN, *map(str, ports))
    assert process.wait(60) == 0, process.log.read_text()
    flush_until(agent, lambda: counted(receiver) == (2, 2))
    assert counted(receiver) == (2, 2)
    assert io(receiver) == (991 + 1991, 100 + 200)
    direction = {"network.io.direction": "transmit"}
    for port, size in zip(ports, (100, 200), strict=True):
        told = {**direction, "network.peer.port": port}
        assert total(receiver, "tcp.io", **told) == size


def test_a_socket_whose_first_connection_failed(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    port = start_server(make_service("other"))
    agent = start_agent("flows")
    program = (
        "import socket, sys\n"
        "with socket.socket() as connection:\n"
        "    assert connection.connect_ex(('127.0.0.1', int(sys.argv[1])))\n"
        "    connection.connect(('127.0.0.1', int(sys.argv[2])))\n"
    )
    process = service.start(sys.executable, "-c", program, str(free_port()), str(port))
    assert process.wait(60) == 0, process.log.read_text()
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert (counted(receiver), failures(receiver)) == ((1, 1), {"connection_refused": 1})
