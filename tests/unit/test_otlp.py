"""How an agent talks to its receiver: connections, answers in part, what can never be sent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from harness.agent.errors import AgentError, LaterError, RefusedError
from harness.agent.origin import Origin
from harness.agent.otlp import Exporter
from harness.agent.telemetry import Buckets, Log, Point, Readings, Span, counter, gauge, histogram
from tests.unit.outboxes import Drained
from tests.waiting import PATIENCE_SECONDS

HTTP, GUARD = (Origin(name, "shop", lambda: 4711, name) for name in ("http", "guard"))
SPAN = (HTTP, [Span("GET /", 0, 1, {})])
Answer = tuple[int, dict[str, str], bytes]
FINE: Answer = (200, {}, b"")


class Receiver:
    """Answers what it is told to, in turn and then FINE; keeps connections, and counts them."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked.append((self.path, dict(self.headers), body))
                status, headers, said = receiver.answers.pop(0) if receiver.answers else FINE
                self.send_response(status)
                for name, value in {"Content-Length": str(len(said)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)
                self.close_connection = "X-Cut" in headers  # without saying so

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def exporter(receiver: Receiver) -> Iterator[Exporter]:
    exporter = Exporter(receiver.url)
    yield exporter
    exporter.close()


def test_a_connection_is_kept(receiver: Receiver, exporter: Exporter) -> None:
    for _ in range(3):
        exporter.send_spans([SPAN])
    assert (len(receiver.asked), receiver.connections) == (3, 1)


def test_one_that_the_receiver_cut_is_made_anew(receiver: Receiver, exporter: Exporter) -> None:
    receiver.answers = [(200, {"X-Cut": "1"}, b"")]
    exporter.send_spans([SPAN])
    exporter.send_spans([SPAN])
    assert (len(receiver.asked), receiver.connections) == (2, 2)


def test_collectors_are_told_apart_in_one_request(receiver: Receiver, exporter: Exporter) -> None:
    seen = Readings([gauge("seen", "1", [Point({}, 1)])], [gauge("own", "1", [Point({}, 2)])])
    exporter.send_metrics([(HTTP, seen), (GUARD, seen)])
    ((path, _, body),) = receiver.asked
    assert path == "/v1/metrics"
    request = ExportMetricsServiceRequest.FromString(body)
    found = []
    for each in request.resource_metrics:
        attributes = {one.key: one.value.string_value for one in each.resource.attributes}
        (scope,) = each.scope_metrics
        found.append((scope.scope.name, attributes["service.instance.id"], scope.metrics[0].name))
    assert found == [
        ("harness.agent", "http", "own"), ("harness.http", "http", "seen"),
        ("harness.agent", "guard", "own"), ("harness.guard", "guard", "seen"),
    ]  # fmt: skip


def test_equal_values_of_other_types_stay_what_they_are(
    receiver: Receiver, exporter: Exporter
) -> None:
    values: list[Any] = [1, True, 1.0, "1", ["1", "2"]]
    for value in (*values, *reversed(values)):
        exporter.send_logs([(GUARD, [Log("e", time.monotonic_ns(), {"a": value})])])
    found = []
    for _, _, body in receiver.asked:
        (record,) = (
            ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records
        )
        found.append(record.attributes[0].value.WhichOneof("value"))
    kinds = ["int_value", "bool_value", "double_value", "string_value", "array_value"]
    assert found == kinds + kinds[::-1]


def test_what_is_rejected_of_what_is_taken_is_told(receiver: Receiver, exporter: Exporter) -> None:
    otlp = {"Content-Type": "application/x-protobuf"}
    spans, metrics = ExportTraceServiceResponse(), ExportMetricsServiceResponse()
    profiles = ExportProfilesServiceResponse()
    profiles.partial_success.rejected_profiles = 4
    spans.partial_success.rejected_spans = 3
    metrics.partial_success.rejected_data_points = 2
    receiver.answers = [
        (200, otlp, spans.SerializeToString()),
        (200, otlp, metrics.SerializeToString()),
        (200, otlp, profiles.SerializeToString()),
        (200, {"Content-Type": "text/plain"}, b"\x0a\x02\x08\x07"),
        (200, otlp, b"\xff"),
    ]
    readings = Readings([counter("c", "1", [Point({}, 1)])])
    assert exporter.send_spans([SPAN]) == 3
    assert exporter.send_metrics([(HTTP, readings)]) == 2
    assert exporter.send_profiles([(HTTP, [Drained("drain", 5)])]) == 4
    assert receiver.asked[-1][::2] == ("/v1development/profiles", b"drain")
    assert [exporter.send_spans([SPAN]) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("3600", 30.0), ("tomorrow", 0.0)])
def test_a_receiver_may_ask_to_be_left_alone(
    receiver: Receiver, exporter: Exporter, asked: str, seconds: float
) -> None:
    receiver.answers = [(503, {"Retry-After": asked}, b"")]
    with pytest.raises(LaterError) as caught:
        exporter.send_spans([SPAN])
    assert caught.value.seconds == seconds


def test_what_cannot_be_encoded_is_refused_and_not_tried_for_ever(
    receiver: Receiver, exporter: Exporter
) -> None:
    with pytest.raises(RefusedError, match="cannot be encoded"):
        exporter.send_spans([(HTTP, [Span("GET /", 0, 1, {"size": 1 << 64})])])
    assert receiver.asked == []


def test_of_metrics_only_the_point_that_cannot_be_encoded_is_left_out(
    receiver: Receiver, exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    """For it is there again at every export: totals do not get smaller."""
    bad = 2**64 - 4
    readings = Readings(
        [
            counter("udp.io", "By", [Point({"a": 1}, 5), Point({"a": 2}, bad), Point({}, 7)]),
            gauge("rtt", "s", [Point({"a": 1 << 64}, 0.5), Point({}, 0.25)]),
            histogram("d", "s", [1.0], [Buckets({}, [1, 2], 0.5), Buckets({}, [-1, 2], 0.5)]),
        ],
        own=[counter("own", "1", [Point({}, 3)])],
    )
    other = Readings([counter("other", "1", [Point({}, 9)])])
    for _ in range(2):
        assert exporter.send_metrics([(HTTP, readings), (GUARD, other)]) == 3
        request = ExportMetricsServiceRequest.FromString(receiver.asked[-1][2])
        metrics = [
            each
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for each in scope.metrics
        ]
        told = {each.name: each for each in metrics}
        assert [point.as_int for point in told["udp.io"].sum.data_points] == [5, 7]
        assert [point.as_double for point in told["rtt"].gauge.data_points] == [0.25]
        assert [list(p.bucket_counts) for p in told["d"].histogram.data_points] == [[1, 2]]
        assert [told[name].sum.data_points[0].as_int for name in ("own", "other")] == [3, 9]
    assert [record.args for record in caplog.records] == [("d",), ("rtt",), ("udp.io",)]


def test_a_path_and_headers_of_ones_own(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x,x-tenant=shop")
    exporter = Exporter(f"{receiver.url}/below/")
    exporter.send_spans([SPAN])
    exporter.close()
    ((path, headers, _),) = receiver.asked
    assert path == "/below/v1/traces"
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer x", "shop")


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "ftp://there", "http://", "http://a:b"])
def test_what_is_no_url_is_said_at_the_start(url: str) -> None:
    with pytest.raises(AgentError, match="is no URL of an OTLP/HTTP receiver"):
        Exporter(url)


def test_tls_is_spoken_if_asked_for() -> None:
    first: list[bytes] = []

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            first.append(connection.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        receiver = threading.Thread(target=answer, daemon=True)
        receiver.start()
        exporter = Exporter(f"https://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(AgentError, match="did not reach https"):
            exporter.send_spans([SPAN])
        receiver.join(PATIENCE_SECONDS)
    assert first == [b"\x16"]  # a handshake, where HTTP would begin with POST
