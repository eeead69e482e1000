"""The `http` collector on the real kernel: exact numbers of requests in, exact numbers out."""

from __future__ import annotations

import http.client
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.agent.http_telemetry import DURATION_BOUNDS
from harness.linux import processes
from tests.bpf.http_asked import ask, connected, serve
from tests.bpf.http_seen import DURATION, counted

pytestmark = pytest.mark.bpf

EARLY = Path(__file__).with_name("http_early.py")


@pytest.fixture
def port(service: Any) -> int:
    return serve(service)


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    with connected(port) as connection:
        yield connection


# Has copies of what all sockets of the machine receive by TCP.
RAW = """
import json, socket
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
    print(json.dumps({"ready": True, "port": 0}), flush=True)
    while raw.recv(65536):
        pass
"""


def test_counts_exactly_23_requests(
    start_agent: Any,
    receiver: Any,
    service: Any,
    port: int,
    connection: http.client.HTTPConnection,
) -> None:
    agent = start_agent("http", "--sample", "1", "--service-name", "shop")
    before = time.time_ns()
    for number in range(23):
        ask(connection, "GET", f"/bytes/{number}?page=2")
    agent.call("flush")
    after = time.time_ns()
    assert counted(receiver) == {("GET", "/bytes/{id}", 200): 23}
    (point,) = receiver.points(DURATION)
    assert receiver.attributes(point) == {
        "http.request.method": "GET",
        "http.route": "/bytes/{id}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.port": port,
        "url.scheme": "http",
    }
    assert tuple(point.explicit_bounds) == DURATION_BOUNDS
    assert sum(point.bucket_counts) == 23
    (sizes,) = receiver.points("http.server.response.body.size")
    assert (sizes.count, sizes.sum) == (23, sum(range(23)))
    resource = receiver.resources[-1]
    assert resource["service.name"] == "shop"
    assert resource["process.pid"] == service.started[0].pid
    assert len(receiver.spans) == 23
    spans = [receiver.attributes(span) for span in receiver.spans]
    assert {span["url.path"] for span in spans} == {f"/bytes/{n}" for n in range(23)}
    assert {span["url.query"] for span in spans} == {"page=2"}
    for span in receiver.spans:
        assert before <= span.start_time_unix_nano < span.end_time_unix_nano <= after
    spent = sum(s.end_time_unix_nano - s.start_time_unix_nano for s in receiver.spans)
    assert point.sum == pytest.approx(spent / 1e9, abs=1e-6)
    (example,) = point.exemplars
    slowest = max(receiver.spans, key=lambda s: s.end_time_unix_nano - s.start_time_unix_nano)
    assert (example.trace_id, example.span_id) == (slowest.trace_id, slowest.span_id)
    taken = slowest.end_time_unix_nano - slowest.start_time_unix_nano
    assert example.as_double == pytest.approx(taken / 1e9)


def test_counts_a_new_connection_for_each_request(
    start_agent: Any, receiver: Any, port: int
) -> None:
    agent = start_agent("http")
    for _ in range(23):
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            ask(connection, "GET", "/")
    assert agent.call("flush")["events"] == 23
    assert counted(receiver) == {("GET", "/", 200): 23}


def test_sees_ipv6(start_agent: Any, receiver: Any, service: Any) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 on this machine")
    port = serve(service, "::1")
    agent = start_agent("http")
    with closing(http.client.HTTPConnection("::1", port)) as connection:
        for _ in range(23):
            ask(connection, "GET", "/six")
    agent.call("flush")
    assert counted(receiver) == {("GET", "/six", 200): 23}


def test_tells_methods_and_statuses_apart(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http", "--sample", "1")
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"):
        ask(connection, method, "/status/200")
    for status in (204, 404, 404, 500, 503):
        ask(connection, "GET", f"/status/{status}")
    agent.call("flush")
    route = "/status/{id}"
    assert counted(receiver) == {
        **{(m, route, 200): 1 for m in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH")},
        ("GET", route, 204): 1,
        ("GET", route, 404): 2,
        ("GET", route, 500): 1,
        ("GET", route, 503): 1,
    }
    failed = [span for span in receiver.spans if span.status.code == 2]
    assert sorted(receiver.attributes(span)["error.type"] for span in failed) == ["500", "503"]


def test_sizes_of_bodies(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http", "--sample", "1")
    for size in (0, 5, 70_000, 3_000_000):
        assert ask(connection, "POST", "/upload", body=b"x" * size) == b"%d" % size
    ask(connection, "HEAD", "/bytes/500")
    ask(connection, "GET", "/bytes/200000")
    agent.call("flush")
    sent = {receiver.attributes(span)["http.request.body.size"] for span in receiver.spans}
    assert sent == {0, 5, 70_000, 3_000_000}
    by_method = {
        receiver.attributes(point)["http.request.method"]: point.sum
        for point in receiver.points("http.server.response.body.size")
    }
    assert by_method == {"POST": 1 + 1 + 5 + 7, "HEAD": 0, "GET": 200_000}


def test_a_chunked_response_is_one_request_of_what_was_transferred(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http")
    for _ in range(23):
        assert ask(connection, "GET", "/chunked") == b"hello"
    agent.call("flush")
    assert counted(receiver) == {("GET", "/chunked", 200): 23}
    (sizes,) = receiver.points("http.server.response.body.size")
    assert (sizes.count, sizes.sum) == (23, 23 * len(b"5\r\nhello\r\n0\r\n\r\n"))


def test_100_continue_is_not_the_response(start_agent: Any, receiver: Any, port: int) -> None:
    agent = start_agent("http", "--sample", "1")
    for _ in range(23):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(
                b"POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
            )
            assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
            client.sendall(b"GET ")  # a body that looks like a request
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
    agent.call("flush")
    assert counted(receiver) == {("POST", "/upload", 200): 23}


def test_a_request_longer_than_a_segment(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http")
    long = {f"X-{number}": "y" * 2000 for number in range(25)}
    for _ in range(23):
        ask(connection, "GET", "/long", headers=long)
    agent.call("flush")
    assert counted(receiver) == {("GET", "/long", 200): 23}


def test_agrees_with_an_independent_client(start_agent: Any, receiver: Any, port: int) -> None:
    """hey counts what it completed; every one of them must be seen, and no other."""
    agent = start_agent("http")
    url = f"http://127.0.0.1:{port}/hey"
    said = processes.run(["hey", "-n", "2000", "-c", "8", url], timeout=120).stdout
    completed = int(re.search(r"\[200\]\s+(\d+) responses", said)[1])  # type: ignore[index]
    assert completed == 2000
    assert agent.call("flush")["events"] == completed
    assert counted(receiver) == {("GET", "/hey", 200): completed}


def test_does_not_see_another_cgroup(
    start_agent: Any, make_service: Callable[[str], Any], receiver: Any, port: int
) -> None:
    agent = start_agent("http")
    other = serve(make_service("other"))
    for number in (other, port):
        with closing(http.client.HTTPConnection("127.0.0.1", number)) as connection:
            ask(connection, "GET", f"/port-{number}x")
    agent.call("flush")
    assert counted(receiver) == {("GET", f"/port-{port}x", 200): 1}


def test_off_counts_nothing_and_on_counts_again(
    start_agent: Any, receiver: Any, service: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http", "--off")
    ask(connection, "GET", "/before")
    for _ in range(3):
        agent.call("on")
        assert attached(service) == 3
        agent.call("on")
        for _ in range(23):
            ask(connection, "GET", "/on")
        agent.call("off")
        agent.call("off")
        assert attached(service) == 0
        ask(connection, "GET", "/off")
    agent.call("flush")
    assert counted(receiver) == {("GET", "/on", 200): 69}


def test_a_request_cut_by_off_leaves_no_false_duration(
    start_agent: Any, receiver: Any, service: Any, port: int
) -> None:
    agent = start_agent("http")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        agent.call("off")
        agent.call("on")
        client.sendall(b"body")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    agent.call("flush")
    assert counted(receiver) == {}


EARLY_ENDS = {"answer": ("", 200), "close": ("other", 0)}  # what is never answered is no route


@pytest.mark.parametrize("mode", ["defer", "fast"])
@pytest.mark.parametrize("how", EARLY_ENDS)
def test_a_request_that_arrives_before_its_connection_has_a_socket(
    start_agent: Any, receiver: Any, service: Any, mode: str, how: str
) -> None:
    agent = start_agent("http", "--sample", "1")
    process = service.start(sys.executable, str(EARLY), mode, "23", how)
    assert processes.ended(process, 60) == 0, service.log.read_text()
    assert agent.call("flush")["lost"] == 0
    route, status = EARLY_ENDS[how]
    assert counted(receiver) == {("GET", route or "/first", status): 23}
    assert {receiver.attributes(span)["url.path"] for span in receiver.spans} == {"/first"}
    if mode == "fast":  # but for the first one, which has no cookie yet
        assert "22 in a SYN" in service.log.read_text()


@pytest.mark.parametrize("family", ["IPv4", "IPv6", "both"])
@pytest.mark.parametrize("how", EARLY_ENDS)
def test_requests_to_two_servers_from_one_port_before_either_has_a_socket(
    start_agent: Any, receiver: Any, service: Any, family: str, how: str
) -> None:
    if family != "IPv4" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 on this machine")
    agent = start_agent("http", "--sample", "1")
    process = service.start(sys.executable, str(EARLY), family, "23", how)
    assert processes.ended(process, 60) == 0, service.log.read_text()
    flushed = agent.call("flush")
    assert (flushed["events"], flushed["lost"]) == (46, 0)
    assert {status for _, _, status in counted(receiver)} == {EARLY_ENDS[how][1]}
    spans = [receiver.attributes(span) for span in receiver.spans]
    told = Counter((span["url.path"], span["server.port"]) for span in spans)
    assert sorted(path for path, _ in told) == ["/first", "/second"]
    assert set(told.values()) == {23}
    assert len({port for _, port in told}) == 2


def attached(service: Any) -> int:
    """How many programs are attached to the service's cgroup."""
    said = processes.run(["bpftool", "-j", "cgroup", "show", str(service.path)], check=False)
    return said.stdout.count('"id"')


def test_raw_sockets_add_nothing(
    service: Any, make_service: Any, start_agent: Any, receiver: Any, port: int
) -> None:
    other = serve(make_service("other"))
    service.serve(sys.executable, "-c", RAW)
    agent = start_agent("http")
    for each in (port, other):
        with closing(http.client.HTTPConnection("127.0.0.1", each, timeout=60)) as connection:
            for _ in range(5):
                ask(connection, "GET", "/bytes/7")
    counts = agent.call("flush")
    assert counted(receiver) == {("GET", "/bytes/{id}", 200): 5}
    assert (counts["events"], counts["lost"]) == (5, 0)
