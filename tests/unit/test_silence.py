"""Why nobody answers at a URL: what is said instead of an answer, by sockets that say it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from harness.node import silence
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server
        with suppress(OSError):  # a test may have closed it
            server.shutdown(socket.SHUT_RDWR)  # who waits for a connection is woken


def url(server: socket.socket, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.getsockname()[1]}/"


def says(server: socket.socket, words: bytes) -> threading.Thread:
    """One connection, which reads something, is told that, and ends."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(words)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("scheme", "words", "why"),
    [
        ("http", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", ""),
        ("http", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n", "no HTTP/1"),  # HTTP/2's SETTINGS
        ("http", b"220 mail ESMTP\r\n", "no HTTP/1, in which it was asked ('220 mail ESMTP')"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks no TLS"),
    ],
)
def test_what_comes_instead_of_an_answer_is_told(
    listening: socket.socket, scheme: str, words: bytes, why: str
) -> None:
    thread = says(listening, words)
    told = silence.reason(url(listening, scheme))
    thread.join(PATIENCE_SECONDS)
    assert (why in told) if why else not told


def test_who_says_nothing_took_the_connection(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SECONDS", 0.05)
    assert "took the connection, and said nothing" in silence.reason(url(listening))


def test_a_port_of_nobody_has_no_connection(listening: socket.socket) -> None:
    place = url(listening)
    listening.close()
    assert silence.reason(place) == "There is no connection: Connection refused."


def answers(server: socket.socket, say: Callable[[bytes], bytes]) -> None:
    """Every connection is told what `say` makes of what it asked, and ends."""

    def serve() -> None:
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(say(connection.recv(4096)))

    threading.Thread(target=serve, daemon=True).start()


def test_who_hangs_up_at_a_header_is_asked_without(listening: socket.socket) -> None:
    """As Redis does, whose defence against web pages knows the header Host."""
    answers(listening, lambda asked: b"" if b"Host:" in asked else b"-ERR wrong number of\r\n")
    assert "no HTTP/1, in which it was asked ('-ERR wrong number of')" in silence.reason(
        url(listening)
    )


def test_who_only_hangs_up_may_still_be_starting(listening: socket.socket) -> None:
    answers(listening, lambda _: b"")
    assert silence.reason(url(listening)) == "It closed the connection instead of an answer."
    asked = silence.Asked(url(listening), 60.0, Steps(10.0))
    assert [bool(asked.why()), asked.over] == [True, False]


class Steps:
    """Each look at this clock takes so long."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._now = seconds, 0.0

    def __call__(self) -> float:
        self._now += self._seconds
        return self._now


def test_what_is_no_http_is_not_waited_for(listening: socket.socket) -> None:
    answers(listening, lambda _: b"-ERR\r\n")
    asked = silence.Asked(url(listening), 3600.0, Steps(0.9))
    looks = 0
    while not asked.over:
        assert asked.why()
        looks += 1
    assert 1 < looks < 5
    what, next_step = asked.told("redis-server")
    assert what.startswith("'redis-server' runs, but http://127.0.0.1:")
    assert "speaks HTTP/1" in next_step


def test_what_was_no_http_once_has_its_time_again(listening: socket.socket) -> None:
    said = iter([b"-ERR\r\n", b"", b"", b"-ERR\r\n"])
    answers(listening, lambda _: next(said))
    asked = silence.Asked(url(listening), 3600.0, Steps(0.9))
    for wrong in (True, False, True):
        asked.why()
        assert (asked.is_other, asked.over) == (wrong, False)
