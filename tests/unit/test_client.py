"""Programs of the stack that die while they answer: whoever asked says so, or has no answer."""

from __future__ import annotations

import dataclasses
import socket
import threading
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ComponentError
from harness.stack import client, counters, questions, readback, results
from harness.stack.backends import Backends
from harness.stack.config import Stack
from harness.stack.config.description import KEEPS
from tests.unit.stacked import GRAFANAS

ALL = {*GRAFANAS.values(), *KEEPS.values()}
HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data": '
LESS = b"HTT"


class Dying:
    """Takes each request, says what a test wants, and closes the connection."""

    def __init__(self) -> None:
        self.last_words, self.requests = b"", list[bytes]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = b""
                while not _whole(request) and (more := connection.recv(65536)):
                    request += more
                self.requests.append(request)
                connection.sendall(self.last_words)


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return bool(end) and len(body) >= int(length or 0)


@pytest.fixture
def dying() -> Iterator[Dying]:
    server = Dying()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def stack(dying: Dying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr(questions, "PAUSE_SECONDS", 0.0)
    uses = ("otelcol.http", "otelcol.metrics", *(f"{name}.http" for name in ALL))
    return Stack(tmp_path, keeps=GRAFANAS, ports=dict.fromkeys(uses, dying.port))


def _others(stack: Stack) -> Backends:
    return Backends(dataclasses.replace(stack, keeps=KEEPS))


ASKED: dict[str, tuple[Callable[[Stack], Any], str]] = {
    "counters": (lambda s: counters.of_collector(s, "traces"), "/metrics does not answer"),
    "backend": (lambda s: counters.of_backend(s, "logs"), "/metrics does not answer"),
    "search": (lambda s: Backends(s).traces.spans("x"), "Tempo does not answer"),
    "jaeger": (lambda s: _others(s).traces.spans("x"), "Jaeger does not answer"),
    "lines": (lambda s: Backends(s).logs.lines("x", 0), "Loki does not answer"),
    "victorialogs": (lambda s: _others(s).logs.lines("x", 0), "VictoriaLogs does not answer"),
    "samples": (lambda s: Backends(s).metrics.counters("x", "y", 0), "Prometheus does not answer"),
    "taken": (lambda s: Backends(s).taken(), "/metrics does not answer"),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("words", [HALF, LESS, b""])
def test_whoever_dies_while_it_answers_is_named(
    stack: Stack, dying: Dying, name: str, words: bytes
) -> None:
    dying.last_words = words
    ask, said = ASKED[name]
    with pytest.raises(ComponentError, match=said):
        ask(stack)


@pytest.mark.parametrize("words", [HALF, LESS, b""])
def test_half_an_answer_is_none(stack: Stack, dying: Dying, words: bytes) -> None:
    dying.last_words = words
    assert client.ask(stack.otlp_url) is None
    assert Backends(stack).metrics.number("m", "ramp_", 60) is None
    for each in (Backends(stack), _others(stack)):
        assert each.logs.number("m", 60) is None
        assert each.traces.size("a") == 0
        assert not each.logs.has("m")
    assert not readback.found(stack, "logs", "m")


@pytest.mark.parametrize("words", [LESS, b""])
def test_a_collector_that_dies_has_taken_nothing(stack: Stack, dying: Dying, words: bytes) -> None:
    dying.last_words = words
    with pytest.raises(ComponentError, match="The Collector did not take traces at "):
        readback.send(stack, "traces", "ab" * 16)
    with pytest.raises(ComponentError, match="The Collector did not take them at "):
        results.send(stack.otlp_url, "r", ())
    assert [request.split()[1] for request in dying.requests] == [b"/v1/traces", b"/v1/metrics"]


def test_a_refusal_is_told_as_far_as_it_got(stack: Stack, dying: Dying) -> None:
    dying.last_words = b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nno such"
    with pytest.raises(ComponentError, match=r"Tempo refused a query. It said 400: no such"):
        Backends(stack).traces.spans("x")
    assert len(dying.requests) == 1


def test_a_refusal_of_which_nothing_can_be_read_is_one() -> None:
    class Gone:
        def read(self, *_: int) -> bytes:
            raise ConnectionResetError

        def close(self) -> None:
            pass

    error: Any = urllib.error.HTTPError("u", 503, "away", {}, Gone())  # type: ignore[arg-type]
    assert client.refusal(error) == "503: "


def test_an_answer_that_says_nothing_is_no_count(stack: Stack, dying: Dying) -> None:
    dying.last_words = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    assert Backends(stack).logs.number("m", 60) is None
    assert _others(stack).logs.number("m", 60) is None
