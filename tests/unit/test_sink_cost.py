"""What the sink does for a post: so little, and no more for many spans than for few.

A tenth of a core at 20,000 spans a second is a time, which no test asserts (`ci/bench_receiver.py`
measures it). What it comes from is counted: calls, copies, and that nothing there can read spans.
"""

from __future__ import annotations

import asyncio
import gc
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.linux import processes
from harness.stack.grpc import PATHS, Calls
from harness.stack.http import Connection
from harness.stack.sink import Sink
from harness.wire.spool import read_spool

RATE, BATCH = 20_000, 512  # spans a second, and in a post of agents' exporters
CALLS = 100_000 * BATCH // RATE  # a post: in a tenth of a core so many take a microsecond each
SERVICE = next(path for path, told in PATHS.items() if told == "/v1/traces")
HEAD = [
    (":method", "POST"), (":scheme", "http"), (":path", SERVICE), (":authority", "127.0.0.1"),
    ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "of-a-test"),
]  # fmt: skip

Posting = Callable[[bytes], Callable[[], None]]
"""Of a message: what gives it to the sink, as it comes from a socket."""


class Line(asyncio.Transport):
    """What asyncio has between a client and the sink."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._protocol: Any = Connection(
            sink.answer, sink.note, lambda: Calls(sink.answer, sink.note)
        )
        self._written = bytearray()
        self._protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another one reads from now on."""
        self._protocol = protocol

    def write(self, data: Any) -> None:
        """To the client."""
        self._written += data

    def come(self, data: bytes) -> None:
        """From the client."""
        self._protocol.data_received(data)

    def answered(self) -> bytes:
        """What was written since it was asked."""
        found = bytes(self._written)
        self._written.clear()
        return found


def _http(sink: Sink) -> Posting:
    line = Line(sink)

    def posting(body: bytes) -> Callable[[], None]:
        head = b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n"
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        return lambda: line.come(data)

    return posting


def _grpc(sink: Sink) -> Posting:
    line, client = Line(sink), H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    for _ in range(2):  # its settings, and that the sink's were understood
        line.come(client.data_to_send())
        client.receive_data(line.answered())

    def posting(body: bytes) -> Callable[[], None]:
        stream = client.get_next_available_stream_id()
        client.send_headers(stream, HEAD)
        client.send_data(stream, struct.pack(">BI", 0, len(body)) + body, end_stream=True)
        data = client.data_to_send()
        return lambda: line.come(data)

    return posting


WAYS = pytest.mark.parametrize("way", [_http, _grpc])
# of a post, at once; they were 3 and 7
COPIES: dict[Callable[[Sink], Posting], int] = {_http: 5, _grpc: 9}


def _spans(number: int, size: int = 0) -> bytes:
    """A post of so many spans; if a size is given the last one has an attribute that fills it."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add().scope_spans.add()
    for index in range(number):
        span = group.spans.add(
            trace_id=index.to_bytes(16, "big"), span_id=index.to_bytes(8, "big"),
            name="GET /api/users/<id>", kind="SPAN_KIND_SERVER",
        )  # fmt: skip
        for key in ("http.request.method", "url.path", "http.route", "server.address"):
            span.attributes.add(key=key).value.string_value = f"{key} {index}"
    if size:
        filling = span.attributes.add(key="filling").value
        filling.string_value = "x" * (size - len(request.SerializeToString()))
        over = len(request.SerializeToString()) - size  # its lengths, and those around it
        filling.string_value = filling.string_value[over:]
    return request.SerializeToString()


def _calls(act: Callable[[], None]) -> int:
    """How many functions are called by it, Python's and C's."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


@WAYS
def test_many_spans_take_as_many_calls_as_one_and_these_are_few(
    way: Callable[[Sink], Posting], tmp_path: Path
) -> None:
    many = _spans(BATCH)
    one = _spans(1, len(many))
    assert len(one) == len(many)
    found: list[int] = []
    for body in (one, many):
        posting = way(Sink(tmp_path / f"spool-{len(found)}"))
        posting(body)()  # the first one of a connection does more
        found.append(_calls(posting(body)))
        kept = [each.body for each in read_spool(tmp_path / f"spool-{len(found) - 1}")]
        assert kept == [body, body]
    assert found[0] == found[1]
    assert 0 < found[0] < CALLS


@WAYS
def test_a_post_is_copied_a_few_times(way: Callable[[Sink], Posting], tmp_path: Path) -> None:
    body = _spans(BATCH)
    posting = way(Sink(tmp_path / "spool"))
    posting(body)()
    give = posting(body)
    tracemalloc.start()
    try:
        give()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) < peak < COPIES[way] * len(body)


def test_the_sink_has_nothing_that_could_read_what_it_takes() -> None:
    """No protobuf is even loaded there."""
    loaded = "import sys, harness.stack.sink; print(*sys.modules)"
    found = set(processes.run([sys.executable, "-c", loaded]).stdout.split())
    assert "harness.stack.sink" in found
    assert not {name for name in found if name.startswith(("google.protobuf", "opentelemetry"))}
    assert "harness.meters.otlp" not in found
