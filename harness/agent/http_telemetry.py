"""What is told of requests: attributes, metrics and spans; used by `http` and `http_spans`.

Names are those of OpenTelemetry's semantic conventions for HTTP servers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_char, c_uint8, c_uint16, c_uint64
from dataclasses import dataclass
from itertools import accumulate, pairwise

from harness.agent.container import Container
from harness.agent.telemetry import Attributes, Buckets, Metric, Span, histogram
from harness.agent.text import text

# enum http_method in bpf/http.h
METHODS = (
    "", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "_OTHER",
)  # fmt: skip
# enum http_error: who ended a connection before the response did
ERRORS = ("", "server_closed", "client_closed", "connection_reset", "timeout")

# advised by the semantic conventions for http.server.request.duration, in seconds; those below
# tell services apart that answer within 5 ms
DURATION_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025,
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
)  # fmt: skip
SIZE_BOUNDS = (0, *(1 << power for power in range(10, 26, 2)))  # 1 KiB to 16 MiB

# keys of a query whose values the semantic conventions keep to themselves
_SECRET = {
    b"AWSAccessKeyId", b"Signature", b"sig", b"X-Goog-Signature",
    b"X-Amz-Credential", b"X-Amz-Security-Token", b"X-Amz-Signature",
}  # fmt: skip
_ABSOLUTE = b"http://"  # a target as proxies are told it
_NO_VERSION = 10
UNKNOWN = (1 << 64) - 1
"""What a size is that nobody knows."""


class Key(ctypes.Structure):
    """struct http_key in bpf/http.h."""

    _fields_ = (
        ("route", c_char * 56),
        ("status", c_uint16),
        ("port", c_uint16),
        ("method", c_uint8),
        ("minor", c_uint8),
        ("error", c_uint8),
        ("unused", c_uint8),
    )


class Event(ctypes.Structure):
    """struct http_event in bpf/http.h."""

    _fields_ = (
        ("start_ns", c_uint64),
        ("end_ns", c_uint64),
        ("request_bytes", c_uint64),
        ("response_bytes", c_uint64),
        ("key", Key),
        ("cgroup", c_uint64),
        ("target", c_char * 128),
        ("first_byte_ns", c_uint64),
    )


KEY_BYTES = ctypes.sizeof(Key)
Series = tuple[Container | None, bytes]  # and the bytes of a Key
_DURATIONS, _SIZES = len(DURATION_BOUNDS) + 1, len(SIZE_BOUNDS) + 1
# struct http_totals: duration_ns, response_bytes, duration, response, request_bytes,
# request_unknown, request without its first bucket
_PARTS = list(accumulate((1, 1, _DURATIONS, _SIZES, 1, 1, _SIZES - 1)))
FIGURES = _PARTS[-1]
"""Numbers in one struct http_totals."""


def counted(figures: Sequence[int]) -> int:
    """All requests of a series."""
    return sum(figures[_PARTS[1] : _PARTS[2]])


@dataclass(frozen=True)
class Totals:
    """One series of struct http_totals, all CPUs added up."""

    container: Container | None
    attributes: Attributes
    duration: Sequence[int]
    duration_ns: int
    request: Sequence[int]
    request_bytes: int
    response: Sequence[int]
    response_bytes: int
    example: Span | None


def totals(series: Series, figures: Sequence[int], example: Span | None) -> Totals:
    """The figures of a series by their names."""
    container, key = series
    starts = (0, *_PARTS)
    (duration_ns,), (response_bytes,), duration, response, (request_bytes,), (unknown,), sized = (
        figures[start:end] for start, end in pairwise(starts)
    )
    bodyless = counted(figures) - unknown - sum(sized)
    return Totals(
        container,
        _attributes(Key.from_buffer_copy(key)),
        duration,
        duration_ns,
        (bodyless, *sized),
        request_bytes,
        response,
        response_bytes,
        example,
    )


def metrics(series: Sequence[Totals]) -> list[Metric]:
    """Histograms of durations and of the sizes that are known."""
    if not series:
        return []
    durations = [Buckets(t.attributes, t.duration, t.duration_ns / 1e9, t.example) for t in series]
    requests = [Buckets(t.attributes, t.request, t.request_bytes) for t in series]
    responses = [Buckets(t.attributes, t.response, t.response_bytes) for t in series]
    return [
        histogram("http.server.request.duration", "s", DURATION_BOUNDS, durations),
        histogram("http.server.request.body.size", "By", SIZE_BOUNDS, requests),
        histogram("http.server.response.body.size", "By", SIZE_BOUNDS, responses),
    ]


def span(event: Event, container: Container | None, trace_id: int, span_id: int) -> Span:
    """A request that is told one by one."""
    key = event.key
    attributes = _attributes(key)
    method, target = METHODS[key.method], event.target
    if method == "_OTHER":  # it is kept before the target
        original, _, target = target.partition(b" ")
        attributes["http.request.method_original"] = text(original)
        method = "HTTP"
    path, _, query = _origin(target.split(b" ", 1)[0]).partition(b"?")
    attributes["url.path"] = text(path)
    if query:
        attributes["url.query"] = text(scrubbed(query))
    for name, size in (("request", event.request_bytes), ("response", event.response_bytes)):
        if size != UNKNOWN:
            attributes[f"http.{name}.body.size"] = size
    if event.first_byte_ns:  # it was not all of the response, nor was there none
        attributes["http.response.time_to_first_byte_ns"] = event.first_byte_ns
    return Span(
        f"{method} {attributes['http.route']}",
        event.start_ns,
        event.end_ns,
        attributes,
        error="error.type" in attributes,
        container=container,
        trace_id=trace_id,
        span_id=span_id,
    )


def scrubbed(query: bytes) -> bytes:
    """A query without the values of keys that give access to something."""
    pairs = (pair.partition(b"=") for pair in query.split(b"&"))
    return b"&".join(
        key + equals + (b"REDACTED" if equals and key in _SECRET else value)
        for key, equals, value in pairs
    )


def _origin(target: bytes) -> bytes:
    """A target without the host that a client told a proxy."""
    if not target.lower().startswith(_ABSOLUTE):
        return target
    return b"/" + target[len(_ABSOLUTE) :].partition(b"/")[2]


def _attributes(key: Key) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "http.request.method": METHODS[key.method],
        "http.route": text(key.route),
        "server.port": key.port,
        "url.scheme": "http",
    }
    if key.status:
        attributes["http.response.status_code"] = key.status
    if key.minor < _NO_VERSION:  # the line that tells it was torn
        attributes["network.protocol.version"] = f"1.{key.minor}"
    if key.status >= 500:
        attributes["error.type"] = str(key.status)
    elif key.error:
        attributes["error.type"] = ERRORS[key.error]
    return attributes
