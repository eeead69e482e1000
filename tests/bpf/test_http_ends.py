"""How requests end that `http` sees: with their last byte, or with their connection."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections import Counter
from typing import Any

import pytest

from tests.bpf.http_left import UNANSWERED, await_events, leave, reset_at_close, serve
from tests.bpf.http_seen import ends
from tests.bpf.http_unanswered import LARGE
from tests.bpf.loopback import await_closed, await_received

pytestmark = pytest.mark.bpf


@pytest.fixture
def unanswered(service: Any) -> int:
    return serve(service)


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
        with socket.create_connection(("127.0.0.1", unanswered), timeout=60) as client:
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
        with socket.create_connection(("127.0.0.1", unanswered), timeout=60) as client:
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
            client.settimeout(60)
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
                client.settimeout(60)
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
    clients = [socket.create_connection(("127.0.0.1", unanswered), timeout=60) for _ in range(23)]
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
    clients = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(23)]
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


def test_a_duration_is_that_of_the_whole_response(
    start_agent: Any, receiver: Any, unanswered: int
) -> None:
    agent = start_agent("http", "--sample", "1")
    with socket.create_connection(("127.0.0.1", unanswered), timeout=60) as client:
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
