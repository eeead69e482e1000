"""Proves that data flows: writes a span, a sample and a log line by OTLP and reads each back."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from harness.errors import ComponentError
from harness.stack.client import ask, post
from harness.stack.config import Stack

SERVICE = "harness-readback"
BACKENDS = {"traces": "tempo", "metrics": "prometheus", "logs": "loki"}
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Arrival:
    """One signal that was found: where, and how long after it was sent (seconds)."""

    signal: str
    backend: str
    seconds: float


def prove(stack: Stack, limit_seconds: float = 60.0) -> list[Arrival]:
    """Send one of each signal to the Collector and find it in its backend.

    The seconds count from before the post until the answer to the query that found it. A poll
    every 50 ms is the resolution. ComponentError names what did not arrive in time.
    """
    mark = secrets.token_hex(16)
    sent = dict[str, float]()
    for signal in BACKENDS:
        sent[signal] = time.monotonic()
        send(stack, signal, mark)
    arrived = dict[str, Arrival]()
    deadline = time.monotonic() + limit_seconds
    while len(arrived) < len(sent):
        for signal, backend in BACKENDS.items():
            if signal not in arrived and found(stack, signal, mark):
                arrived[signal] = Arrival(signal, backend, time.monotonic() - sent[signal])
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    missing = [backend for signal, backend in BACKENDS.items() if signal not in arrived]
    if missing:
        raise ComponentError(
            f"What was sent to the Collector was not found in {', '.join(missing)} within "
            f"{limit_seconds:.0f} s.",
            next_step=f"Look into the logs in {stack.folder / 'logs'}.",
        )
    return [arrived[signal] for signal in BACKENDS]


def send(stack: Stack, signal: str, mark: str) -> None:
    """Post one record (traces, metrics or logs) with this mark, 32 hex digits, to the Collector.

    ComponentError if it is not acknowledged.
    """
    url = stack.url(stack.ports.otlp_http) + f"/v1/{signal}"
    post(url, _payload(signal, mark, time.time_ns()), signal)


def found(stack: Stack, signal: str, mark: str) -> bool:
    """Whether a query to the signal's backend finds the record with this mark now."""
    if signal == "traces":
        return bool(ask(stack.url(stack.ports.tempo) + f"/api/traces/{mark}"))
    if signal == "metrics":
        query = {"query": f'harness_readback{{mark="{mark}"}}'}
        return _results(ask(stack.url(stack.ports.prometheus) + "/api/v1/query", query))
    query = {"query": f'{{service_name="{SERVICE}"}} |= "{mark}"'}
    return _results(ask(stack.url(stack.ports.loki) + "/loki/api/v1/query_range", query))


def _results(answer: Any) -> bool:
    return bool(answer and answer.get("data", {}).get("result"))


def _payload(signal: str, mark: str, now_ns: int) -> dict[str, Any]:
    """An OTLP/JSON export request with one record (opentelemetry-proto, JSON mapping)."""
    when = str(now_ns)
    resource = {"attributes": [_text("service.name", SERVICE)]}
    if signal == "traces":
        span = {
            "traceId": mark, "spanId": mark[:16], "name": "readback", "kind": 2,
            "startTimeUnixNano": when, "endTimeUnixNano": when,
        }  # fmt: skip
        return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    if signal == "metrics":
        point = {"timeUnixNano": when, "asDouble": 1.0, "attributes": [_text("mark", mark)]}
        gauge = {"name": "harness_readback", "gauge": {"dataPoints": [point]}}
        return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [gauge]}]}]}
    line = {"timeUnixNano": when, "body": {"stringValue": f"readback {mark}"}}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [line]}]}]}


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
