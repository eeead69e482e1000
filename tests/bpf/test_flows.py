"""`flows` on the real kernel: an exact number of connections and bytes, and exactly these seen."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.linux import processes

pytestmark = pytest.mark.bpf

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

# Connects COUNT times to PORT, one after the other, and sends 100 bytes each time.
CLIENT = """
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(b"x" * 99 + b"\\n")
        connection.makefile("rb").readline()
"""


def start_server(service: Any) -> int:
    return int(service.serve(sys.executable, "-c", SERVER))


def exchange(connection: socket.socket, size: int) -> tuple[int, int]:
    """Send one line of `size` bytes and read its answer: bytes sent and received."""
    connection.sendall(b"x" * (size - 1) + b"\n")
    return size, len(connection.makefile("rb").readline())


def total(receiver: Any, name: str, **attributes: str) -> int:
    """The sum over the points of a metric that have all the attributes."""
    return sum(
        point.as_int
        for point in receiver.points(name)
        if attributes.items() <= receiver.attributes(point).items()
    )


def io(receiver: Any) -> tuple[int, int]:
    """Bytes received and transmitted."""
    direction = "network.io.direction"
    received = total(receiver, "tcp.io", **{direction: "receive"})
    return received, total(receiver, "tcp.io", **{direction: "transmit"})


def counted(receiver: Any) -> tuple[int, int]:
    """Connections opened and closed."""
    return total(receiver, "tcp.connections.opened"), total(receiver, "tcp.connections.closed")


def flush_until(agent: Any, condition: Callable[[], bool]) -> None:
    """Connections end a little after close() returns."""
    for _ in range(100):
        agent.call("flush")
        if condition():
            return
        time.sleep(0.02)


def test_23_connections_and_their_bytes(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows")
    sent = received = 0
    for size in range(100, 123):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            moved = exchange(connection, size)
        sent, received = sent + moved[0], received + moved[1]
    flush_until(agent, lambda: counted(receiver) == (23, 23))
    assert counted(receiver) == (23, 23)
    assert io(receiver) == (sent, received)
    (point,) = receiver.points("tcp.connections.opened")
    assert receiver.attributes(point) == {
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.peer.address": "127.0.0.1",
        "network.local.port": port,
        "tcp.role": "server",
    }
    assert agent.call("stats")["events"] == 46
    assert agent.call("stats")["lost"] == 0
    (rtt,) = receiver.points("tcp.rtt")
    assert 0 < rtt.as_double < 1
    assert total(receiver, "tcp.retransmits") == 0


def test_connections_that_the_service_makes(service, make_service, start_agent, receiver):
    port = start_server(make_service("other"))
    agent = start_agent("flows")
    assert service.start(sys.executable, "-c", CLIENT, str(port), "23").wait(20) == 0
    flush_until(agent, lambda: counted(receiver) == (23, 23))
    assert counted(receiver) == (23, 23)
    assert io(receiver) == (23 * 991, 23 * 100)
    (point,) = receiver.points("tcp.connections.opened")
    assert receiver.attributes(point)["tcp.role"] == "client"
    assert receiver.attributes(point)["network.peer.port"] == port


def test_a_connection_opened_while_off_is_counted_whole_and_once(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows", "--off")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 1000)
        agent.call("flush")
        assert counted(receiver) == (0, 0)
        agent.call("on")
        exchange(connection, 100)
        agent.call("flush")
        agent.call("flush")
        assert counted(receiver) == (1, 0)
        assert io(receiver) == (1100, 9991 + 991)
        state = {"network.connection.state": "established"}
        assert total(receiver, "tcp.connections.active", **state) == 1
        agent.call("off")
        exchange(connection, 50)
        agent.call("on")
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)
    assert io(receiver) == (1150, 9991 + 991 + 491)
    assert total(receiver, "tcp.connections.active") == 0


def test_a_connection_opened_before_the_agent_and_closed_before_an_export(
    service, start_agent, receiver
):
    port = start_server(service)
    before = socket.create_connection(("127.0.0.1", port))
    exchange(before, 100)
    agent = start_agent("flows", "--off")
    between = socket.create_connection(("127.0.0.1", port))
    exchange(between, 100)
    agent.call("on")
    before.close()
    between.close()
    flush_until(agent, lambda: counted(receiver) == (2, 2))
    assert counted(receiver) == (2, 2)
    assert io(receiver) == (200, 2 * 991)
    (point,) = receiver.points("tcp.connections.opened")  # known as the server's by its port
    assert receiver.attributes(point)["network.local.port"] == port


def test_off_sees_nothing(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows")
    agent.call("off")
    for _ in range(23):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            exchange(connection, 10)
    time.sleep(0.05)
    agent.call("on")
    agent.call("flush")
    assert counted(receiver) == (0, 0)


def test_other_cgroups_are_not_seen(service, make_service, start_agent, receiver):
    port = start_server(make_service("other"))
    agent = start_agent("flows")
    for _ in range(23):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            exchange(connection, 10)
    time.sleep(0.05)
    agent.call("flush")
    assert counted(receiver) == (0, 0)
    assert agent.call("stats")["events"] == 0


@pytest.fixture
def child(service):
    folder = service.path / "child"
    folder.mkdir()
    yield folder
    for process in service.started:
        processes.stop(process)
    for _ in range(100):  # it is empty a little later
        try:
            folder.rmdir()
            return
        except OSError:
            time.sleep(0.01)


def test_a_child_cgroup_belongs_to_the_service(service, child, start_agent, receiver):
    port = start_server(service)
    (child / "cgroup.procs").write_text(str(service.started[-1].pid))
    agent = start_agent("flows")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 100)
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)


def test_peers_beyond_the_map_are_counted_together(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows")
    for number in range(2010):
        source = (f"127.7.{number // 250}.{number % 250 + 1}", 0)
        with socket.create_connection(("127.0.0.1", port), source_address=source) as connection:
            exchange(connection, 2)
    flush_until(agent, lambda: counted(receiver) == (2010, 2010))
    assert counted(receiver) == (2010, 2010)
    points = [receiver.attributes(p) for p in receiver.points("tcp.connections.opened")]
    assert len(points) == 2000
    assert total(receiver, "tcp.connections.opened", **{"otel.metric.overflow": True}) == 11
    assert io(receiver) == (2010 * 2, 2010 * 11)


def test_the_rest_is_exported_at_the_end(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 100)
        agent.stop()
    assert counted(receiver) == (1, 0)
    assert io(receiver) == (100, 991)


def test_hooks_and_memory(service, start_agent):
    agent = start_agent("flows")
    assert agent.ready["hooks"] == ["tp_btf/inet_sock_set_state", "iter/bpf_sk_storage_map"]
    with open(f"/proc/{agent.process.pid}/smaps_rollup") as rollup:
        pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert pss < 50 * 1024
    assert os.path.exists(f"/proc/{agent.process.pid}")
