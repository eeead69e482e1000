"""Reads OTLP bodies, protobuf or JSON, into flat items; `coverage` and `posts` count them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.profiles.v1development.profiles_pb2 import Profile
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from harness.wire.spool import Record
from harness.wire.telemetry import SAMPLES, SIGNALS

INSTANCE = "service.instance.id"
TRACES, METRICS, LOGS = "/v1/traces", "/v1/metrics", "/v1/logs"
PROFILES = "/v1development/profiles"
_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
Attributes = frozenset[tuple[str, bytes]]
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Point:
    """One data point of a sum, a gauge or a histogram; the value of a histogram is its count."""

    scope: str
    name: str
    identity: tuple[Attributes, str, str, Attributes]
    value: float
    start_unix_ns: int
    time_unix_ns: int
    delta: bool
    gauge: bool
    kind: str = "metrics"

    @property
    def counted(self) -> str:
        """What a signal counts it by."""
        return self.name

    @property
    def resource(self) -> Attributes:
        """The attributes of what sent it."""
        return self.identity[0]

    def has(self, key: str, value: str) -> bool:
        """Whether it carries this attribute."""
        return (key, _text(value)) in self.identity[-1]

    def number(self, key: str) -> int:
        """An attribute that is a number; 0 if it carries none."""
        return _number(self.identity[-1], key)

    def sent_by(self, instance: str) -> bool:
        """Whether this service.instance.id sent it."""
        return (INSTANCE, _text(instance)) in self.resource


@dataclass(frozen=True)
class Event:
    """A finished span (its time is its end) or a log record."""

    kind: str
    scope: str
    name: str
    time_unix_ns: int
    attributes: Attributes = frozenset()
    resource: Attributes = frozenset()
    span_kind: str = ""

    @property
    def counted(self) -> str:
        """What a signal counts it by: the kind of a span, the event of a log record."""
        return self.span_kind or self.name

    def has(self, key: str, value: str) -> bool:
        """Whether it carries this attribute."""
        return (key, _text(value)) in self.attributes

    def number(self, key: str) -> int:
        """An attribute that is a number; 0 if it carries none."""
        return _number(self.attributes, key)

    def sent_by(self, instance: str) -> bool:
        """Whether this service.instance.id sent it."""
        return (INSTANCE, _text(instance)) in self.resource


def items(record: Record) -> Iterator[Point | Event]:
    """What a post holds; ValueError if it is not OTLP."""
    if record.path == METRICS:
        yield from _points(_parse(record, ExportMetricsServiceRequest()))
    elif record.path == TRACES:
        yield from _spans(_parse(record, ExportTraceServiceRequest()))
    elif record.path == LOGS:
        yield from _logs(_parse(record, ExportLogsServiceRequest()))
    elif record.path == PROFILES:
        yield from _profiles(_parse(record, ExportProfilesServiceRequest()))


def _parse(record: Record, message: M) -> M:
    try:
        if record.content_type.startswith("application/json"):
            json_format.Parse(record.content(), message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(record.content())
    except (DecodeError, json_format.ParseError) as error:
        raise ValueError(f"a post to {record.path} is not OTLP: {error}") from error
    return message


def _points(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    for resource in request.resource_metrics:
        resource_key = _key(resource.resource.attributes)
        for group in resource.scope_metrics:
            for metric in group.metrics:
                yield from _of_metric(metric, resource_key, group.scope.name)


def _of_metric(metric: Metric, resource: Attributes, scope: str) -> Iterator[Point]:
    shape = metric.WhichOneof("data")
    if shape is None:
        return
    data = getattr(metric, shape)
    delta = getattr(data, "aggregation_temporality", None) == _DELTA
    for point in data.data_points:
        if shape in ("sum", "gauge"):
            value = getattr(point, point.WhichOneof("value") or "as_double")
        else:
            value = point.count
        yield Point(
            scope,
            metric.name,
            (resource, scope, metric.name, _key(point.attributes)),
            float(value),
            point.start_time_unix_nano,
            point.time_unix_nano,
            delta,
            gauge=shape == "gauge",
        )


def _spans(request: ExportTraceServiceRequest) -> Iterator[Event]:
    for resource in request.resource_spans:
        sender = _key(resource.resource.attributes)
        for group in resource.scope_spans:
            for span in group.spans:
                yield Event(
                    "spans",
                    group.scope.name,
                    span.name,
                    span.end_time_unix_nano,
                    _key(span.attributes),
                    sender,
                    Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                )


def _logs(request: ExportLogsServiceRequest) -> Iterator[Event]:
    for resource in request.resource_logs:
        sender = _key(resource.resource.attributes)
        for group in resource.scope_logs:
            for log in group.log_records:
                at = log.time_unix_nano or log.observed_time_unix_nano
                attributes = _key(log.attributes)
                yield Event("logs", group.scope.name, log.event_name, at, attributes, sender)


def _profiles(request: ExportProfilesServiceRequest) -> Iterator[Point]:
    """What each CPU profile counted, as the metric that counts samples; nothing of other ones."""
    names, wanted = request.dictionary.string_table, SIGNALS[SAMPLES].counted_by
    for resource in request.resource_profiles:
        sender = _key(resource.resource.attributes)
        for group in resource.scope_profiles:
            for profile in group.profiles:
                kind = profile.sample_type
                if max(kind.type_strindex, kind.unit_strindex) >= len(names):
                    raise ValueError("a profile names strings that did not come")
                kinds = names[kind.type_strindex], names[kind.unit_strindex]
                if (number := _samples(profile, kinds)) is None:
                    continue
                identity = sender, group.scope.name, wanted, frozenset[tuple[str, bytes]]()
                began = profile.time_unix_nano
                yield Point(
                    group.scope.name, wanted, identity, number, began,
                    began + profile.duration_nano, delta=True, gauge=False,
                )  # fmt: skip


def _samples(profile: Profile, kind: tuple[str, str]) -> float | None:
    """How many there are; None where it is of something else than CPU time."""
    total = sum(sum(each.values) or len(each.timestamps_unix_nano) for each in profile.samples)
    if kind == (SAMPLES, "count"):
        return float(total)
    if kind == ("cpu", "nanoseconds") and profile.period:
        return total / profile.period
    return None


def instance_of(resource: Attributes) -> str:
    """The service.instance.id among the attributes of a sender; empty if it tells none."""
    found = (AnyValue.FromString(raw).string_value for name, raw in resource if name == INSTANCE)
    return next(found, "")


def _text(value: str) -> bytes:
    return AnyValue(string_value=value).SerializeToString()


def _number(attributes: Attributes, key: str) -> int:
    for name, raw in attributes:
        if name == key:
            value = AnyValue.FromString(raw)
            return value.int_value or (int(text) if (text := value.string_value).isdecimal() else 0)
    return 0


def _key(attributes: Iterable[Any]) -> Attributes:
    return frozenset((each.key, each.value.SerializeToString()) for each in attributes)
