"""Datagrams without a connect, and addresses that stand for the machine itself."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.guarded import logs, policy

pytestmark = pytest.mark.bpf

SEND = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    try:
        for _ in range(int(sys.argv[3])):
            sender.sendto(b"datagram", (sys.argv[1], int(sys.argv[2])))
    except PermissionError:
        time.sleep(20)
"""
CONNECT = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as client:
    try:
        client.connect((sys.argv[1], int(sys.argv[2])))
    except PermissionError:
        time.sleep(20)
"""


# connects a socket for datagrams, sends one, and says how it ended
CONNECT_AND_SEND = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    try:
        sender.connect((sys.argv[1], int(sys.argv[2])))
    except PermissionError:
        time.sleep(float(sys.argv[3]))
        sys.exit(7)
    sender.send(b"datagram")
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def taker(request: pytest.FixtureRequest) -> Any:
    """A socket that takes datagrams."""
    if ":" in request.param and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as receiving:
        receiving.bind((request.param, 0))
        receiving.settimeout(60)
        yield receiving


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split(".")[:2])


def _has_ipv6() -> bool:
    path = Path("/proc/net/if_inet6")
    return socket.has_ipv6 and path.exists() and bool(path.read_text().strip())


def test_23_datagrams_become_one_record(
    service: Any, start_agent: Any, receiver: Any, taker: Any
) -> None:
    host, port = taker.getsockname()[:2]
    agent = start_agent("guard", "--drain", "100")
    sender = service.start(sys.executable, "-c", SEND, host, str(port), "23")
    assert sender.wait(60) == 0
    for _ in range(23):
        assert taker.recv(100) == b"datagram"
    agent.call("flush")
    (sent,) = logs(receiver, "network.connect")
    assert sent["process.pid"] == sender.pid
    assert sent["network.transport"] == "udp"
    assert (sent["network.peer.address"], sent["network.peer.port"]) == (host, port)
    assert sent["guard.count"] == 23


def test_a_datagram_to_a_forbidden_network_is_not_sent(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any, taker: Any
) -> None:
    host, port = taker.getsockname()[:2]
    agent = start_agent("guard", *policy(tmp_path, ("connect", host, "kill")))
    assert service.start(sys.executable, "-c", SEND, host, str(port), "1").wait(60) == -9
    taker.settimeout(0.2)
    with pytest.raises(TimeoutError):
        taker.recv(100)
    taker.settimeout(60)
    with socket.socket(taker.family, socket.SOCK_DGRAM) as outside:  # not of the cgroup
        outside.sendto(b"other", (host, port))
    assert taker.recv(100) == b"other"
    agent.call("flush")
    (sent,) = logs(receiver, "network.connect")
    assert (sent["guard.action"], sent["network.transport"]) == ("kill", "udp")


@pytest.mark.parametrize("code", [CONNECT, SEND])
@pytest.mark.parametrize(
    ("nowhere", "forbidden"),
    [
        ("0.0.0.0", "127.0.0.0/8"),
        ("::ffff:0.0.0.0", "127.0.0.0/8"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
    ],
)
def test_who_names_no_address_means_the_machine_itself(
    tmp_path: Path,
    service: Any,
    start_agent: Any,
    receiver: Any,
    code: str,
    nowhere: str,
    forbidden: str,
) -> None:
    if ":" in nowhere and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    agent = start_agent("guard", *policy(tmp_path, ("connect", forbidden, "kill")))
    assert service.start(sys.executable, "-c", code, nowhere, "9", "1").wait(60) == -9
    agent.call("flush")
    (connect,) = logs(receiver, "network.connect")
    assert connect["network.peer.address"] == ("::1" if nowhere == "::" else "127.0.0.1")


@pytest.mark.parametrize("code", [CONNECT, SEND])
@pytest.mark.parametrize("forbidden", ["::/0", "::/8"])
def test_a_rule_for_ipv6_denies_nothing_of_ipv4(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any, code: str, forbidden: str
) -> None:
    agent = start_agent("guard", *policy(tmp_path, ("connect", forbidden, "kill")))
    refused = int(code is CONNECT)  # by nobody who listens there
    assert service.start(sys.executable, "-c", code, "127.0.0.1", "9", "1").wait(60) == refused
    agent.call("flush")
    assert logs(receiver, "network.connect") == []
    if _has_ipv6():
        assert service.start(sys.executable, "-c", code, "::1", "9", "1").wait(60) == -9


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_0_is_no_way_around_a_rule(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any, host: str
) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    agent = start_agent("guard", *policy(tmp_path, ("connect", host, "kill")))
    assert service.start(sys.executable, "-c", CONNECT, host, "0").wait(60) == -9
    agent.call("flush")
    (told,) = logs(receiver, "network.connect")
    assert (told["network.transport"], told["network.peer.port"]) == ("tcp", 0)
    # resolvers ask for a route so: nothing is sent, and nobody is killed
    assert service.start(sys.executable, "-c", CONNECT_AND_SEND, host, "0", "1").wait(60) == 7
    agent.call("flush")
    _, told = logs(receiver, "network.connect")
    assert (told["network.transport"], told["network.peer.port"]) == ("udp", 0)
    assert told["guard.action"] == "kill"
    assert service.start(sys.executable, "-c", CONNECT_AND_SEND, host, "9", "20").wait(60) == -9


def test_who_asks_for_a_route_is_not_told_of(service: Any, start_agent: Any, receiver: Any) -> None:
    agent = start_agent("guard")
    ask = service.start(sys.executable, "-c", CONNECT_AND_SEND, "127.0.0.1", "0", "0")
    assert ask.wait(60) == 0
    assert service.start(sys.executable, "-c", CONNECT, "127.0.0.1", "0").wait(60) == 1  # refused
    agent.call("flush")
    (told,) = logs(receiver, "network.connect")
    assert (told["network.transport"], told["network.peer.port"]) == ("tcp", 0)


# connects a ping socket, sends an echo request and waits for the reply
PING = """
import socket, sys, time
from pathlib import Path
from tests.bpf.http_early import enter
enter()
Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
protocol = socket.IPPROTO_ICMPV6 if ":" in sys.argv[1] else socket.IPPROTO_ICMP
with socket.socket(family, socket.SOCK_DGRAM, protocol) as pinger:
    pinger.settimeout(60)
    try:
        pinger.connect((sys.argv[1], int(sys.argv[2])))
    except PermissionError:
        time.sleep(20)
    pinger.send((b"\\x80" if ":" in sys.argv[1] else b"\\x08") + bytes(6) + b"\\1")
    assert pinger.recv(100)
"""


@pytest.mark.skipif(_kernel() < (6, 1), reason="this kernel asks no program about ping sockets")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_connects_a_ping_socket_is_told_of_without_a_port_and_killed_by_a_rule(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any, host: str
) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    agent = start_agent("guard")
    for port in ("0", "9"):  # which means nothing
        assert service.start(sys.executable, "-c", PING, host, port).wait(60) == 0
    agent.call("flush")
    told = logs(receiver, "network.connect")
    agent.call("off")
    killing = start_agent("guard", *policy(tmp_path, ("connect", host, "kill")))
    assert service.start(sys.executable, "-c", PING, host, "0").wait(60) == -9
    killing.call("flush")
    denied = logs(receiver, "network.connect")[len(told) :]
    assert [each["guard.action"] for each in (*told, *denied)] == ["report"] * 2 + ["kill"]
    for each in (*told, *denied):
        assert (each["network.transport"], each["network.peer.address"]) == ("icmp", host)
        assert "network.peer.port" not in each


# connects, and becomes another program at once
CONNECT_THEN_BECOME = """
import os, socket, sys
with socket.socket() as client:
    client.connect_ex((sys.argv[1], int(sys.argv[2])))
os.execv("/bin/true", ["/bin/true"])
"""


def test_a_connect_is_told_of_the_program_that_made_it(
    service: Any, start_agent: Any, receiver: Any
) -> None:
    agent = start_agent("guard")  # drained a second later
    process = service.start(sys.executable, "-c", CONNECT_THEN_BECOME, "127.0.0.1", "9")
    assert process.wait(60) == 0
    agent.call("flush")
    assert [each["process.executable.path"] for each in logs(receiver, "process.exec")] == [
        os.path.realpath(sys.executable), os.path.realpath("/bin/true"),
    ]  # fmt: skip
    (connect,) = logs(receiver, "network.connect")
    assert connect["process.pid"] == process.pid
    assert connect["process.executable.path"] == os.path.realpath(sys.executable)
