"""Sends telemetry over OTLP/HTTP with OpenTelemetry's exporters; used by runtime."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence

import requests
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from harness.agent.errors import AgentError
from harness.agent.telemetry import Log, Span, Telemetry, unix_ns

_TIMEOUT_SECONDS = 5.0


class Exporter:
    """Sends to one OTLP/HTTP receiver: what was seen of the service, and the agent's own."""

    def __init__(
        self,
        url: str,
        collector: str,
        service: str,
        find_pid: Callable[[], int | None],
        instance: str = "",
    ) -> None:
        self._url = url.rstrip("/")
        self._scope = InstrumentationScope(f"harness.{collector}")
        self._resource = Resource({"service.name": service, "host.name": socket.gethostname()})
        if instance:
            self._resource = self._resource.merge(Resource({"service.instance.id": instance}))
        self._own_scope = InstrumentationScope("harness.agent")
        own = {"service.name": "harness-agent", "service.instance.id": instance or str(os.getpid())}
        self._own = Resource({**own, "host.name": socket.gethostname(), "process.pid": os.getpid()})
        self._find_pid = find_pid
        # failures are raised below, where somebody can act on them
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        session = requests.Session()
        session.trust_env = False  # looking for proxies and .netrc costs more than the request
        self._metric_exporter = OTLPMetricExporter(
            f"{self._url}/v1/metrics", timeout=_TIMEOUT_SECONDS, session=session
        )
        self._span_exporter = OTLPSpanExporter(
            f"{self._url}/v1/traces", timeout=_TIMEOUT_SECONDS, session=session
        )
        self._log_exporter = OTLPLogExporter(
            f"{self._url}/v1/logs", timeout=_TIMEOUT_SECONDS, session=session
        )

    def send(self, telemetry: Telemetry, own: Sequence[Metric] = ()) -> int:
        """Export; how many items of `telemetry` were acknowledged. AgentError if not all were.

        `own` are the agent's metrics of itself.
        """
        if telemetry.metrics or telemetry.spans or telemetry.logs:
            self._name_process()
        if telemetry.metrics or own:
            self._send_metrics(telemetry.metrics, own)
        if telemetry.spans:
            self._send_spans(telemetry.spans)
        if telemetry.logs:
            self._send_logs(telemetry.logs)
        points = sum(len(each.data.data_points) for each in telemetry.metrics)
        return points + len(telemetry.spans) + len(telemetry.logs)

    def _name_process(self) -> None:
        """Add process.pid as soon as there is a process; the agent may be there before it."""
        if "process.pid" not in self._resource.attributes:
            pid = self._find_pid()
            if pid is not None:
                self._resource = self._resource.merge(Resource({"process.pid": pid}))

    def _send_metrics(self, metrics: Sequence[Metric], own: Sequence[Metric]) -> None:
        parts = ((self._own, self._own_scope, own), (self._resource, self._scope, metrics))
        data = MetricsData(
            [
                ResourceMetrics(resource, [ScopeMetrics(scope, some, "")], "")
                for resource, scope, some in parts
                if some
            ]
        )
        done = self._metric_exporter.export(data)
        self._acknowledged(done is MetricExportResult.SUCCESS, "metrics")

    def _send_spans(self, spans: Sequence[Span]) -> None:
        done = self._span_exporter.export([self._readable_span(each) for each in spans])
        self._acknowledged(done is SpanExportResult.SUCCESS, "spans")

    def _send_logs(self, logs: Sequence[Log]) -> None:
        done = self._log_exporter.export([self._readable_log(each) for each in logs])
        self._acknowledged(done is LogRecordExportResult.SUCCESS, "logs")

    def _acknowledged(self, done: bool, what: str) -> None:
        if not done:
            raise AgentError(
                f"The {what} did not reach {self._url}.",
                f"The receiver did not acknowledge them within {_TIMEOUT_SECONDS:g} s.",
                "Check that an OTLP/HTTP receiver listens there.",
            )

    def _readable_span(self, span: Span) -> ReadableSpan:
        context = SpanContext(
            span.trace_id,
            span.span_id,
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
        start_ns = unix_ns(span.start_ns)
        return ReadableSpan(
            name=span.name,
            context=context,
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if span.error else StatusCode.UNSET),
            start_time=start_ns,
            end_time=start_ns + span.end_ns - span.start_ns,
            instrumentation_scope=self._scope,
        )

    def _readable_log(self, log: Log) -> ReadableLogRecord:
        at_ns = unix_ns(log.at_ns)
        record = LogRecord(
            timestamp=at_ns,
            observed_timestamp=at_ns,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=log.body or log.event_name,  # Loki (3.7) keeps the one and not the other
            attributes=dict(log.attributes),
            event_name=log.event_name,
        )
        return ReadableLogRecord(record, self._resource, self._scope)
