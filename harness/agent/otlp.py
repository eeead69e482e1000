"""Sends telemetry over OTLP/HTTP with OpenTelemetry's exporters; used by runtime."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

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
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from harness.agent.container import Container
from harness.agent.errors import AgentError, RefusedError
from harness.agent.telemetry import Log, Span, unix_ns

_TIMEOUT_SECONDS = 5.0
_MOST_CONTAINERS = 4096  # whose resources are kept
_LATER = (408, 429)  # what is refused now, and may be taken at another time; so may all from 500 on


class _Session(requests.Session):
    """Tells at once that something was not taken; `status` is that of the last answer, or 0.

    Exporters repeat by themselves, for seconds in which nothing would be drained; what was not
    taken is sent with the next drain.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # looking for proxies and .netrc costs more than the request
        self.status = 0

    def request(self, *words: Any, **options: Any) -> requests.Response:
        """The answer; NotTakenError if there is none, or if it is no success."""
        self.status = 0
        try:
            answer = self._asked(*words, **options)
        except requests.RequestException as error:
            raise NotTakenError(str(error)) from error
        self.status = answer.status_code
        if self.status >= 400:
            raise NotTakenError(answer.reason)
        return answer

    def _asked(self, *words: Any, **options: Any) -> requests.Response:
        try:
            return super().request(*words, **options)
        except requests.ConnectTimeout:
            raise
        except requests.ConnectionError:  # as of a kept connection to a receiver that was restarted
            return super().request(*words, **options)


class NotTakenError(Exception):
    """Of a kind that exporters do not repeat for."""


def resource(own: Mapping[str, str | int]) -> Resource:
    """What telemetry is of: the host, what OTEL_RESOURCE_ATTRIBUTES says, and what is `own`."""
    host = Resource({"host.name": socket.gethostname()})
    return host.merge(OTELResourceDetector().detect()).merge(Resource(own))


def of_container(container: Container) -> Resource:
    """What telemetry of a container is of: its ids, and where it runs.

    The container is the instance of its service. Which service that is says who knows its pod.
    """
    own = {"container.id": container.id, "k8s.pod.uid": container.pod}
    own["service.instance.id"] = container.id or container.pod
    return resource({name: value for name, value in own.items() if value})


class Exporter:
    """Sends to one OTLP/HTTP receiver: what was seen of the service, and the agent's own.

    AgentError where it was not acknowledged, RefusedError where it never will be.
    """

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
        self._resource = resource({"service.name": service})
        if instance:
            self._resource = self._resource.merge(Resource({"service.instance.id": instance}))
        self._own_scope = InstrumentationScope("harness.agent")
        own = {"service.name": "harness-agent", "service.instance.id": instance or str(os.getpid())}
        self._own = resource({**own, "process.pid": os.getpid()})
        self._contained: dict[Container, Resource] = {}
        self._find_pid = find_pid
        # failures are raised below, where somebody can act on them
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._session = session = _Session()
        self._metric_exporter = OTLPMetricExporter(
            f"{self._url}/v1/metrics", timeout=_TIMEOUT_SECONDS, session=session
        )
        self._span_exporter = OTLPSpanExporter(
            f"{self._url}/v1/traces", timeout=_TIMEOUT_SECONDS, session=session
        )
        self._log_exporter = OTLPLogExporter(
            f"{self._url}/v1/logs", timeout=_TIMEOUT_SECONDS, session=session
        )

    def _name_process(self) -> None:
        """Add process.pid as soon as there is a process; the agent may be there before it."""
        if "process.pid" not in self._resource.attributes:
            pid = self._find_pid()
            if pid is not None:
                self._resource = self._resource.merge(Resource({"process.pid": pid}))

    def send_metrics(
        self,
        metrics: Sequence[Metric],
        own: Sequence[Metric] = (),
        contained: Mapping[Container, Sequence[Metric]] = MappingProxyType({}),
    ) -> None:
        """Export metrics, the agent's `own` of itself, and those of containers."""
        if metrics:
            self._name_process()
        parts = [
            (self._own, self._own_scope, own),
            (self._resource, self._scope, metrics),
            *((self._of(each), self._scope, some) for each, some in contained.items()),
        ]
        data = MetricsData(
            [
                ResourceMetrics(resource, [ScopeMetrics(scope, some, "")], "")
                for resource, scope, some in parts
                if some
            ]
        )
        done = self._metric_exporter.export(data)
        self._acknowledged(done is MetricExportResult.SUCCESS, "metrics")

    def send_spans(self, spans: Sequence[Span]) -> None:
        """Export spans."""
        self._name_process()
        done = self._span_exporter.export([self._readable_span(each) for each in spans])
        self._acknowledged(done is SpanExportResult.SUCCESS, "spans")

    def send_logs(self, logs: Sequence[Log]) -> None:
        """Export log records."""
        self._name_process()
        done = self._log_exporter.export([self._readable_log(each) for each in logs])
        self._acknowledged(done is LogRecordExportResult.SUCCESS, "logs")

    def _of(self, container: Container | None) -> Resource:
        if container is None:
            return self._resource
        if container not in self._contained:
            if len(self._contained) >= _MOST_CONTAINERS:
                self._contained.clear()
            self._contained[container] = of_container(container)
        return self._contained[container]

    def _acknowledged(self, done: bool, what: str) -> None:
        if done:
            return
        status = self._session.status
        if 400 <= status < 500 and status not in _LATER:
            raise RefusedError(
                f"{self._url} refuses the {what} for good.",
                f"The receiver answered with status {status}.",
                "Check what it takes, and that it is an OTLP/HTTP receiver.",
            )
        silent = f"The receiver did not acknowledge them within {_TIMEOUT_SECONDS:g} s."
        raise AgentError(
            f"The {what} did not reach {self._url}.",
            f"The receiver answered with status {status}." if status else silent,
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
            resource=self._of(span.container),
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
        return ReadableLogRecord(record, self._of(log.container), self._scope)
