"""Proves that data flows: writes a span, a sample and a log line by OTLP and reads each back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ComponentError
from harness.stack import backends
from harness.stack.client import post
from harness.stack.config import PROGRAMS, Stack
from harness.stack.questions import MARK, READBACK

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Arrival:
    """One signal that was found: where, and how long after it was sent (seconds)."""

    signal: str
    backend: str
    seconds: float


def prove(stack: Stack, limit_seconds: float = 60.0) -> list[Arrival]:
    """Send one of each signal to the Collector and find it where it is kept.

    ComponentError names what did not arrive in time.
    """
    arrived, missing = look(stack, limit_seconds)
    if missing:
        raise ComponentError(
            unkept(missing, limit_seconds),
            next_step=f"Look into the logs in {stack.folder / 'logs'}.",
        )
    return arrived


def unkept(missing: Sequence[str], seconds: float) -> str:
    """What did not arrive, as a sentence."""
    where = ", ".join(missing)
    return f"What was sent to the Collector was not found in {where} within {seconds:.0f} s."


def look(stack: Stack, limit_seconds: float) -> tuple[list[Arrival], list[str]]:
    """Send one of each signal to the Collector: what was found in time, and who kept nothing.

    The seconds count from before the post until the answer to the query that found it. A poll
    every 50 ms is the resolution.
    """
    mark = secrets.token_hex(16)
    sent = dict[str, float]()
    for signal in stack.keeps:
        sent[signal] = time.monotonic()
        send(stack, signal, mark)
    arrived = dict[str, Arrival]()
    deadline = time.monotonic() + limit_seconds
    while len(arrived) < len(sent):
        for signal, keeper in stack.keeps.items():
            if signal not in arrived and found(stack, signal, mark):
                arrived[signal] = Arrival(signal, keeper, time.monotonic() - sent[signal])
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    missing = [keeper for signal, keeper in stack.keeps.items() if signal not in arrived]
    return [arrived[signal] for signal in stack.keeps if signal in arrived], missing


def send(stack: Stack, signal: str, mark: str) -> None:
    """Post one record (traces, metrics or logs) with this mark, 32 hex digits, to the Collector.

    What does not go through it is written where it is kept. ComponentError if it is not
    acknowledged.
    """
    store = PROGRAMS[stack.keeps[signal]].store
    if store is not None and store.write is not None:
        store.write(stack.url(stack.keeps[signal]), mark)
        return
    post(f"{stack.otlp_url}/v1/{signal}", _payload(signal, mark, time.time_ns()), signal)


def found(stack: Stack, signal: str, mark: str) -> bool:
    """Whether a query to the signal's keeper finds the record with this mark now."""
    return backends.keeper(stack, signal).has(mark)


def _payload(signal: str, mark: str, now_ns: int) -> dict[str, Any]:
    """An OTLP/JSON export request with one record (opentelemetry-proto, JSON mapping)."""
    when = str(now_ns)
    resource = {"attributes": [_text("service.name", READBACK)]}
    if signal == "traces":
        span = {
            "traceId": mark, "spanId": mark[:16], "name": "readback", "kind": 2,
            "startTimeUnixNano": when, "endTimeUnixNano": when,
        }  # fmt: skip
        return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    if signal == "metrics":
        point = {"timeUnixNano": when, "asDouble": 1.0, "attributes": [_text("mark", mark)]}
        gauge = {"name": MARK, "gauge": {"dataPoints": [point]}}
        return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [gauge]}]}]}
    line = {"timeUnixNano": when, "body": {"stringValue": f"readback {mark}"}}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [line]}]}]}


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
