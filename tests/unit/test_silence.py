"""Why nobody answers at a URL: what is said instead of an answer, by sockets that say it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from harness.node import silence


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


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
        ("http", b"", "closed the connection"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks no TLS"),
    ],
)
def test_what_comes_instead_of_an_answer_is_told(
    listening: socket.socket, scheme: str, words: bytes, why: str
) -> None:
    thread = says(listening, words)
    told = silence.reason(url(listening, scheme))
    thread.join(10)
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
