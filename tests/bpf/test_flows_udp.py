"""Datagrams by peer, if they are asked for: exactly those of the cgroup, by who serves whom."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bpf.connecting import counted, exchange, flush_until, io, start_server, total
from tests.waiting import until

pytestmark = pytest.mark.bpf

# Answers each datagram with one of ten times its length.
SERVER = """
import json, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as server:
    server.bind((sys.argv[1], int(sys.argv[2])))
    print(json.dumps({"ready": True, "port": server.getsockname()[1]}), flush=True)
    while True:
        data, peer = server.recvfrom(65536)
        server.sendto(data * 10, peer)
"""

# Sends datagrams of 100, 101, ... bytes to PORT, and waits for the answer of each.
CLIENT = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(60)
    for size in range(100, 100 + int(sys.argv[2])):
        client.sendto(b"x" * size, ("127.0.0.1", int(sys.argv[1])))
        client.recvfrom(65536)
"""

# Has copies of all datagrams of the machine, and sends what is none to PORT.
RAW = """
import json, socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
    print(json.dumps({"ready": True, "port": 0}), flush=True)
    raw.recv(65536)
    for length in range(9):
        raw.sendto((b"\\x9c\\x40" + int(sys.argv[1]).to_bytes(2, "big") + bytes(4))[:length],
                   ("127.0.0.1", 0))
    print("sent", flush=True)
    time.sleep(60)
"""

UDP_SEGMENT = 103


def well_known() -> int:
    """A port that no client is given."""
    for _ in range(100):
        port = random.randrange(2000, 30000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(60)
        yield one


def ask(client: socket.socket, port: int, sizes: range) -> None:
    for size in sizes:
        client.sendto(b"x" * size, ("127.0.0.1", port))
        assert len(client.recv(65536)) == 10 * size


def datagrams(receiver: Any, **attributes: Any) -> tuple[int, int]:
    """Received and transmitted."""
    direction, name = "network.io.direction", "udp.datagrams"
    received = total(receiver, name, **{direction: "receive"}, **attributes)
    return received, total(receiver, name, **{direction: "transmit"}, **attributes)


def test_23_datagrams_and_their_bytes(
    service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    port = service.serve(sys.executable, "-c", SERVER, "127.0.0.1", str(well_known()))
    agent = start_agent("flows", "--udp=on")
    ask(client, port, range(100, 123))
    agent.call("flush")
    assert datagrams(receiver) == (23, 23)
    assert io(receiver, "udp") == (sum(range(100, 123)), 10 * sum(range(100, 123)))
    point = receiver.points("udp.datagrams")[0]
    told = receiver.attributes(point)
    assert told.pop("network.io.direction") == "transmit"
    assert told == {
        "network.transport": "udp",
        "network.type": "ipv4",
        "network.peer.address": "127.0.0.1",
        "network.local.address": "127.0.0.1",
        "network.local.port": port,
        "udp.role": "server",
    }
    assert receiver.points("tcp.connections.opened") == []
    assert agent.call("stats")["lost"] == 0


def test_datagrams_of_a_client_that_is_not_connected(
    service: Any, make_service: Any, start_agent: Any, receiver: Any
) -> None:
    other = make_service("other")
    port = other.serve(sys.executable, "-c", SERVER, "127.0.0.1", str(well_known()))
    agent = start_agent("flows", "--udp=on")
    assert service.start(sys.executable, "-c", CLIENT, str(port), "23").wait(60) == 0
    agent.call("flush")
    assert datagrams(receiver, **{"udp.role": "client", "network.peer.port": port}) == (23, 23)
    assert datagrams(receiver) == (23, 23)


def test_between_two_ports_of_clients_nobody_serves(
    service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    port = service.serve(sys.executable, "-c", SERVER, "127.0.0.1", "0")
    agent = start_agent("flows", "--udp=on")
    ask(client, port, range(100, 105))
    agent.call("flush")
    assert datagrams(receiver) == (5, 5)
    told = receiver.attributes(receiver.points("udp.datagrams")[0])
    assert not {"udp.role", "network.local.port", "network.peer.port"} & set(told)


def test_ipv6_and_large_datagrams(service: Any, start_agent: Any, receiver: Any) -> None:
    port = service.serve(sys.executable, "-c", SERVER, "::1", str(well_known()))
    agent = start_agent("flows", "--udp=on")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.sendto(b"x" * 6000, ("::1", port))
        assert len(client.recv(65536)) == 60000
    agent.call("flush")
    assert io(receiver, "udp") == (6000, 60000)
    told = receiver.attributes(receiver.points("udp.io")[0])
    assert (told["network.type"], told["network.peer.address"]) == ("ipv6", "::1")


def test_datagrams_behind_extension_headers(service: Any, start_agent: Any, receiver: Any) -> None:
    port = service.serve(sys.executable, "-c", SERVER, "::1", str(well_known()))
    agent = start_agent("flows", "--udp=on")
    options = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # one of padding; the kernel fills in what follows
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
        for size in range(100, 123):
            client.sendto(b"x" * size, ("::1", port))
            assert len(client.recv(65536)) == 10 * size
    agent.call("flush")
    assert datagrams(receiver) == (23, 23)
    assert io(receiver, "udp") == (sum(range(100, 123)), 10 * sum(range(100, 123)))


def test_datagrams_that_are_sent_as_one_are_counted_one_by_one(
    service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    """As QUIC's are: segmented on the way out."""
    program = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:\n"
        f"    client.setsockopt(socket.IPPROTO_UDP, {UDP_SEGMENT}, 100)\n"
        "    client.sendto(b'x' * 950, ('127.0.0.1', int(sys.argv[1])))\n"
    )
    client.bind(("127.0.0.1", 0))
    agent = start_agent("flows", "--udp=on")
    port = client.getsockname()[1]
    assert service.start(sys.executable, "-c", program, str(port)).wait(60) == 0
    assert [len(client.recv(2000)) for _ in range(10)] == 9 * [100] + [50]
    agent.call("flush")
    assert datagrams(receiver) == (0, 10)
    assert io(receiver, "udp") == (0, 950)


def test_other_cgroups_and_tcp_are_not_counted_as_datagrams(
    service: Any, make_service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    other = make_service("other")
    port = other.serve(sys.executable, "-c", SERVER, "127.0.0.1", str(well_known()))
    tcp = start_server(service)
    agent = start_agent("flows", "--udp=on")
    ask(client, port, range(100, 105))
    with socket.create_connection(("127.0.0.1", tcp)) as connection:
        exchange(connection, 100)
    flush_until(agent, lambda: counted(receiver) == (1, 1))
    assert counted(receiver) == (1, 1)
    assert receiver.points("udp.datagrams") == []


def test_raw_sockets_add_nothing(
    service: Any, make_service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    """Neither copies of what others receive, nor what is too short for a datagram."""
    port = service.serve(sys.executable, "-c", SERVER, "127.0.0.1", str(well_known()))
    other = make_service("other").serve(sys.executable, "-c", SERVER, "127.0.0.1", "0")
    service.serve(sys.executable, "-c", RAW, str(port))
    agent = start_agent("flows", "--udp=on")
    ask(client, port, range(100, 105))
    ask(client, other, range(100, 105))
    assert until(lambda: "sent" in service.log.read_text())
    agent.call("flush")
    assert datagrams(receiver, **{"udp.role": "server"}) == (5, 5)
    assert datagrams(receiver) == (5, 5)
    assert io(receiver, "udp") == (sum(range(100, 105)), 10 * sum(range(100, 105)))


def test_without_being_asked_for_nothing_runs_for_a_packet(
    service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    port = service.serve(sys.executable, "-c", SERVER, "127.0.0.1", str(well_known()))
    agent = start_agent("flows")
    ask(client, port, range(100, 105))
    agent.call("flush")
    assert receiver.points("udp.datagrams") == []
    names = {program["name"] for program in agent.ready["programs"]}
    assert names == {"on_state", "on_destroy", "read_open", "find_open"}


def test_off_counts_none(
    service: Any, start_agent: Any, receiver: Any, client: socket.socket
) -> None:
    port = service.serve(sys.executable, "-c", SERVER, "127.0.0.1", str(well_known()))
    agent = start_agent("flows", "--udp=on")
    agent.call("off")
    ask(client, port, range(100, 105))
    agent.call("on")
    ask(client, port, range(100, 103))
    agent.call("flush")
    assert datagrams(receiver) == (3, 3)
