"""What collectors hand over, as a receiver decodes it; no kernel is needed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.agent.container import Container
from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError
from harness.agent.origin import Origin
from harness.agent.otlp import Exporter
from harness.agent.outbox import Outbox
from harness.agent.telemetry import (
    Buckets,
    Log,
    Metric,
    Point,
    Readings,
    Span,
    Telemetry,
    counter,
    gauge,
    histogram,
    level,
    unix_ns,
)


@pytest.fixture
def received() -> Iterator[tuple[str, dict[str, bytes]]]:
    bodies: dict[str, bytes] = {}

    def take(path: str, body: bytes) -> int:
        bodies[path] = body
        return 200

    with _serving(take) as url:
        yield url, bodies


@pytest.fixture
def answering() -> Iterator[Callable[[int], tuple[str, list[str]]]]:
    """A receiver that answers with a status, and which paths it was asked for."""
    with ExitStack() as ends:

        def start(status: int) -> tuple[str, list[str]]:
            asked: list[str] = []

            def answer(path: str, body: bytes) -> int:
                asked.append(path)
                return status

            return ends.enter_context(_serving(answer)), asked

        yield start


@contextmanager
def _serving(answer: Callable[[str, bytes], int]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answer(self.path, body))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


MINE = Origin("http", "shop", lambda: 4711)


def exported(
    received: tuple[str, dict[str, bytes]], telemetry: Telemetry, own: Sequence[Metric] = ()
) -> int:
    outbox = Outbox(Exporter(received[0]))
    outbox.put(MINE, telemetry, own)
    outbox.send(now=True)
    return outbox.tally(MINE).exported


def test_metrics_carry_resource_scope_and_temporality(received: Any) -> None:
    metrics = [
        counter("tcp.opened", "{connection}", [Point({"direction": "in"}, 23)]),
        gauge("tcp.rtt", "s", [Point({}, 0.5)]),
        histogram("http.duration", "s", (1, 2), [Buckets({"a": 1}, (3, 4, 5), 17.5)]),
    ]
    assert exported(received, Telemetry(metrics=metrics)) == 3
    request = ExportMetricsServiceRequest.FromString(received[1]["/v1/metrics"])
    (resource,) = request.resource_metrics
    named = {each.key: each.value for each in resource.resource.attributes}
    assert named["service.name"].string_value == "shop"
    assert named["process.pid"].int_value == 4711
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "harness.http"
    opened, rtt, duration = scope.metrics
    assert opened.sum.is_monotonic
    assert opened.sum.aggregation_temporality == 2  # cumulative
    assert opened.sum.data_points[0].as_int == 23
    assert rtt.gauge.data_points[0].as_double == 0.5
    (point,) = duration.histogram.data_points
    assert (point.count, point.sum, list(point.bucket_counts)) == (12, 17.5, [3, 4, 5])
    assert 0 < point.start_time_unix_nano < point.time_unix_nano
    assert not point.HasField("min")


def test_an_example_of_a_histogram_is_a_span(received: Any) -> None:
    started = time.monotonic_ns()
    span = Span("GET /", started, started + 1_500_000_000, {})
    metric = histogram("http.duration", "s", (1,), [Buckets({}, (0, 1), 1.5, span)])
    exported(received, Telemetry(metrics=[metric], spans=[span]))
    request = ExportMetricsServiceRequest.FromString(received[1]["/v1/metrics"])
    (point,) = request.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points
    (example,) = point.exemplars
    assert example.as_double == 1.5
    spans = ExportTraceServiceRequest.FromString(received[1]["/v1/traces"])
    (sent,) = spans.resource_spans[0].scope_spans[0].spans
    assert (example.trace_id, example.span_id) == (sent.trace_id, sent.span_id)


def test_a_level_may_fall(received: Any) -> None:
    exported(received, Telemetry(metrics=[level("memory", "By", [Point({}, 7)])]))
    request = ExportMetricsServiceRequest.FromString(received[1]["/v1/metrics"])
    (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
    assert not metric.sum.is_monotonic
    assert metric.sum.data_points[0].as_int == 7


def test_what_the_agent_says_of_itself_is_apart(received: Any) -> None:
    seen, own = gauge("seen", "1", [Point({}, 1)]), gauge("own", "1", [Point({}, 2)])
    outbox = Outbox(Exporter(received[0]))
    mine = Origin("http", "shop", lambda: 4711, "http-1")
    outbox.put(mine, Telemetry(metrics=[seen]), [own])
    outbox.send()
    assert outbox.tally(mine).exported == 1  # of what it was asked to see
    request = ExportMetricsServiceRequest.FromString(received[1]["/v1/metrics"])
    found = {}
    for resource in request.resource_metrics:
        (scope,) = resource.scope_metrics
        attributes = {each.key: each.value for each in resource.resource.attributes}
        found[scope.scope.name] = attributes, [metric.name for metric in scope.metrics]
    attributes, names = found["harness.agent"]
    assert names == ["own"]
    assert attributes["service.name"].string_value == "harness-agent"
    assert attributes["service.instance.id"].string_value == "http-1"
    assert attributes["process.pid"].int_value == os.getpid()
    assert found["harness.http"][1] == ["seen"]
    outbox.put(mine, Telemetry(), [own])
    outbox.send()
    assert outbox.tally(mine).exported == 1
    request = ExportMetricsServiceRequest.FromString(received[1]["/v1/metrics"])
    assert len(request.resource_metrics) == 1


def test_what_is_of_a_container_has_its_resource(received: Any) -> None:
    container, now = Container("c0ffee", "uid-1"), time.monotonic_ns()
    telemetry = Telemetry(
        metrics=[gauge("seen", "1", [Point({}, 1)])],
        contained={container: [gauge("seen", "1", [Point({}, 2), Point({"a": 1}, 3)])]},
        spans=[Span("GET /", now, now, {}), Span("GET /", now, now, {}, container=container)],
        logs=[Log("file.open", now, {}, container=container)],
    )
    assert exported(received, telemetry) == 3 + 2 + 1
    requests: dict[str, Any] = {
        "metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest,
        "logs": ExportLogsServiceRequest,
    }  # fmt: skip
    told = {}
    for signal, kind in requests.items():
        request = kind.FromString(received[1][f"/v1/{signal}"])
        (groups,) = (value for _, value in request.ListFields())
        told[signal] = [
            {each.key: each.value.string_value for each in group.resource.attributes}
            for group in groups
        ]
    own = {"container.id": "c0ffee", "k8s.pod.uid": "uid-1", "service.instance.id": "c0ffee"}
    for signal, resources in told.items():
        (found,) = (each for each in resources if "container.id" in each)
        assert own.items() <= found.items(), signal
        assert "service.name" not in found
        assert len(resources) == (1 if signal == "logs" else 2)
        others = [each for each in resources if each is not found]
        assert [each["service.name"] for each in others] == ["shop"] * len(others)


def test_spans_are_in_unix_time_and_keep_their_length(received: Any) -> None:
    started = time.monotonic_ns()
    span = Span("GET /", started, started + 1234, {"url.path": "/"}, error=True)
    before = unix_ns(started)
    assert exported(received, Telemetry(spans=[span])) == 1
    request = ExportTraceServiceRequest.FromString(received[1]["/v1/traces"])
    (found,) = request.resource_spans[0].scope_spans[0].spans
    assert found.end_time_unix_nano - found.start_time_unix_nano == 1234
    assert abs(found.start_time_unix_nano - before) < 1_000_000_000
    assert (found.kind, found.status.code) == (2, 2)  # SERVER, ERROR
    assert len(found.trace_id) == 16


def test_logs_carry_the_event_name(received: Any) -> None:
    log = Log("process.executed", time.monotonic_ns(), {"process.command_args": ["sh", "-c"]})
    assert exported(received, Telemetry(logs=[log])) == 1
    request = ExportLogsServiceRequest.FromString(received[1]["/v1/logs"])
    (found,) = request.resource_logs[0].scope_logs[0].log_records
    assert found.event_name == found.body.string_value == "process.executed"
    assert [v.string_value for v in found.attributes[0].value.array_value.values] == ["sh", "-c"]


def test_nothing_is_sent_when_there_is_nothing(received: Any) -> None:
    assert exported(received, Telemetry()) == 0
    assert received[1] == {}


def test_a_process_that_starts_later_is_named_later(received: Any) -> None:
    pids = iter([None, 23])
    exporter, mine = Exporter(received[0]), Origin("http", "shop", lambda: next(pids))
    for expected in (False, True):
        exporter.send_metrics([(mine, Readings([gauge("g", "1", [Point({}, 1)])]))])
        request = ExportMetricsServiceRequest.FromString(received[1]["/v1/metrics"])
        names = [each.key for each in request.resource_metrics[0].resource.attributes]
        assert ("process.pid" in names) is expected


def test_a_receiver_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.agent.posts._TIMEOUT_SECONDS", 0.1)
    exporter = Exporter("http://127.0.0.1:9")
    with pytest.raises(UnansweredError, match=r"did not reach http://127\.0\.0\.1:9"):
        exporter.send_metrics([(MINE, Readings([gauge("g", "1", [Point({}, 1)])]))])


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RefusedError), (404, RefusedError), (429, LaterError), (408, LaterError),
     (503, LaterError), (500, LaterError)],
)  # fmt: skip
def test_what_is_refused_is_asked_once_and_told_with_its_status(
    answering: Callable[[int], tuple[str, list[str]]], status: int, error: type[AgentError]
) -> None:
    url, asked = answering(status)
    exporter = Exporter(url)
    with pytest.raises(AgentError, match=f"answered with status {status}") as caught:
        exporter.send_spans([(MINE, [Span("GET /", 0, 1, {})])])
    assert type(caught.value) is error
    assert asked == ["/v1/traces"]
