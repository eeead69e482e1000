"""Counts in the backends what a ramp sent, when all of it has had time to arrive; for `ramp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.stack.client import ask
from harness.stack.config import Stack
from harness.stack.requests import SPANS_PER_TRACE

QUERY_SECONDS = 120.0
PREFIX = "ramp_"  # of the names of all points


def points(stack: Stack, mark: str, seconds: float) -> float | None:
    """Samples in Prometheus of this instance id, of the last so many seconds."""
    url, found = stack.url(stack.ports.prometheus) + "/api/v1", 0.0
    named = ask(f"{url}/label/__name__/values", {"match[]": f'{{instance="{mark}"}}'})
    if not named:
        return None
    # one name at a time: a function over a range takes the name off, and then there are twins
    for name in (name for name in named["data"] if name.startswith(PREFIX)):
        count = _value(
            f"{url}/query",
            f'sum(count_over_time({name}{{instance="{mark}"}}[{_span(seconds)}]))',
        )
        if count is None:
            return None
        found += count
    return found


def lines(stack: Stack, mark: str, seconds: float) -> float | None:
    """Lines in Loki of this instance id, of the last so many seconds."""
    query = f'sum(count_over_time({{service_instance_id="{mark}"}}[{_span(seconds)}]))'
    return _value(stack.url(stack.ports.loki) + "/loki/api/v1/query", query)


def whole_traces(stack: Stack, traces: Sequence[str]) -> int:
    """How many of these traces are in Tempo with all their spans."""
    url = stack.url(stack.ports.tempo) + "/api/traces/"
    return sum(_spans(ask(url + trace)) == SPANS_PER_TRACE for trace in traces)


def _spans(answer: Any) -> int:
    """Spans of a trace in Tempo's answer, which calls the groups as OTLP did once or does now."""
    if not isinstance(answer, dict):
        return 0
    groups = answer.get("batches") or answer.get("trace", answer).get("resourceSpans") or []
    return sum(
        len(scope.get("spans", ())) for group in groups for scope in group.get("scopeSpans", ())
    )


def _span(seconds: float) -> str:
    return f"{max(60, round(seconds))}s"


def _value(url: str, query: str) -> float | None:
    """The number that a query sums up to: 0 if it finds nothing, None if there is no answer."""
    answer = ask(url, {"query": query}, QUERY_SECONDS) or {}
    result = answer.get("data", {}).get("result")
    if result is None:
        return None
    return float(result[0]["value"][1]) if result else 0.0
