"""`flows` on the real kernel: an exact number of connections and bytes, and exactly these seen."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from harness.linux import processes
from tests.bpf.conftest import remove_cgroup
from tests.bpf.connecting import (
    counted,
    exchange,
    flush_until,
    io,
    peers,
    start_server,
    total,
)
from tests.bpf.loopback import await_gone
from tests.waiting import until

pytestmark = pytest.mark.bpf

# Connects COUNT times to PORT, one after the other, and sends 100 bytes each time.
CLIENT = """
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(b"x" * 99 + b"\\n")
        connection.makefile("rb").readline()
"""


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
        "network.local.address": "127.0.0.1",
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
    assert service.start(sys.executable, "-c", CLIENT, str(port), "23").wait(60) == 0
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
            own_port = connection.getsockname()[1]
        await_gone(port, own_port)
    agent.call("on")
    agent.call("flush")
    assert counted(receiver) == (0, 0)


def test_other_cgroups_are_not_seen(service, make_service, start_agent, receiver):
    port = start_server(make_service("other"))
    agent = start_agent("flows")
    for _ in range(23):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            exchange(connection, 10)
            own_port = connection.getsockname()[1]
        await_gone(port, own_port)
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
    remove_cgroup(folder)


def test_a_child_cgroup_belongs_to_the_service(service, child, start_agent, receiver):
    port = start_server(service)
    (child / "cgroup.procs").write_text(str(service.started[-1].pid))
    agent = start_agent("flows")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 100)
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)


def visit(port: int, network: int, count: int) -> None:
    """One connection from each of so many addresses of 127.NETWORK.0.0/16."""
    for number in range(count):
        source = (f"127.{network}.{number // 250}.{number % 250 + 1}", 0)
        with socket.create_connection(("127.0.0.1", port), source_address=source) as connection:
            exchange(connection, 2)


def test_peers_beyond_the_map_are_counted_together_until_there_is_room(
    service, start_agent, receiver
):
    port = start_server(service)
    agent = start_agent("flows", "--peer-age=86400", "--interval=3600")
    visit(port, 7, 2010)
    flush_until(agent, lambda: counted(receiver) == (2010, 2010))
    assert counted(receiver) == (2010, 2010)
    others = {"otel.metric.overflow": True, "tcp.role": "server"}
    assert len(peers(receiver)) == 256
    assert total(receiver, "tcp.connections.opened", **others) == 2010 - 256
    assert io(receiver) == (2010 * 2, 2010 * 11)
    assert sum(len(receiver.points(name)) for name in ("tcp.connections.opened", "tcp.io")) < 800
    visit(port, 8, 1000)  # those that are not told made room for them
    flush_until(agent, lambda: counted(receiver) == (3010, 3010))
    assert counted(receiver) == (3010, 3010)
    assert io(receiver) == (3010 * 2, 3010 * 11)
    assert len(peers(receiver)) == 256
    assert agent.call("stats")["lost"] == 0


def test_peers_that_are_gone_make_room_for_others(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows", "--peers=5", "--peer-age=0", "--interval=3600")
    made = 0

    def await_counted(number: int) -> None:
        """By one flush, once all are closed: by the next ones they would be at rest."""
        assert until(lambda: agent.call("stats")["events"] == 2 * number)
        agent.call("flush")
        assert counted(receiver) == (number, number)

    for network in range(10, 14):
        visit(port, network, 8)
        made += 8
        await_counted(made)
        assert {address.split(".")[1] for address in peers(receiver)} == {str(network)}
        assert len(peers(receiver)) == 5
        for _ in range(3):  # seen at rest, removed, told no more
            agent.call("flush")
        assert peers(receiver) == set()
    assert io(receiver) == (made * 2, made * 11)


def test_a_peer_with_an_open_connection_stays(service, start_agent, receiver):
    port = start_server(service)
    agent = start_agent("flows", "--peer-age=0", "--interval=3600")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        exchange(connection, 100)
        for _ in range(5):
            agent.call("flush")
        assert peers(receiver) == {"127.0.0.1"}
        exchange(connection, 100)
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)
    assert io(receiver) == (200, 2 * 991)


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
    assert agent.ready["hooks"] == [
        "tp_btf/inet_sock_set_state",
        "tp_btf/tcp_destroy_sock",
        "iter/bpf_sk_storage_map",
    ]
    with open(f"/proc/{agent.process.pid}/smaps_rollup") as rollup:
        pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert pss < 50 * 1024
    assert os.path.exists(f"/proc/{agent.process.pid}")
