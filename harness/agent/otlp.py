"""Sends telemetry to one OTLP/HTTP receiver, over a connection that is kept; used by runtime."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from harness.agent import encoding
from harness.agent.errors import RefusedError
from harness.agent.origin import Origin, listed
from harness.agent.posts import Posts
from harness.agent.telemetry import Log, ProfileBatch, Readings, Spans

_PROTOBUF = "application/x-protobuf"
_log = logging.getLogger("harness.agent")

T = TypeVar("T")
E = TypeVar("E")


class Exporter:
    """Posts what it is given, and tells how much of it the receiver threw away.

    One thread at a time. UnansweredError or LaterError where it was not acknowledged, RefusedError
    where it never will be.
    """

    def __init__(self, url: str) -> None:
        headers = {"Content-Type": _PROTOBUF, **dict(listed("OTEL_EXPORTER_OTLP_HEADERS"))}
        self._receiver = Posts("--otlp", url, "an OTLP/HTTP receiver", headers)
        self._said: set[str] = set()  # metrics of which points were left out

    def receiver(self, _: str) -> str:
        """Where this signal goes: all go to one."""
        return self._receiver.url

    def send_metrics(self, batch: Iterable[tuple[Origin, Readings]]) -> int:
        """Post metrics; points that cannot be encoded count as thrown away."""
        body, left_out = self._encoded("metrics", encoding.metrics_request, batch)
        said = self._post("v1/metrics", "metrics", body)
        for name in sorted(left_out.keys() - self._said):
            self._said.add(name)
            _log.warning(
                "A point of the metric %s cannot be encoded. It is left out, and counted as "
                "rejected; all others are sent. Please report it.", name,
            )  # fmt: skip
        rejected = left_out.total()
        with contextlib.suppress(DecodeError):
            answer = ExportMetricsServiceResponse.FromString(said)
            rejected += answer.partial_success.rejected_data_points
        return rejected

    def send_spans(self, batch: Iterable[tuple[Origin, Spans]]) -> int:
        """Post spans."""
        body = self._encoded("spans", encoding.spans_request, batch)
        said = self._post("v1/traces", "spans", body)
        with contextlib.suppress(DecodeError):
            return ExportTraceServiceResponse.FromString(said).partial_success.rejected_spans
        return 0

    def send_logs(self, batch: Iterable[tuple[Origin, Sequence[Log]]]) -> int:
        """Post log records."""
        body = self._encoded("logs", encoding.logs_request, batch)
        said = self._post("v1/logs", "logs", body)
        with contextlib.suppress(DecodeError):
            return ExportLogsServiceResponse.FromString(said).partial_success.rejected_log_records
        return 0

    def send_profiles(self, batch: Iterable[tuple[Origin, Sequence[ProfileBatch]]]) -> int:
        """Post profiles, those of each drain by themselves."""
        rejected = 0
        for origin, drains in batch:
            for each in drains:
                body = self._encoded("profiles", each.encoded, origin)
                rejected += _rejected_profiles(
                    self._post("v1development/profiles", "profiles", body)
                )
        return rejected

    def close(self) -> None:
        """Hang up."""
        self._receiver.close()

    def _encoded(self, what: str, encode: Callable[[T], E], batch: T) -> E:
        try:
            return encode(batch)
        except (TypeError, ValueError) as error:  # trying again would not help
            raise RefusedError(
                f"The {what} cannot be encoded.",
                f"{type(error).__name__}: {error}.",
                "They are counted as dropped; please report it.",
            ) from error

    def _post(self, place: str, what: str, body: bytes) -> bytes:
        """What the receiver says to it, if that is OTLP."""
        answer = self._receiver.post(f"/{place}", what, body)
        return answer.said if answer.kind.startswith(_PROTOBUF) else b""


def _rejected_profiles(said: bytes) -> int:
    # most agents send none, and do without the messages
    from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

    with contextlib.suppress(DecodeError):
        answer = profiles_service_pb2.ExportProfilesServiceResponse.FromString(said)
        return answer.partial_success.rejected_profiles
    return 0
