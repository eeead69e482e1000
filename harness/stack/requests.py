"""The telemetry that `generator` sends: spans, metric points and log lines as OTLP requests.

What changes with each sending is a number of fixed length whose upper half is a mark, by which
`batches` finds it in the encoded bytes; the lower half says which one it is, or how much.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Iterator

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import (
    SEVERITY_NUMBER_ERROR,
    SEVERITY_NUMBER_INFO,
    LogRecord,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

RECORDS = 200  # in a request
SPANS_PER_TRACE = 5
SAMPLES_PER_POINT = 3.4  # in Prometheus: four sums make one each, a histogram of 11 buckets 13
BODY_BYTES = 200  # of a log line
SERIES = 10_000  # of points, of which 3.4 times as many in Prometheus
VARIANTS = 10  # of a request of spans; of one of log lines, each of another service

TIME, ID, COUNT, REAL = 0x5EB1F7A7, 0x6D3C91E5, 0x7A19D4B3, 0x4C5B8E6F
MIDDLE = 1 << 31  # of a marked time: 2.1 s before and after now can be said
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_THROUGH = ("ramp-frontend", "ramp-orders", "ramp-stock")  # the services of a trace
_ROUTES = ("/cart", "/checkout", "/items/{id}", "/login", "/search")
_VOCABULARY = (
    "accepted basket cache carried charged connection customer delivered discount entry expired "
    "found handler invoice item loaded lookup order parcel payment pending queue quantity refund "
    "request retry returned route session shipped stock stored supplier timeout total updated user"
)


def spans(mark: str) -> Iterator[ExportTraceServiceRequest]:
    """Traces through three services: server and client spans with HTTP attributes."""
    for number in range(VARIANTS):
        request, draw = ExportTraceServiceRequest(), random.Random(number)
        groups = []
        for name in _THROUGH:
            group = request.resource_spans.add(resource=_resource(name, mark))
            groups.append(group.scope_spans.add().spans)
        ids = itertools.count(1)
        for _ in range(RECORDS // SPANS_PER_TRACE):
            for service, span in _trace(ids, draw):
                groups[service].append(span)
        yield request


def _trace(ids: Iterator[int], draw: random.Random) -> Iterator[tuple[int, Span]]:
    """The spans of one trace, each in the one before, and the number of the service of each."""
    trace = struct.pack("<IIII", next(ids), ID, next(ids), ID)
    parent, begun, lasted = b"", -draw.randint(20, 1_000), draw.randint(10, 19)
    for depth in range(SPANS_PER_TRACE):
        own, client = struct.pack("<II", next(ids), ID), depth % 2 == 1
        route, service = draw.choice(_ROUTES), depth // 2
        yield service, Span(
            trace_id=trace, span_id=own, parent_span_id=parent,
            name="GET" if client else f"GET {route}",
            kind=Span.SPAN_KIND_CLIENT if client else Span.SPAN_KIND_SERVER,
            start_time_unix_nano=_marked(TIME, MIDDLE + 1_000_000 * begun + 1000 * depth),
            end_time_unix_nano=_marked(TIME, MIDDLE + 1_000_000 * (begun + lasted - depth)),
            attributes=_http(route, draw, _THROUGH[service + 1] if client else ""),
        )  # fmt: skip
        parent = own


def points(mark: str) -> Iterator[ExportMetricsServiceRequest]:
    """Sums and histograms, cumulative; all requests together have each of the series once."""
    for number in range(SERIES // RECORDS):
        request, draw = ExportMetricsServiceRequest(), random.Random(number)
        group = request.resource_metrics.add(resource=_resource(f"ramp-{number:02}", mark))
        metrics = group.scope_metrics.add().metrics
        for index in range(10):
            metrics.append(_histogram(index, draw) if index >= 8 else _sum(index, draw))
        yield request


def logs(mark: str) -> Iterator[ExportLogsServiceRequest]:
    """Lines of the same length that belong to traces, each request of one service."""
    for number in range(VARIANTS):
        request, draw = ExportLogsServiceRequest(), random.Random(number)
        group = request.resource_logs.add(resource=_resource(f"ramp-{number:02}", mark))
        ids = itertools.count(1)
        lines = group.scope_logs.add().log_records
        for line in range(RECORDS):
            error = line % 50 == 0
            lines.append(
                LogRecord(
                    time_unix_nano=_marked(TIME, MIDDLE - 1000 * (RECORDS - line)),
                    observed_time_unix_nano=_marked(TIME, MIDDLE - 1000 * (RECORDS - line)),
                    severity_number=SEVERITY_NUMBER_ERROR if error else SEVERITY_NUMBER_INFO,
                    severity_text="ERROR" if error else "INFO",
                    body=AnyValue(string_value=_text(draw)),
                    attributes=[_pair("http.route", draw.choice(_ROUTES))],
                    trace_id=struct.pack("<IIII", next(ids), ID, next(ids), ID),
                    span_id=struct.pack("<II", next(ids), ID),
                )
            )
        yield request


Request = ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest

REQUESTS: dict[str, Callable[[str], Iterator[Request]]] = {
    "spans": spans,
    "points": points,
    "logs": logs,
}


def _marked(mark: int, lower: int) -> int:
    return mark << 32 | lower


def _resource(service: str, mark: str) -> Resource:
    values = {
        "service.name": service,
        "service.namespace": "ramp",
        "service.instance.id": mark,
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": "1.30.0",
    }
    return Resource(attributes=[_pair(key, value) for key, value in values.items()])


def _pair(key: str, value: str | int) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _http(route: str, draw: random.Random, peer: str) -> list[KeyValue]:
    address: dict[str, str | int]
    address = {"server.address": peer, "server.port": 8080} if peer else {"http.route": route}
    values: dict[str, str | int] = {
        "http.request.method": "GET",
        "http.response.status_code": draw.choice((200, 200, 200, 200, 404)),
        "url.path": route.replace("{id}", str(draw.randint(1, 9999))),
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Firefox/128.0",
        **address,
    }
    return [_pair(key, value) for key, value in values.items()]


def _labels(point: int) -> list[KeyValue]:
    return [
        _pair("http.request.method", "GET" if point % 2 else "POST"),
        _pair("http.route", f"/ramp/{point}"),
        _pair("http.response.status_code", 200),
    ]


def _sum(index: int, draw: random.Random) -> Metric:
    metric = Metric(name=f"ramp.requests.{index}", unit="{request}")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    for point in range(RECORDS // 10):
        metric.sum.data_points.append(
            NumberDataPoint(
                time_unix_nano=_marked(TIME, MIDDLE),
                as_int=_marked(COUNT, draw.randint(1, 50)),
                attributes=_labels(point),
            )
        )
    return metric


def _histogram(index: int, draw: random.Random) -> Metric:
    metric = Metric(name=f"ramp.duration.{index}", unit="s")
    metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    for point in range(RECORDS // 10):
        weights = [draw.randint(1, 50) for _ in range(len(_BOUNDS) + 1)]
        metric.histogram.data_points.append(
            HistogramDataPoint(
                time_unix_nano=_marked(TIME, MIDDLE),
                count=_marked(COUNT, sum(weights)),
                sum=_real(sum(weights)),
                bucket_counts=[_marked(COUNT, weight) for weight in weights],
                explicit_bounds=_BOUNDS,
                attributes=_labels(point),
            )
        )
    return metric


def _real(weight: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", _marked(REAL, weight)))[0])


def _text(draw: random.Random) -> str:
    words = draw.choices(_VOCABULARY.split(), k=BODY_BYTES // 4)
    return " ".join(words)[:BODY_BYTES]
