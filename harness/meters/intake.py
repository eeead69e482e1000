"""Reads what agents that speak no OTLP posted, into the items of OTLP; `posts` reads them.

They are Elastic's, Datadog's, and Pyroscope's clients, whose profiles `pushed` reads.
A span that tells of a request that the service answered is a SERVER span, whoever's it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.meters import msgpack, pushed
from harness.meters.otlp import Event, Point
from harness.wire.spool import Record

ELASTIC, DATADOG = "elastic", "datadog"  # the scopes of what they send
_V04, _V05, _INTAKE = "/v0.4/traces", "/v0.5/traces", "/intake/v2/events"
# places of what is looked for in a span of v0.5, an array of 12; its strings are in a table
_NAME, _PARENT, _START, _DURATION, _TYPE, _FIELDS = 1, 5, 6, 7, 11, 12


def items(record: Record) -> Iterator[Event | Point]:
    """What a post holds; ValueError if it is not what its path says."""
    if record.path == _INTAKE:
        yield from _transactions(record.content())
    elif record.path == _V04:
        for trace in _listed(msgpack.read(record.content())):
            yield from map(_span, _listed(trace))
    elif record.path == _V05:
        yield from _of_table(_listed(msgpack.read(record.content())))
    elif record.path == pushed.PATH:
        yield from pushed.points(record.content())


def _transactions(body: bytes) -> Iterator[Event]:
    """Of a stream of JSON objects, a line each; spans and metrics are told, too."""
    for line in body.splitlines():
        if not line.strip():
            continue
        told = json.loads(line)
        for kind in ("transaction", "span"):
            if (found := told.get(kind)) is None:
                continue
            served = kind == "transaction" and found.get("type") == "request"
            end_ns = _end_ns(1000 * int(found.get("timestamp", 0)), found.get("duration", 0))
            name = str(found.get("name", ""))
            yield Event("spans", ELASTIC, name, end_ns, span_kind=_kind(served))


def _end_ns(start_ns: int, milliseconds: float) -> int:
    return start_ns + round(1e6 * float(milliseconds)) if start_ns else 0


def _span(span: Any) -> Event:
    if not isinstance(span, Mapping):
        raise ValueError(f"a span is no map but a {type(span).__name__}")
    end = int(span.get("start", 0)) + int(span.get("duration", 0))
    is_served = span.get("type") == "web" and not span.get("parent_id")
    return Event("spans", DATADOG, str(span.get("name", "")), end, span_kind=_kind(is_served))


def _of_table(payload: list[Any]) -> Iterator[Event]:
    """Spans whose strings are numbers of a table that comes first."""
    if len(payload) != 2:
        raise ValueError(f"{len(payload)} parts came, not strings and traces")
    strings, traces = (_listed(part) for part in payload)
    for span in (_listed(each) for trace in traces for each in _listed(trace)):
        if len(span) != _FIELDS or max(span[_NAME], span[_TYPE]) >= len(strings):
            raise ValueError("a span has not its twelve fields, or strings that did not come")
        yield _span(
            {
                "name": strings[span[_NAME]],
                "type": strings[span[_TYPE]],
                "parent_id": span[_PARENT],
                "start": span[_START],
                "duration": span[_DURATION],
            }
        )


def _kind(is_served: bool) -> str:
    return "SERVER" if is_served else "INTERNAL"


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"a list was to come, not {type(value).__name__}")
    return value
