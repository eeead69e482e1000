"""How requests end that `http` sees: with their last byte, or with their connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.http_seen import ends
from tests.bpf.http_unanswered import LARGE
from tests.bpf.loopback import await_closed, await_received
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
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
ip("address delete 198.51.100.2/32 dev lo")
connection.settimeout(20)
try:
    connection.recv(1)
except OSError as error:
    print(errno.errorcode[error.errno or 0])
    sys.exit(errno.errorcode[error.errno or 0] != sys.argv[1])
sys.exit("it ended by a FIN")
"""

UNANSWERED = Path(__file__).with_name("http_unanswered.py")


@pytest.fixture
def unanswered(service: Any) -> int:
    """The port of a server that does not answer each request."""
    return int(service.serve(sys.executable, str(UNANSWERED)))


def leave(port: int, path: str, *, read: bool = True, reset: bool = False) -> None:
    """Ask, wait for the end of the connection or not, and end it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
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


def test_a_request_without_a_response_ends_with_its_connection(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    agent = start_agent("http", "--sample", "1")
    for path in ("/close", "/half", "/until"):
        for _ in range(5):
            leave(unanswered, path)
    for _ in range(4):
        leave(unanswered, "/gone", read=False)
        leave(unanswered, "/reset", read=False, reset=True)
    assert await_events(agent, 23)["events"] == 23
    assert ends(receiver) == {
        ("other", 0, "server_closed"): 5,
        ("/half", 200, "server_closed"): 5,
        ("/until", 200, ""): 5,
        ("other", 0, "client_closed"): 4,
        ("other", 0, "connection_reset"): 4,
    }
    failed = [receiver.attributes(span) for span in receiver.spans if span.status.code == 2]
    assert Counter((each["url.path"], each["error.type"]) for each in failed) == {
        ("/close", "server_closed"): 5,
        ("/half", "server_closed"): 5,
        ("/gone", "client_closed"): 4,
        ("/reset", "connection_reset"): 4,
    }


def test_what_is_never_answered_takes_no_room_of_routes(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    agent = start_agent("http")
    for number in range(600):
        leave(unanswered, f"/x{number}x", read=False, reset=True)
    head = b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for whole in (True, False):
        with socket.create_connection(("127.0.0.1", unanswered), timeout=10) as client:
            client.sendall(head + (b"0\r\n\r\n" if whole else b"5\r\nhe"))
            if whole:
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            await_received(client)
            reset_at_close(client)
    leave(unanswered, "/until")
    assert await_events(agent, 603)["lost"] == 0
    assert ends(receiver) == {
        ("other", 0, "connection_reset"): 600,
        ("/upload", 200, ""): 1,
        ("/upload", 0, "connection_reset"): 1,  # a route that is known keeps its failures
        ("/until", 200, ""): 1,
    }


def test_a_chunked_response_that_is_cut_is_an_error_and_a_whole_one_is_none(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    agent = start_agent("http", "--sample", "1")
    for path in ("/chunks", "/trailers", "/torn"):
        for _ in range(7):
            leave(unanswered, path)
    assert await_events(agent, 21)["events"] == 21
    assert ends(receiver) == {
        ("/chunks", 200, "server_closed"): 7,
        ("/trailers", 200, ""): 7,
        ("/torn", 200, ""): 7,
    }
    sizes = Counter(
        (span.name, receiver.attributes(span).get("http.response.body.size"))
        for span in receiver.spans
    )
    assert sizes == {
        ("GET /chunks", None): 7,
        ("GET /trailers", len(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")): 7,
        ("GET /torn", len(b"5\r\nhello\r\n0\r\n\r\n")): 7,
    }


def test_a_chunked_request_has_the_size_of_what_was_received(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    """Also where the client ends its side, whose FIN is acknowledged with the last byte."""
    body = b"".join(b"%x\r\n%s\r\n" % (n, b"x" * n) for n in (5, 70_000, 1)) + b"0\r\n\r\n"
    agent = start_agent("http", "--sample", "1")
    for half in (False, True):
        with socket.create_connection(("127.0.0.1", unanswered), timeout=10) as client:
            client.sendall(b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            if half:
                client.shutdown(socket.SHUT_WR)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert agent.call("flush")["events"] == 2
    sizes = [receiver.attributes(span)["http.request.body.size"] for span in receiver.spans]
    assert sizes == [len(body)] * 2


def test_a_response_that_still_leaves_when_the_server_closes_is_whole(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    """The client reads late: most of it waits to be sent when the socket is released."""
    agent = start_agent("http", "--sample", "1")
    for before, path in enumerate(["/large", "/endless", "/torn_large"] * 3):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
            client.connect(("127.0.0.1", unanswered))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await_closed(unanswered, client.getsockname()[1])
            assert agent.call("stats")["events"] == before
            while client.recv(65536):
                pass
        assert await_events(agent, before + 1)["events"] == before + 1
    assert ends(receiver) == {
        ("/large", 200, ""): 3, ("/endless", 200, ""): 3, ("/torn_large", 200, "server_closed"): 3,
    }  # fmt: skip
    sizes = {
        (span.name, receiver.attributes(span).get("http.response.body.size"))
        for span in receiver.spans
    }
    assert sizes == {
        ("GET /large", LARGE), ("GET /endless", LARGE), ("GET /torn_large", None),
    }  # fmt: skip


def test_a_response_whose_client_resets_the_connection_is_no_whole_one(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    """Most of /held waits to be sent; nobody knows how long /begun would have been."""
    agent = start_agent("http", "--sample", "1")
    for path in ("/held", "/begun"):
        for _ in range(5):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reset_at_close(client)
                client.settimeout(10)
                client.connect(("127.0.0.1", unanswered))
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert client.recv(1) == b"H"
    for _ in range(5):
        leave(unanswered, "/shut")
    assert await_events(agent, 15)["events"] == 15
    assert ends(receiver) == {
        ("/held", 200, "connection_reset"): 5,
        ("/begun", 200, "connection_reset"): 5,
        ("/shut", 200, ""): 5,
    }
    sizes = Counter(
        (span.name, receiver.attributes(span).get("http.response.body.size"))
        for span in receiver.spans
    )
    assert sizes == {("GET /held", None): 5, ("GET /begun", None): 5, ("GET /shut", 4): 5}


def test_requests_of_a_server_that_is_killed(
    start_agent: Any, receiver: Any, service: Any, unanswered: int
) -> None:
    agent = start_agent("http")
    clients = [socket.create_connection(("127.0.0.1", unanswered), timeout=10) for _ in range(23)]
    for client in clients:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(4096)  # it was accepted: who was not has no socket to be released
        client.sendall(b".")
        while client.recv(4096)[-1:] != b"n":
            pass
        client.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        await_received(client)
    assert agent.call("flush")["events"] == 23
    service.started[0].kill()
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(4096) == b""
    assert await_events(agent, 46)["events"] == 46
    assert ends(receiver) == {
        ("/wait", 200, ""): 23,
        ("other", 0, "server_closed"): 23,
    }


def test_requests_that_wait_to_be_accepted_when_their_server_is_killed_or_their_client_goes(
    start_agent: Any, receiver: Any, service: Any
) -> None:
    """Their sockets are nobody's: they are never released."""
    port = int(service.serve(sys.executable, str(UNANSWERED), "deaf"))
    agent = start_agent("http", "--sample", "1")
    for _ in range(5):
        leave(port, "/impatient", read=False, reset=True)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(23)]
    for client in clients:
        client.sendall(b"GET /queued HTTP/1.1\r\nHost: x\r\n\r\n")
        await_received(client)
    assert await_events(agent, 5)["events"] == 5
    service.started[0].kill()
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(4096) == b""
    assert await_events(agent, 28)["lost"] == 0
    assert ends(receiver) == {
        ("other", 0, "connection_reset"): 5, ("other", 0, "server_closed"): 23,
    }  # fmt: skip
    assert Counter(receiver.attributes(span)["url.path"] for span in receiver.spans) == {
        "/impatient": 5, "/queued": 23,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/large", "/endless", "/torn_large"])
def test_a_response_that_still_left_when_the_server_closed_and_is_cut_then(
    start_agent: Any, receiver: Any, unanswered: int, path: str
) -> None:
    """By the client, or by the kernel, where the server had not read all of the request."""
    agent = start_agent("http")
    for method, body in [("GET", 0)] * 5 + [("POST", 150_000)] * 5:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10)
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
            client.settimeout(10)
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
    assert process.wait(30) == 0, process.log.read_text()
    assert await_events(agent, 1)["lost"] == 0
    assert ends(receiver) == {("/vanished", 200, "timeout"): 1}
    assert [receiver.attributes(span)["error.type"] for span in receiver.spans] == ["timeout"]


def test_a_duration_is_that_of_the_whole_response(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    agent = start_agent("http", "--sample", "1")
    with socket.create_connection(("127.0.0.1", unanswered), timeout=10) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(4096)
        assert agent.call("flush")["events"] == 0
        before = time.time_ns()
        client.sendall(b".")
        while client.recv(4096)[-1:] != b"n":
            pass
    assert agent.call("flush")["events"] == 1
    (span,) = receiver.spans
    first = receiver.attributes(span)["http.response.time_to_first_byte_ns"]
    start = span.start_time_unix_nano
    assert start < start + first < before < span.end_time_unix_nano
