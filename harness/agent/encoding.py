"""Telemetry as the bytes of OTLP's protobuf messages; used by otlp.

Attributes repeat from export to export, so those that were encoded lately are kept.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from harness.agent.container import Container
from harness.agent.origin import Origin
from harness.agent.telemetry import (
    LAUNCHED_NS,
    Attributes,
    Buckets,
    Gauge,
    Histogram,
    Log,
    Metric,
    Point,
    Readings,
    Span,
    Spans,
    Sum,
    Value,
    by_container,
    unix_ns,
    unix_offset_ns,
)

_KEPT = 1024  # attributes, some 600 bytes each
_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_SCALARS = (str, int, float)  # and bool, which is an int
# what a span without a parent says: its trace is sampled, and that it has no remote parent is known
_SPAN_FLAGS = 1 | trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK

# fields of ExportTraceServiceRequest and of ResourceSpans, and how messages are told in them
_RESOURCE_SPANS, _SCOPE_SPANS, _MESSAGE = 1, 2, 2


S = TypeVar("S", Point, Buckets)


def metrics_request(batch: Iterable[tuple[Origin, Readings]]) -> tuple[bytes, Counter[str]]:
    """An ExportMetricsServiceRequest; one resource for each container, and for the agent itself.

    A point that no message can hold is left out, for it would be there again at every export: so
    many of which metric are told, too.
    """
    request = ExportMetricsServiceRequest()
    left_out: Counter[str] = Counter()
    for origin, readings in batch:
        parts = [
            (origin.own, origin.own_scope, readings.own),
            *((origin.resource(of), origin.scope, some) for of, some in _seen(readings)),
        ]
        for resource, scope, metrics in parts:
            if metrics:
                group = request.resource_metrics.add(resource=resource).scope_metrics.add(
                    scope=scope
                )
                for each in metrics:
                    if number := _add_metric(group.metrics.add(), each):
                        left_out[each.name] += number
    return request.SerializeToString(), left_out


def spans_request(batch: Iterable[tuple[Origin, Spans]]) -> bytes:
    """An ExportTraceServiceRequest; its messages are put around spans that are bytes already."""
    groups: defaultdict[tuple[Origin, Container | None], list[bytes]] = defaultdict(list)
    for origin, some in batch:
        for container, encoded in _encoded(some):
            groups[origin, container].append(encoded)
    request: list[bytes] = []
    for (origin, container), spans in groups.items():
        scope = trace_pb2.ScopeSpans(scope=origin.scope).SerializeToString()
        resource = trace_pb2.ResourceSpans(resource=origin.resource(container)).SerializeToString()
        size = len(scope) + sum(map(len, spans))
        head = _head(_SCOPE_SPANS, size)
        request += [_head(_RESOURCE_SPANS, len(resource) + len(head) + size), resource, head]
        request += [scope, *spans]
    return b"".join(request)


def encoded_spans(spans: Iterable[Span], offset_ns: int) -> bytes:
    """The field `spans` of a ScopeSpans; unix time is so far ahead of theirs."""
    made = trace_pb2.ScopeSpans()
    for each in spans:
        _add_span(made, each, offset_ns)
    return made.SerializeToString()


def logs_request(batch: Iterable[tuple[Origin, Sequence[Log]]]) -> bytes:
    """An ExportLogsServiceRequest."""
    request = ExportLogsServiceRequest()
    for origin, container, logs in _grouped(batch):
        resource = request.resource_logs.add(resource=origin.resource(container))
        group = resource.scope_logs.add(scope=origin.scope)
        for each in logs:
            _add_log(group, each)
    return request.SerializeToString()


def _seen(readings: Readings) -> Iterator[tuple[Any, Sequence[Metric]]]:
    if readings.metrics:
        yield None, readings.metrics
    yield from readings.contained.items()


def _encoded(some: Spans) -> Iterator[tuple[Container | None, bytes]]:
    if not isinstance(some, Sequence):
        yield some.container, some.encoded()
        return
    own, contained = by_container(some)
    for container, spans in ((None, own), *contained.items()):
        if spans:
            yield container, encoded_spans(spans, unix_offset_ns())


def _head(field: int, size: int) -> bytes:
    """What is before a message of so many bytes in another one's field."""
    return bytes([field << 3 | _MESSAGE]) + _varint(size)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _grouped(
    batch: Iterable[tuple[Origin, Sequence[Log]]],
) -> Iterator[tuple[Origin, Container | None, list[Log]]]:
    """What is of one collector and one container together, each in its order."""
    groups: dict[tuple[Origin, Container | None], list[Log]] = {}
    for origin, some in batch:
        for each in some:
            groups.setdefault((origin, each.container), []).append(each)
    for (origin, container), some in groups.items():
        yield origin, container, some


def _add_metric(made: metrics_pb2.Metric, of: Metric) -> int:
    """How many of its points are left out."""
    made.name, made.unit, made.description = of.name, of.unit, of.description
    at_ns = of.time_unix_ns
    if isinstance(of.data, Histogram):
        to, bounds = made.histogram, of.data.explicit_bounds
        to.aggregation_temporality = _CUMULATIVE
        return _add_points(to, of.data.data_points, lambda p: _add_buckets(to, p, bounds, at_ns))
    numbers = made.gauge if isinstance(of.data, Gauge) else made.sum
    if isinstance(of.data, Sum):
        made.sum.aggregation_temporality = _CUMULATIVE
        made.sum.is_monotonic = of.data.is_monotonic
    return _add_points(numbers, of.data.data_points, lambda p: _add_number(numbers, p, at_ns))


def _add_points(to: Any, points: Sequence[S], add: Callable[[S], None]) -> int:
    left_out = 0
    for each in points:
        before = len(to.data_points)
        try:
            add(each)
        except (TypeError, ValueError):
            del to.data_points[before:]
            left_out += 1
    return left_out


def _add_number(to: metrics_pb2.Sum | metrics_pb2.Gauge, point: Point, time_ns: int) -> None:
    made = to.data_points.add(
        attributes=_pairs(point.attributes),
        start_time_unix_nano=LAUNCHED_NS,
        time_unix_nano=time_ns,
    )
    if isinstance(point.value, int):
        made.as_int = point.value
    else:
        made.as_double = point.value


def _add_buckets(
    to: metrics_pb2.Histogram, series: Buckets, bounds: Sequence[float], time_ns: int
) -> None:
    made = to.data_points.add(
        attributes=_pairs(series.attributes),
        start_time_unix_nano=LAUNCHED_NS,
        time_unix_nano=time_ns,
        count=sum(series.counts),
        sum=series.total,
        bucket_counts=series.counts,
        explicit_bounds=bounds,
    )
    if (span := series.example) is not None:
        made.exemplars.add(
            time_unix_nano=unix_ns(span.end_ns),
            as_double=span.seconds,
            trace_id=_trace_id(span),
            span_id=_span_id(span),
        )


def _add_span(to: trace_pb2.ScopeSpans, span: Span, offset_ns: int) -> None:
    made = to.spans.add(
        trace_id=_trace_id(span),
        span_id=_span_id(span),
        flags=_SPAN_FLAGS,
        name=span.name,
        kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=span.start_ns + offset_ns,
        end_time_unix_nano=span.end_ns + offset_ns,
        attributes=_pairs(span.attributes),
    )
    if span.error:
        made.status.code = trace_pb2.Status.STATUS_CODE_ERROR


def _add_log(to: logs_pb2.ScopeLogs, log: Log) -> None:
    at_ns = unix_ns(log.at_ns)
    to.log_records.add(
        time_unix_nano=at_ns,
        observed_time_unix_nano=at_ns,
        severity_number=logs_pb2.SEVERITY_NUMBER_INFO,
        severity_text="INFO",
        body=_any(log.body or log.event_name),  # Loki (3.7) keeps the one and not the other
        attributes=_pairs(log.attributes),
        event_name=log.event_name,
    )


def _trace_id(span: Span) -> bytes:
    return span.trace_id.to_bytes(16, "big")


def _span_id(span: Span) -> bytes:
    return span.span_id.to_bytes(8, "big")


def _pairs(attributes: Attributes) -> list[KeyValue]:
    return [
        _kept(key, value) if isinstance(value, _SCALARS) else _pair(key, value)
        for key, value in attributes.items()
    ]


def _pair(key: str, value: Value) -> KeyValue:
    return KeyValue(key=key, value=_any(value))


# typed: 1, 1.0 and True are equal, and other values in OTLP
_kept = functools.lru_cache(_KEPT, typed=True)(_pair)


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any(each) for each in value]))
