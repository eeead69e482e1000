"""Requests that end after their server closed its end, or because nothing reaches their client."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

import pytest

from tests.bpf.http_left import await_events, reset_at_close, serve
from tests.bpf.http_seen import ends
from tests.bpf.loopback import await_closed
from tests.waiting import until

pytestmark = pytest.mark.bpf

# In a network namespace of its own: a client whose socket drops what is sent to it, and that no
# route leads to when that is sent again. The kernel's error says so then, and not that it gave up.
VANISHED = """
import ctypes, errno, socket, struct, subprocess, sys

def ip(words):
    subprocess.run(["ip", *words.split()], check=True)

def deafen(client):
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF_RET of nothing
    filtered = struct.pack("HP", 1, ctypes.addressof(drop))
    client.setsockopt(socket.SOL_SOCKET, 26, filtered)  # SO_ATTACH_FILTER

ip("link set lo up")
for last in (1, 2):
    ip(f"address add 198.51.100.{last}/32 dev lo")
if sys.argv[1] == "EHOSTUNREACH":
    ip("route add unreachable 198.51.100.2/32")
server = socket.create_server(("198.51.100.1", 0))
client = socket.create_connection(server.getsockname(), 10, ("198.51.100.2", 0))
client.sendall(b"GET /vanished HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
connection, _ = server.accept()
connection.recv(4096)
deafen(client)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
ip("address delete 198.51.100.2/32 dev lo")
connection.settimeout(60)
try:
    connection.recv(1)
except OSError as error:
    print(errno.errorcode[error.errno or 0])
    sys.exit(errno.errorcode[error.errno or 0] != sys.argv[1])
sys.exit("it ended by a FIN")
"""


@pytest.fixture
def unanswered(service: Any) -> int:
    return serve(service)


@pytest.mark.parametrize("path", ["/large", "/endless", "/torn_large"])
def test_a_response_that_still_left_when_the_server_closed_and_is_cut_then(
    start_agent: Any, receiver: Any, unanswered: int, path: str
) -> None:
    """By the client, or by the kernel, where the server had not read all of the request."""
    agent = start_agent("http")
    for method, body in [("GET", 0)] * 5 + [("POST", 150_000)] * 5:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", unanswered))
            own_port = client.getsockname()[1]
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {body}\r\n\r\n"
            with contextlib.suppress(ConnectionError):
                client.sendall(head.encode() + bytes(body))
            await_closed(unanswered, own_port)
            reset_at_close(client)
    assert await_events(agent, 10)["lost"] == 0
    assert ends(receiver) == {
        (path, 200, "connection_reset"): 5, (path, 200, "server_closed"): 5,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/large", "/endless", "/torn_large"])
def test_a_server_ended_what_its_kernel_resets_for_an_upload_that_goes_on(
    start_agent: Any, receiver: Any, unanswered: int, path: str
) -> None:
    """It had read all that was there when it closed, and what it had answered still left."""
    agent = start_agent("http", "--sample", "1")
    for before in range(5):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", unanswered))
            client.sendall(f"POST {path} HTTP/1.1\r\nContent-Length: 9\r\n\r\nsome".encode())
            await_closed(unanswered, client.getsockname()[1])
            assert agent.call("stats")["events"] == before
            client.sendall(b" more")
            assert until(lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    assert await_events(agent, 5)["lost"] == 0
    assert ends(receiver) == {(path, 200, "server_closed"): 5}
    assert {receiver.attributes(span)["error.type"] for span in receiver.spans} == {"server_closed"}


@pytest.mark.parametrize("path", ["/held", "/large"])
def test_a_response_that_is_not_taken_until_the_kernel_gives_up(
    start_agent: Any, receiver: Any, unanswered: int, path: str
) -> None:
    """Where the server waits for its client, and where it has closed its end before."""
    agent = start_agent("http", "--sample", "1")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", unanswered))
        client.sendall(f"GET {path}?impatient HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await_events(agent, 1)["lost"] == 0
    assert ends(receiver) == {(path, 200, "timeout"): 1}
    assert [receiver.attributes(span)["error.type"] for span in receiver.spans] == ["timeout"]


@pytest.mark.parametrize("told", ["EHOSTUNREACH", "ENETUNREACH"])
def test_a_client_that_vanished_is_given_up_whatever_the_kernel_calls_it(
    start_agent: Any, receiver: Any, service: Any, told: str
) -> None:
    agent = start_agent("http", "--sample", "1")
    process = service.start("unshare", "--net", sys.executable, "-c", VANISHED, told)
    assert process.wait(60) == 0, process.log.read_text()
    assert await_events(agent, 1)["lost"] == 0
    assert ends(receiver) == {("/vanished", 200, "timeout"): 1}
    assert [receiver.attributes(span)["error.type"] for span in receiver.spans] == ["timeout"]
