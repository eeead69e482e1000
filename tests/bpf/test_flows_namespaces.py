"""Connections older than the agent: found in every network namespace, with who began them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from harness.agent import network_namespaces
from harness.linux import processes
from tests.bpf.connecting import (
    SERVER,
    counted,
    exchange,
    flush_until,
    io,
    start_server,
    total,
)

pytestmark = pytest.mark.bpf

# A server whose network namespace has nobody else in it.
APART = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")

# Connects to PORT and sends a line, and another one when it is told to; then it ends.
CLIENT = """
import json, signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    for size in (100, 50):
        connection.sendall(b"x" * (size - 1) + b"\\n")
        connection.makefile("rb").readline()
        if size == 100:
            print(json.dumps({"ready": True}), flush=True)
            signal.sigwait([signal.SIGUSR1])
"""

# Answers one connection, and listens no more.
ONCE = """
import json, socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(json.dumps({"ready": True, "port": server.getsockname()[1]}), flush=True)
    connection, _ = server.accept()
for line in connection.makefile("rb"):
    connection.sendall(line[:-1] * 10 + b"\\n")
"""


@dataclass
class Client:
    """One that has sent its first line."""

    process: processes.Process

    def end(self) -> None:
        """Let it send the second one and go."""
        os.kill(self.process.pid, signal.SIGUSR1)
        assert self.process.wait(60) == 0


def client(of: Any, port: int, inside: int | None = None) -> Client:
    """A client in the cgroup of a service, in the network namespace of the process `inside`."""
    enter = () if inside is None else ("nsenter", f"--net=/proc/{inside}/ns/net")
    process = of.start(*enter, sys.executable, "-c", CLIENT, str(port))
    assert processes.announced(process, 60) is not None, process.log.read_text()
    return Client(process)


def roles(receiver: Any) -> set[str]:
    return {
        receiver.attributes(each).get("tcp.role", "")
        for each in receiver.points("tcp.connections.opened")
    }


def test_an_open_connection_of_another_network_namespace_is_found(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    port = int(service.serve(*APART, sys.executable, "-c", SERVER))
    other = client(make_service("other"), port, inside=service.started[-1].pid)
    agent = start_agent("flows")
    agent.call("flush")
    assert counted(receiver) == (1, 0)
    assert io(receiver) == (100, 991)
    state = {"network.connection.state": "established"}
    assert total(receiver, "tcp.connections.active", **state) == 1
    other.end()
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)
    assert io(receiver) == (150, 991 + 491)
    (point,) = receiver.points("tcp.connections.opened")
    assert receiver.attributes(point)["tcp.role"] == "server"
    assert receiver.attributes(point)["network.local.port"] == port


def test_connections_that_close_before_an_export_are_of_the_port_that_was_listened_on(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    port = int(service.serve(*APART, sys.executable, "-c", SERVER))
    pid, outside = service.started[-1].pid, make_service("other")
    agent = start_agent("flows", "--off", "--interval=3600")
    clients = [client(outside, port, inside=pid) for _ in range(3)]
    agent.call("on")
    for each in clients:
        each.end()
    flush_until(agent, lambda: counted(receiver) == (3, 3))
    assert counted(receiver) == (3, 3)
    (point,) = receiver.points("tcp.connections.opened")
    assert receiver.attributes(point)["network.local.port"] == port


def test_a_port_is_that_of_one_network_namespace(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    """Another service listens here on the port that a client there connects from."""
    there = make_service("there")
    port = int(there.serve(*APART, sys.executable, "-c", SERVER))
    program = CLIENT.replace("int(sys.argv[1]))", 'int(sys.argv[1])), 20, ("", int(sys.argv[2]))')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        taken = probe.getsockname()[1]
    listening = SERVER.replace('("127.0.0.1", 0)', f'("127.0.0.1", {taken})')
    assert service.serve(sys.executable, "-c", listening) == taken
    agent = start_agent("flows", "--off", "--interval=3600")
    enter = ("nsenter", f"--net=/proc/{there.started[-1].pid}/ns/net")
    process = service.start(*enter, sys.executable, "-c", program, str(port), str(taken))
    assert processes.announced(process, 60) is not None, process.log.read_text()
    agent.call("on")
    Client(process).end()
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)
    assert roles(receiver) == {""}  # both ports are clients': nobody knows


def test_a_client_is_known_by_the_port_that_the_kernel_chose(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    port = start_server(make_service("other"))
    before = client(service, port)
    agent = start_agent("flows")
    agent.call("flush")
    (point,) = receiver.points("tcp.connections.opened")
    assert receiver.attributes(point)["tcp.role"] == "client"
    assert receiver.attributes(point)["network.peer.port"] == port
    before.end()
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert (counted(receiver), roles(receiver)) == ((1, 1), {"client"})


def test_a_role_that_is_not_known_has_no_port(
    service: Any, start_agent: Any, receiver: Any
) -> None:
    port = int(service.serve(sys.executable, "-c", ONCE))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 100)  # by now nobody listens
        agent = start_agent("flows")
        agent.call("flush")
        assert counted(receiver) == (1, 0)
        (point,) = receiver.points("tcp.connections.opened")
        assert receiver.attributes(point) == {
            "network.transport": "tcp",
            "network.type": "ipv4",
            "network.peer.address": "127.0.0.1",
            "network.local.address": "127.0.0.1",
        }
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert io(receiver) == (100, 991)


def test_each_network_namespace_is_visited_once_and_left(service: Any) -> None:
    for _ in range(2):
        service.serve(*APART, sys.executable, "-c", SERVER)
    service.start("sleep", "60")
    own = os.readlink("/proc/thread-self/ns/net")
    seen: list[str] = []
    pids = [each.pid for each in service.started]
    refused = network_namespaces.visit(
        [*pids, *pids, 2**22], lambda: seen.append(os.readlink("/proc/thread-self/ns/net"))
    )
    assert refused == []
    assert seen[0] == own
    assert len(seen) == len(set(seen)) == 3
    assert set(seen) == {own, *(os.readlink(f"/proc/{pid}/ns/net") for pid in pids)}
    assert os.readlink("/proc/thread-self/ns/net") == own


def test_what_fails_in_there_fails_here(service: Any) -> None:
    service.serve(*APART, sys.executable, "-c", SERVER)
    own = os.stat("/proc/thread-self/ns/net").st_ino

    def work() -> None:
        if os.stat("/proc/thread-self/ns/net").st_ino != own:
            raise ValueError("in there")

    with pytest.raises(ValueError, match="in there"):
        network_namespaces.visit([service.started[-1].pid], work)
