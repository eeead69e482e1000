"""The sink takes OTLP by gRPC on the same port, from gRPC's own client and OpenTelemetry's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from h2.connection import H2Connection
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from harness.meters.coverage import count
from harness.meters.posts import posted
from harness.model import Part
from harness.stack.grpc import PATHS
from harness.stack.http import HTTP2
from harness.wire.spool import read_all, read_spool
from tests.e2e.running_sink import Running
from tests.waiting import until

pytestmark = pytest.mark.e2e
TRACES = next(path for path, told in PATHS.items() if told == "/v1/traces")
Call = Callable[..., bytes]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "spool", tmp_path / "log")
    yield running
    running.stop()


@pytest.fixture
def channel(sink: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{sink.port}") as opened:
        yield opened


def raw(channel: grpc.Channel, path: str) -> Call:
    """Calls it with bytes, and gives the bytes of the answer."""
    call: Call = channel.unary_unary(path, None, None)
    return call


def refused(call: Call, body: bytes = b"x", **options: object) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as error:
        call(body, timeout=60, **options)
    code: grpc.StatusCode = error.value.code()
    return code


@pytest.mark.parametrize("path", list(PATHS))
def test_each_signal_arrives_as_it_does_by_http(
    sink: Running, channel: grpc.Channel, path: str
) -> None:
    for number in range(23):
        assert raw(channel, path)(b"body %d" % number, timeout=60) == b""
    records = list(read_spool(sink.spool))
    assert [each.body for each in records] == [b"body %d" % number for number in range(23)]
    assert {each.path for each in records} == {PATHS[path]}
    assert all(each.sender.startswith("grpc-python/") for each in records)
    assert sum(sink.stats()["posts"].values()) == 23


def test_success_is_told_without_a_partial_one(channel: grpc.Channel) -> None:
    told = LogsServiceStub(channel).Export(ExportLogsServiceRequest(), timeout=60)
    assert told == ExportLogsServiceResponse()
    assert not told.HasField("partial_success")


@pytest.mark.parametrize("size", [0, 1, 70_000, 20 << 20])
def test_messages_of_any_size_arrive_whole(sink: Running, channel: grpc.Channel, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"\0" * (size % 256)
    raw(channel, TRACES)(body, timeout=60)
    (record,) = read_spool(sink.spool)
    assert record.body == body


def test_compressed_messages_are_kept_as_they_came(sink: Running, channel: grpc.Channel) -> None:
    body = b"telemetry" * 1000
    for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        raw(channel, TRACES)(body, timeout=60, compression=how)
    records = list(read_spool(sink.spool))
    assert [each.encoding for each in records] == ["gzip", "deflate"]
    assert all(len(each.body) < 1000 and each.content() == body for each in records)


def test_many_calls_at_a_time_are_all_answered(sink: Running, channel: grpc.Channel) -> None:
    call = channel.unary_unary(TRACES, None, None)
    asked = [call.future(b"%d" % number, timeout=60) for number in range(230)]
    assert {each.result() for each in asked} == {b""}
    assert {each.body for each in read_spool(sink.spool)} == {b"%d" % n for n in range(230)}


def test_what_nobody_knows_is_unimplemented_and_noted(sink: Running, channel: grpc.Channel) -> None:
    assert refused(raw(channel, "/made.up.Service/Export")) == grpc.StatusCode.UNIMPLEMENTED
    ((told, number),) = posted(sink.spool, 0).items()
    assert (told.outcome, told.said, number) == ("refused", "404 /made.up.Service/Export", 1)
    assert raw(channel, TRACES)(b"fine", timeout=60) == b""


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("429", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("503", grpc.StatusCode.UNAVAILABLE),
        ("reset", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_it_refuses_on_command(
    sink: Running, channel: grpc.Channel, how: str, code: grpc.StatusCode
) -> None:
    assert sink.refuse(how=how) == 200
    assert refused(raw(channel, TRACES)) == code
    assert list(read_spool(sink.spool)) == []
    assert sink.stats()["refused"] >= 1  # the client may try a cut connection again
    assert sink.tell("DELETE") == 200
    assert raw(channel, TRACES)(b"kept", timeout=60, wait_for_ready=True) == b""
    assert [each.body for each in read_spool(sink.spool)] == [b"kept"]


def test_it_never_answers_on_command(sink: Running, channel: grpc.Channel) -> None:
    assert sink.refuse(how="silence") == 200
    asked = channel.unary_unary(TRACES, None, None).future(b"x", timeout=600)
    assert until(lambda: sink.stats()["refused"] == 1)
    with pytest.raises(grpc.FutureTimeoutError):
        asked.result(timeout=0.3)
    asked.cancel()


def call(state: H2Connection, stream: int, body: bytes, *, ended: bool, content_type: str) -> None:
    state.send_headers(stream, [
        (":method", "POST"), (":path", TRACES), (":scheme", "http"), (":authority", "x"),
        ("content-type", content_type), ("user-agent", "by-hand"),
    ])  # fmt: skip
    state.send_data(stream, body, end_stream=ended)


def headed(sink: Running, body: bytes, *, ended: bool, content_type: str) -> socket.socket:
    """A connection on which a call of one frame was sent, by hand."""
    client, state = socket.create_connection(("127.0.0.1", sink.port), timeout=60), H2Connection()
    state.initiate_connection()
    call(state, 1, body, ended=ended, content_type=content_type)
    client.sendall(state.data_to_send())
    return client


@pytest.mark.parametrize("last", ["reset", "goaway", "nonsense"])
def test_what_comes_together_is_taken_whatever_comes_last(sink: Running, last: str) -> None:
    """As a client sends that gives a call up, or closes, right behind others."""
    state = H2Connection()
    state.initiate_connection()
    for stream in (1, 3):
        body = struct.pack(">BI", 0, 1) + b"%d" % stream
        call(state, stream, body, ended=True, content_type="application/grpc")
    call(state, 5, b"", ended=False, content_type="application/grpc")
    if last == "reset":
        state.reset_stream(3)
    elif last == "goaway":
        state.close_connection()
    sent = state.data_to_send() + (b"\0\0\1" + b"\0" * 6 + b"x" if last == "nonsense" else b"")
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        client.sendall(sent)
        assert [each[0] for each in awaited(sink, 2)[:2]] == [200, 200]
    assert [each.body for each in read_spool(sink.spool)] == [b"1", b"3"]
    assert awaited(sink, 3)[2] == (0, "/v1/traces", "by-hand")


def awaited(sink: Running, number: int = 1) -> list[tuple[int, str, str]]:
    until(lambda: len(list(read_all(sink.spool))) >= number)
    return [(each.status, each.path, each.sender) for each in read_all(sink.spool)]


def test_a_call_that_is_broken_off_is_noted(sink: Running) -> None:
    body = struct.pack(">BI", 0, 100) + b"half"
    headed(sink, body, ended=False, content_type="application/grpc").close()
    assert awaited(sink) == [(0, "/v1/traces", "by-hand")]
    assert sink.stats()["broken"] == 1


@pytest.mark.parametrize("body", [b"", b"123", b"1234", struct.pack(">BI", 0, 100) + b"half",
                                  struct.pack(">BI", 0, 1) + b"two"])  # fmt: skip
def test_what_is_no_message_is_refused(sink: Running, body: bytes) -> None:
    with headed(sink, body, ended=True, content_type="application/grpc"):
        assert awaited(sink) == [(400, "/v1/traces", "by-hand")]


def test_what_is_not_grpc_or_not_http_is_refused(sink: Running) -> None:
    with headed(sink, b"x", ended=True, content_type="text/plain"):
        assert awaited(sink) == [(415, "/v1/traces", "by-hand")]
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        client.sendall(HTTP2 + b"\0\0\1" + b"\0" * 6 + b"x")  # data of no stream
        while client.recv(65536):  # until it hangs up
            pass
    assert sink.post("/v1/logs", b"fine")[0] == 200


def test_http2_is_known_however_its_first_bytes_come(sink: Running) -> None:
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        for index in range(len(HTTP2)):
            client.sendall(HTTP2[index : index + 1])
        assert client.recv(9)[3] == 4  # a SETTINGS frame
    assert sink.post("/v1/logs", b"fine")[0] == 200


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_spans_and_metrics_of_the_opentelemetry_sdk_are_counted(
    sink: Running, compression: grpc.Compression
) -> None:
    where = {"endpoint": f"http://127.0.0.1:{sink.port}", "compression": compression}
    resource = Resource({"service.instance.id": "theirs"})
    traces = TracerProvider(shutdown_on_exit=False, resource=resource)
    traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**where)))
    for _ in range(23):
        traces.get_tracer("test").start_span("GET /", kind=SpanKind.SERVER).end()
    traces.shutdown()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(**where))
    meters = MeterProvider([reader], shutdown_on_exit=False, resource=resource)
    meters.get_meter("test").create_histogram("http.server.request.duration", "s").record(0.1)
    meters.shutdown()
    assert count(sink.spool, Part("test", instance="theirs"), "server_spans") == 23
    assert count(sink.spool, Part("test", instance="theirs"), "requests") == 1
    assert count(sink.spool, Part("test", instance="ours"), "server_spans") == 0
    assert {(each.outcome, each.instance) for each in posted(sink.spool, 0)} == {
        ("taken", "theirs")
    }


def test_an_exporter_that_tries_again_is_told_of(sink: Running) -> None:
    """503 while the sink is sick, then taken: once in the counts, and refused in what is told."""
    assert sink.refuse(how="503") == 200
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{sink.port}")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("test").start_span("GET /", kind=SpanKind.SERVER)

    def recover() -> None:
        until(lambda: sink.stats()["refused"])
        sink.tell("DELETE")

    healer = threading.Thread(target=recover)
    healer.start()
    span.end()  # waits for its export
    healer.join()
    provider.shutdown()
    told = {each.outcome: number for each, number in posted(sink.spool, 0).items()}
    assert told.pop("refused") >= 1
    assert told == {"taken": 1}
    assert count(sink.spool, Part("test"), "server_spans") == 1
    (kept,) = read_spool(sink.spool)
    (sent,) = ExportTraceServiceRequest.FromString(kept.content()).resource_spans
    assert [each.name for each in sent.scope_spans[0].spans] == ["GET /"]
