"""The programs of `http` on crafted packets of one connection, by BPF_PROG_TEST_RUN.

tests/bpf/http_packets.bpf.c says what differs in them: where the state of the connection is kept.
"""

from __future__ import annotations

import pytest

from harness.agent import http_native
from harness.agent.http_spans import Codec, InPython
from harness.agent.libbpf import Object
from harness.wire import objects
from tests.bpf.http_bench import OK, Bench, answer, get, post
from tests.bpf.packets import (
    CLIENT,
    HOP_BY_HOP,
    IPV4,
    IPV6,
    OPTIONS,
    ROUTING,
    SERVER,
    ipv4,
    ipv6,
    tcp,
)  # fmt: skip

pytestmark = pytest.mark.bpf

FRAMES = {
    "IPv4": (IPV4, lambda s: ipv4(s), b""),
    "IPv4 with options": (IPV4, lambda s: ipv4(s, b"\1" * 8), b""),
    "TCP with options": (IPV4, lambda s: ipv4(s), b"\1\1\x08\x0a" + bytes(8)),
    "IPv6": (IPV6, lambda s: ipv6(s), b""),
    "IPv6, hop-by-hop": (IPV6, lambda s: ipv6(s, [HOP_BY_HOP]), b""),
    "IPv6, three headers": (IPV6, lambda s: ipv6(s, [HOP_BY_HOP, OPTIONS, ROUTING]), b""),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_request_and_its_response(bench: Bench, frame: str) -> None:
    protocol, wrap, options = FRAMES[frame]
    bench.receive(wrap(tcp(get(), 1, 1, options=options)), protocol)
    assert bench.counted() == {}
    bench.send(wrap(tcp(OK, 1, 60, options=options, sent=True)), protocol)
    assert bench.counted() == {("GET", "/a", 200): 1}
    assert bench.told("url.path", "http.response.body.size", "server.port") == [("/a", 2, SERVER)]
    assert CLIENT != SERVER


@pytest.mark.parametrize("length", [0, 1, 7, 8, 15])
def test_too_few_bytes_are_no_request(bench: Bench, length: int) -> None:
    bench.ask(get()[:length])
    bench.reply(OK)
    assert bench.counted() == {}


def test_a_torn_request_line_has_the_route_that_is_there(bench: Bench) -> None:
    bench.ask(get(b"/long/" + b"x" * 40))
    bench.reply(OK)
    bench.ask(b"GET /orders/torn", b"-here HTTP/1.1\r\n\r\n")
    bench.reply(OK)
    assert set(bench.counted()) == {
        ("GET", "/long/" + "x" * 40, 200),
        ("GET", "/orders/torn", 200),
    }
    (_, path), (_, torn) = bench.told("http.route", "url.path")
    assert (path, torn) == ("/long/" + "x" * 40, "/orders/torn")  # and nothing of the one before


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE"]
)
def test_methods(bench: Bench, method: str) -> None:
    bench.ask(get(b"/m", method.encode()))
    bench.reply(OK)
    assert bench.counted() == {(method, "/m", 200): 1}


@pytest.mark.parametrize(
    "method", ["PROPFIND", "PURGE", "QUERY", "MKCOL", "REPORT", "VERSION-CONTROL"]
)
def test_methods_that_are_not_in_the_conventions(bench: Bench, method: str) -> None:
    bench.ask(get(b"/dav/7?a=1", method.encode()))
    bench.reply(OK)
    assert bench.counted() == {("_OTHER", "/dav/{id}", 200): 1}
    told = bench.told("http.request.method_original", "url.path", "url.query")
    assert told == [(method, "/dav/7", "a=1")]
    assert [span.name for span in bench.spans] == ["HTTP /dav/{id}"]


@pytest.mark.parametrize(
    "line",
    [b"EHLO mail.example.org", b"GET some-key-of-redis", b"get /a HTTP/1.1", b"GET /a HTTP/2.0",
     b"*2\r\n$3\r\nGET\r\n$5\r\nhello", b"\x16\x03\x01\x02\x00GET /a HTTP/1.1"],
)  # fmt: skip
def test_other_protocols_are_no_requests(bench: Bench, line: bytes) -> None:
    bench.ask(line + b"\r\nmore of it\r\n")
    bench.reply(OK)
    assert bench.counted() == {}


TARGETS = {
    "/café/menu".encode(): ("/café/menu", "/café/menu", None),
    "/日本/7".encode(): ("/日本/{id}", "/日本/7", None),
    b"http://shop:8080/absolute/42?x=1": ("/absolute/{id}", "/absolute/42", "x=1"),
    b"http://shop": ("/", "/", None),
    b"*": ("*", "*", None),
    b"/s3?a=b&Signature=top&X-Amz-Signature=secret&sig": (
        "/s3", "/s3", "a=b&Signature=REDACTED&X-Amz-Signature=REDACTED&sig",
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_targets(bench: Bench, target: bytes) -> None:
    bench.ask(get(target))
    bench.reply(OK)
    assert bench.told("http.route", "url.path", "url.query") == [TARGETS[target]]


def test_what_is_sent_again_is_counted_once(bench: Bench) -> None:
    asked = bench.ask(get())
    bench.receive(asked[0])
    answered = bench.reply(answer(200))
    bench.receive(asked[0])  # as if the response, which acknowledges it, had been lost
    bench.send(answered[0])
    assert bench.counted() == {("GET", "/a", 200): 1}
    bench.ask(get(b"/b"))
    bench.send(answered[0])
    assert bench.counted() == {("GET", "/a", 200): 1}
    bench.reply(answer(201))
    assert bench.counted() == {("GET", "/a", 200): 1, ("GET", "/b", 201): 1}


THREE = {("GET", "/a", 200): 1, ("GET", "/b", 201): 1, ("GET", "/c", 202): 1}
PIPELINED = [get(b"/a"), get(b"/b"), get(b"/c")]
ANSWERS = [answer(200), answer(201), answer(202)]


@pytest.mark.parametrize("asked", ["apart", "together"])
@pytest.mark.parametrize("answered", ["apart", "together", "torn"])
def test_pipelined_requests(bench: Bench, asked: str, answered: str) -> None:
    flow = bench.flow
    packets = [b"".join(PIPELINED)] if asked == "together" else PIPELINED
    for each in packets:  # sent before anything was received
        bench.receive(ipv4(tcp(each, flow.received, 7)))
        flow.received += len(each)
    text = b"".join(ANSWERS)
    pieces = {"apart": ANSWERS, "together": [text], "torn": [text[:38], text[38:]]}
    bench.reply(*pieces[answered])
    assert bench.counted() == THREE
    assert bench.told("url.path") == [("/a",), ("/b",), ("/c",)]
    bench.ask(get(b"/a"))
    bench.reply(answer(200))
    assert bench.counted() == {**THREE, ("GET", "/a", 200): 2}


def test_pipelined_by_a_client_that_reads_meanwhile(bench: Bench) -> None:
    """Two are sent, the first is answered, then comes the third: the second still waits."""
    for each in PIPELINED[:2]:
        bench.receive(ipv4(tcp(each, bench.flow.received, bench.flow.sent)))
        bench.flow.received += len(each)
    bench.reply(ANSWERS[0])
    bench.ask(PIPELINED[2])
    bench.reply(*ANSWERS[1:])
    assert bench.counted() == THREE
    assert bench.lost() == {}


def test_pipelined_behind_a_body_and_sent_again_with_it(bench: Bench) -> None:
    text = post(b"body") + get(b"/b")
    (packet,) = bench.ask(text)
    bench.receive(packet)
    bench.reply(answer(200), answer(201))
    bench.receive(packet)
    longer = ipv4(tcp(text + get(b"/c"), 1000, bench.flow.sent))
    bench.receive(longer)  # a client puts together what it sends again
    bench.reply(answer(202))
    expected = {("POST", "/p", 200): 1, ("GET", "/b", 201): 1, ("GET", "/c", 202): 1}
    assert bench.counted() == expected


def test_more_pipelined_requests_than_a_queue_takes_are_lost_and_told(bench: Bench) -> None:
    for _ in range(20):
        bench.receive(ipv4(tcp(get(), bench.flow.received, 7)))
        bench.flow.received += len(get())
    bench.reply(*[OK] * 20)
    assert bench.counted() == {("GET", "/a", 200): 16}
    assert bench.lost() == {"pipeline": 4}
    bench.ask(get(b"/b"))
    bench.reply(OK)
    assert bench.counted() == {("GET", "/a", 200): 16, ("GET", "/b", 200): 1}


def test_a_response_that_is_not_known_as_one_spoils_no_other_request(bench: Bench) -> None:
    bench.ask(get(b"/a"))
    bench.reply(b"HTTP/1.1 ", b"200 OK\r\nContent-Length: 0\r\n\r\n")
    bench.ask(get(b"/b"))
    bench.reply(answer(201))
    assert bench.counted() == {("GET", "/b", 201): 1}
    assert bench.lost() == {"unseen": 1}


@pytest.mark.parametrize("together", [False, True])
def test_an_interim_response_is_not_the_response(bench: Bench, together: bool) -> None:
    bench.ask(post(b"", b"Expect: 100-continue\r\n", told=4))
    interim, final = b"HTTP/1.1 100 Continue\r\n\r\n", answer(201)
    if not together:
        bench.reply(interim)
    bench.ask(b"body")
    bench.reply(interim + final if together else final)
    assert bench.counted() == {("POST", "/p", 201): 1}
    bench.ask(get())
    bench.reply(OK)
    assert bench.counted() == {("POST", "/p", 201): 1, ("GET", "/a", 200): 1}
    assert bench.lost() == {}


@pytest.mark.parametrize("status", [204, 304, 101])
def test_responses_without_a_body(bench: Bench, status: int) -> None:
    bench.ask(get())
    bench.reply(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status)
    assert bench.counted() == {("GET", "/a", status): 1}


def test_what_is_asked_for_and_never_there_is_no_route(bench: Bench) -> None:
    for target, status in ((b"/wp-admin", 404), (b"/.env", 404), (b"/users/7", 200),
                           (b"/users/8", 404), (b"/cgi-bin", 405)):  # fmt: skip
        bench.ask(get(target))
        bench.reply(answer(status))
    assert bench.counted() == {
        ("GET", "other", 404): 2,
        ("GET", "other", 405): 1,
        ("GET", "/users/{id}", 200): 1,
        ("GET", "/users/{id}", 404): 1,
    }


@pytest.mark.parametrize("status", [401, 403, 410, 422, 429])
@pytest.mark.parametrize("proof", [201, 204, 303])
def test_what_only_ever_answers_with_the_clients_fault_is_no_route(
    bench: Bench, status: int, proof: int
) -> None:
    bench.ask(get(b"/a"))
    bench.reply(answer(status))
    bench.ask(get(b"/b"))
    bench.reply(answer(proof, b"").replace(b"HTTP/1.1", b"HTTP/1.0"))
    bench.ask(get(b"/b"))
    bench.reply(answer(status))
    assert bench.counted() == {
        ("GET", "other", status): 1,
        ("GET", "/b", proof): 1,
        ("GET", "/b", status): 1,
    }


@pytest.mark.parametrize("in_c", [True, False])
def test_more_spans_than_are_taken_at_once_come_whole_and_in_order(
    http_programs: Object, in_c: bool
) -> None:
    codec: Codec = http_native.codec(objects.folder()) if in_c else InPython()
    assert isinstance(codec, http_native.Native) is in_c
    bench = Bench(http_programs, codec)
    for _ in range(700):
        bench.ask(get())
        bench.reply(OK)
    assert bench.counted() == {("GET", "/a", 200): 700}
    starts = [span.start_ns for span in bench.spans]
    assert (len(starts), starts) == (700, sorted(starts))
    bench.close()
