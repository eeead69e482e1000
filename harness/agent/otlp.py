"""Sends telemetry to one OTLP/HTTP receiver, over a connection that is kept; used by runtime."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from harness.agent import encoding
from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError
from harness.agent.origin import Origin, listed
from harness.agent.telemetry import Log, ProfileBatch, Readings, Spans

_TIMEOUT_SECONDS = 5.0
_LATER = (408, 429)  # what is refused now, and may be taken at another time; so may all from 500 on
_LONGEST_SECONDS = 30.0  # that a receiver is left alone, whatever it asks for
_PROTOBUF = "application/x-protobuf"
_NEXT_STEP = "Check that an OTLP/HTTP receiver listens there."
_log = logging.getLogger("harness.agent")

T = TypeVar("T")
E = TypeVar("E")


class Exporter:
    """Posts what it is given, and tells how much of it the receiver threw away.

    One thread at a time. UnansweredError or LaterError where it was not acknowledged, RefusedError
    where it never will be.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        parts = _parts(self._url)
        self._path = parts.path
        self._headers = {
            "Content-Type": _PROTOBUF,
            "User-Agent": "harness-agent",
            **dict(listed("OTEL_EXPORTER_OTLP_HEADERS")),
        }
        self._connection = _connection(parts)
        self._said: set[str] = set()  # metrics of which points were left out

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
        self._connection.close()

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
        try:
            answer, said = self._asked(f"{self._path}/{place}", body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            silent = f"The receiver did not acknowledge them within {_TIMEOUT_SECONDS:g} s."
            raise UnansweredError(
                f"The {what} did not reach {self._url}.",
                silent if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}.",
                _NEXT_STEP,
            ) from error
        if answer.status >= 300:
            raise self._not_taken(what, answer)
        return said if answer.getheader("Content-Type", "").startswith(_PROTOBUF) else b""

    def _not_taken(self, what: str, answer: http.client.HTTPResponse) -> AgentError:
        why = f"The receiver answered with status {answer.status}."
        if answer.status < 500 and answer.status not in _LATER:
            return RefusedError(
                f"{self._url} refuses the {what} for good.",
                why,
                "Check what it takes, and that it is an OTLP/HTTP receiver.",
            )
        asked = answer.getheader("Retry-After") or ""
        seconds = min(float(asked), _LONGEST_SECONDS) if asked.isdecimal() else 0.0
        return LaterError(f"The {what} did not reach {self._url}.", why, _NEXT_STEP, seconds)

    def _asked(self, path: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer and what it holds; asked twice if a kept connection had ended meanwhile."""
        was_kept = self._connection.sock is not None
        try:
            return self._answered(path, body)
        except (ConnectionError, http.client.HTTPException):
            if not was_kept:
                raise
            self._connection.close()
            return self._answered(path, body)

    def _answered(self, path: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request("POST", path, body, self._headers)
        answer = self._connection.getresponse()
        return answer, answer.read()


def _rejected_profiles(said: bytes) -> int:
    # most agents send none, and do without the messages
    from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

    with contextlib.suppress(DecodeError):
        answer = profiles_service_pb2.ExportProfilesServiceResponse.FromString(said)
        return answer.partial_success.rejected_profiles
    return 0


def _parts(url: str) -> SplitResult:
    """AgentError if nothing can be sent to it."""
    why = "It begins with http:// or https:// and the receiver's host."
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError as error:  # such as a port that is no number
        why = f"{error}."
    raise AgentError(
        f"--otlp {url} is no URL of an OTLP/HTTP receiver.", why,
        "The usual one is http://127.0.0.1:4318.",
    )  # fmt: skip


def _connection(to: SplitResult) -> http.client.HTTPConnection:
    host = to.hostname or ""
    if to.scheme == "http":
        return http.client.HTTPConnection(host, to.port, timeout=_TIMEOUT_SECONDS)
    import ssl  # some MB that most agents do without

    trusted = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None
    context = ssl.create_default_context(cafile=trusted)
    return http.client.HTTPSConnection(host, to.port, timeout=_TIMEOUT_SECONDS, context=context)
