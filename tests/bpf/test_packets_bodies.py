"""How long messages are, and where they end: the programs of `http` on crafted packets."""

from __future__ import annotations

import time

import pytest

from tests.bpf.http_bench import OK, Bench, answer, get, post
from tests.bpf.packets import ipv4

pytestmark = pytest.mark.bpf

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FIRST_BYTE = "http.response.time_to_first_byte_ns"
UPLOAD = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"5\r\nhello\r\n5\r\nagain\r\n0\r\n\r\n"
LONG = b"Cookie: " + b"c" * 400 + b"\r\n"  # a header's line


def test_a_body_that_looks_like_a_request_is_none(bench: Bench) -> None:
    bench.ask(post(b"", told=len(get())), get())
    bench.reply(OK)
    bench.ask(UPLOAD, get(), get())
    bench.reply(OK)
    bench.ask(get(b"/b"))
    bench.reply(answer(201))
    assert bench.counted() == {("POST", "/p", 200): 2, ("GET", "/b", 201): 1}
    assert bench.told("http.request.body.size") == [(len(get()),), (2 * len(get()),), (0,)]


def with_length(message: bytes, length: int, header: bytes = b"") -> bytes:
    more = header + b"Content-Length: %d\r\n\r\n" % length
    return message.removesuffix(b"\r\n") + more + b"q" * length


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (post(b"hello"), 5),
        (post(b"", told=9_999_999), 9_999_999),
        (post(b"", told=10_000_000), 10_000_000),
        (post(b"", told=3_000_000_000), 3_000_000_000),
        (post(b"hello", LONG), 5),
        (post(b"hello", LONG * 3), 5),
        (with_length(get(), 17), 17),
        (with_length(get(), 17, LONG), 17),
        (with_length(get(), 17, LONG * 3), 17),
        (with_length(get(b"/d", b"DELETE"), 3), 3),
        (with_length(get(b"/d", b"DELETE"), 3, LONG), 3),
        (get(), 0),
        (UPLOAD + BODY, len(BODY)),
        (UPLOAD.replace(b"Transfer", LONG + b"Transfer") + BODY, len(BODY)),
    ],
)
def test_sizes_of_requests(bench: Bench, message: bytes, size: int) -> None:
    bench.ask(message)
    bench.reply(OK)
    assert bench.told("http.request.body.size") == [(size,)]


def test_a_body_that_comes_behind_a_long_head_is_of_it(bench: Bench) -> None:
    """Clients send the body of a GET in a segment of its own."""
    message = with_length(get(), len(get(b"/no")), LONG).removesuffix(b"q" * len(get(b"/no")))
    bench.ask(message, get(b"/no"))
    bench.reply(OK)
    bench.ask(get(b"/b"))
    bench.reply(answer(201))
    assert bench.counted() == {("GET", "/a", 200): 1, ("GET", "/b", 201): 1}
    assert bench.told("http.request.body.size") == [(len(get(b"/no")),), (0,)]


def test_requests_behind_long_heads_in_one_segment(bench: Bench) -> None:
    long = get(b"/a").removesuffix(b"\r\n") + LONG + b"\r\n"
    bench.ask(long + with_length(get(b"/b"), 5, LONG) + long + get(b"/c"))
    bench.reply(OK, answer(201), OK, answer(202))
    assert bench.counted() == {
        ("GET", "/a", 200): 2, ("GET", "/b", 201): 1, ("GET", "/c", 202): 1,
    }  # fmt: skip
    assert bench.told("http.request.body.size") == [(0,), (5,), (0,), (0,)]
    assert bench.lost() == {}


def test_what_is_one_packet_here_and_several_on_the_wire(bench: Bench) -> None:
    """By GRO and GSO."""
    asked, answered = post(b"x" * 2000), answer(200, b"y" * 3000)
    bench.receive(ipv4(bench.flow.request(asked)), segments=2)
    bench.send(ipv4(bench.flow.response(answered)), segments=3)
    assert bench.counted() == {("POST", "/p", 200): 1}
    told = bench.told("http.request.body.size", "http.response.body.size")
    assert told == [(2000, 3000)]


def test_a_chunked_request_has_the_size_that_was_received_when_it_was_answered(
    bench: Bench,
) -> None:
    bench.ask(UPLOAD, *[BODY[i : i + 4] for i in range(0, len(BODY), 4)])
    bench.reply(b"HTTP/1.1 100 Continue\r\n\r\n", answer(201))
    bench.ask(UPLOAD + BODY[:10])
    bench.reply(answer(413))  # nobody waits for the rest
    bench.ask(get(b"/b"))
    bench.reply(OK)
    told = bench.told("http.response.status_code", "http.request.body.size")
    assert told == [(201, len(BODY)), (413, 10), (200, 0)]


def test_what_does_not_fit_into_the_queue_gives_its_size_to_no_other(bench: Bench) -> None:
    for _ in range(16):
        bench.ask(get())
    bench.ask(UPLOAD + BODY)
    bench.reply(*[OK] * 17)
    assert bench.told("http.request.body.size") == [(0,)] * 16
    assert bench.lost() == {"pipeline": 1}


def test_requests_in_one_segment_beyond_the_queue_are_lost_and_told(bench: Bench) -> None:
    bench.ask(get() * 17)
    bench.reply(*[OK] * 17)
    assert bench.counted() == {("GET", "/a", 200): 16}
    assert bench.lost() == {"pipeline": 1}


def test_a_response_to_what_was_no_request_is_told_as_lost(bench: Bench) -> None:
    bench.ask(get())
    (answered,) = bench.reply(OK)
    bench.ask(b"GE", get()[2:])  # torn: nobody knows what that is
    (unknown,) = bench.reply(b"HTTP/1.1 100 Continue\r\n\r\n", answer(201))[1:]
    bench.send(answered)
    bench.send(unknown)  # once more
    bench.reply(answer(408))  # of its own: the connection was idle
    bench.ask(get(b"/b"))
    bench.reply(answer(202))
    assert bench.counted() == {("GET", "/a", 200): 1, ("GET", "/b", 202): 1}
    assert bench.lost() == {"unseen": 1}


def test_a_response_to_no_request_behind_another_in_one_segment_is_lost_and_told(
    bench: Bench,
) -> None:
    bench.ask(get())
    bench.ask(b"GE", get()[2:])
    (packet,) = bench.reply(OK + answer(201))
    bench.send(packet)  # once more
    assert bench.counted() == {("GET", "/a", 200): 1}
    assert bench.lost() == {"unseen": 1}


def test_a_response_ends_with_its_last_byte(bench: Bench) -> None:
    bench.ask(get())
    text = answer(200, b"0123456789")
    head, first, second = text[:-10], text[-10:-5], text[-5:]
    sent = bench.reply(head, first)
    for packet in sent:
        bench.send(packet)
    assert bench.counted() == {}
    bench.reply(second)
    assert bench.counted() == {("GET", "/a", 200): 1}
    assert bench.told("http.response.body.size") == [(10,)]


@pytest.mark.parametrize("length", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("end", ["last byte", "FIN"])
def test_the_first_byte_of_a_response_is_told_apart_from_its_last(
    bench: Bench, length: bytes, end: str
) -> None:
    """Also that of one that is cut, and not that of an interim one before it."""
    bench.ask(post(b"", b"Expect: 100-continue\r\n", told=4))
    bench.reply(b"HTTP/1.1 100 Continue\r\n\r\n")
    bench.ask(b"body")
    asked = time.monotonic_ns()
    bench.reply(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n")
    begun = time.monotonic_ns()
    chunked = b"chunked" in length
    if end == "last byte":
        bench.reply(b"5\r\nhello\r\n0\r\n\r\n" if chunked else b"hello")
    else:
        bench.end(b"5\r\nhe" if chunked else b"he")
    ((first, error),) = bench.told(FIRST_BYTE, "error.type")
    (span,) = bench.spans
    assert asked < span.start_ns + first < begun < span.end_ns
    assert error == ("server_closed" if end == "FIN" else None)


def test_a_response_that_left_at_once_has_no_first_byte_of_its_own(bench: Bench) -> None:
    text = answer(200, b"0123456789")
    for pieces in ((text,), (text[:-5], text[-5:]), (text,)):
        bench.ask(get())
        bench.reply(*pieces)
    before, between, behind = (first for (first,) in bench.told(FIRST_BYTE))
    assert (before, behind) == (None, None)
    assert 0 < between < bench.spans[1].end_ns - bench.spans[1].start_ns


PIECES = {
    "as chunks": [CHUNKED, b"5\r\nhello\r\n", b"5\r\nagain\r\n", b"0\r\n\r\n"],
    "with the head": [CHUNKED + BODY],
    "with an end that is torn": [CHUNKED, BODY[:-4], BODY[-4:-2], b"\r", b"\n"],
    "by the byte": [CHUNKED, *[BODY[i : i + 1] for i in range(len(BODY))]],
    "with an end of its own": [CHUNKED + BODY[:-5], BODY[-5:]],
}


@pytest.mark.parametrize("pieces", PIECES)
def test_a_chunked_response_ends_with_its_last_chunk(bench: Bench, pieces: str) -> None:
    bench.ask(get())
    sent = bench.reply(*PIECES[pieces][:-1])
    for packet in sent:
        bench.send(packet)  # once more
    assert bench.counted() == {}
    bench.reply(PIECES[pieces][-1])
    assert bench.counted() == {("GET", "/a", 200): 1}
    assert bench.told("http.response.body.size") == [(len(BODY),)]


def test_an_empty_chunked_response_ends_at_once(bench: Bench) -> None:
    for pieces in ((CHUNKED, b"0\r\n\r\n"), (CHUNKED + b"0\r\n\r\n",)):
        bench.ask(get())
        bench.reply(*pieces)
    assert bench.counted() == {("GET", "/a", 200): 2}
    assert bench.told("http.response.body.size") == [(5,), (5,)]


def test_a_chunk_whose_text_ends_like_the_last_chunk_is_not_the_last(bench: Bench) -> None:
    """Lines of a table, each ended as HTTP ends its own."""
    bench.ask(get())
    bench.reply(CHUNKED, b"6\r\na,10\r\n\r\n", b"6\r\nb,20\r\n\r\n")
    assert bench.counted() == {}
    bench.reply(b"0\r\n\r\n")
    assert bench.counted() == {("GET", "/a", 200): 1}
    assert bench.told("http.response.body.size") == [(2 * 11 + 5,)]


def test_a_body_whose_end_was_not_seen_ends_before_the_next_response(bench: Bench) -> None:
    body = b"0\r\nTrailer: x\r\n\r\n"
    bench.ask(get(b"/a"))
    bench.reply(CHUNKED + body)
    bench.ask(get(b"/b"))
    bench.reply(answer(201))
    assert bench.counted() == {("GET", "/a", 200): 1, ("GET", "/b", 201): 1}
    assert bench.told("http.response.body.size") == [(len(body),), (2,)]


def test_a_body_has_no_size_where_the_next_response_may_be_in_it(bench: Bench) -> None:
    """That one begins in the segment in which a chunked body ends: it is taken for body."""
    bench.ask(get(b"/a"), get(b"/b"), get(b"/c"))
    bench.reply(CHUNKED, BODY + answer(201), answer(202))
    assert bench.counted() == {("GET", "/a", 200): 1, ("GET", "/b", 202): 1}
    assert bench.told("http.response.body.size") == [(None,), (2,)]


@pytest.mark.parametrize("asked", [UPLOAD, post(b"", told=3 * 2**30)], ids=["chunked", "told"])
def test_a_request_behind_an_upload_that_sequence_numbers_do_not_span(
    bench: Bench, asked: bytes
) -> None:
    bench.ask(asked)
    bench.flow.received += 3 * 2**30
    bench.reply(answer(201))
    bench.ask(get(b"/b"))
    bench.reply(OK)
    assert bench.counted() == {("POST", "/p", 201): 1, ("GET", "/b", 200): 1}
    assert bench.lost() == {}


UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        ([UNTIL_CLOSED, b"x" * 100, b"y" * 50], 150),
        ([UNTIL_CLOSED + b"x" * 100], 100),
        ([UNTIL_CLOSED], 0),
        ([CHUNKED, b"0\r\nTrailer: x\r\n\r\n"], 17),
    ],
)
def test_a_response_without_a_length_ends_with_what_the_server_sends_last(
    bench: Bench, pieces: list[bytes], size: int
) -> None:
    """Its socket may be released before: then nothing else comes of it."""
    bench.ask(get())
    bench.reply(*pieces[:-1])
    assert bench.counted() == {}
    bench.end(pieces[-1])
    assert bench.counted() == {("GET", "/a", 200): 1}
    told = bench.told("http.response.body.size", "error.type")
    assert told == [(size, None)]


@pytest.mark.parametrize("whole", [CHUNKED + BODY, answer(200, b"x" * 100)])
def test_a_response_that_a_server_cuts_is_an_error(bench: Bench, whole: bytes) -> None:
    bench.ask(get())
    bench.reply(whole[:-20])
    bench.end(whole[-20:-10])
    assert bench.counted() == {("GET", "/a", 200): 1}
    told = bench.told("http.response.body.size", "error.type")
    assert told == [(None, "server_closed")]
