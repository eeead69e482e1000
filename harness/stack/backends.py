"""What Prometheus, Tempo, Loki and the Collector are asked, and what answers hold; for `full`.

Asking and reading are apart: the functions that read take an answer, parsed JSON or text.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import ComponentError
from harness.stack import client, counters
from harness.stack.config import Stack

OWN = "harness-agent"  # service.name of what agents say of themselves
COUNTERS = ".+_(total|count)"  # metrics that count, by the names that Prometheus gives them
MOST = 100_000  # traces that one search may find: more than a trial has
LINES = 5000  # that one query may find, as Loki allows
SPANS_OF_ONE = 100  # that Tempo tells of one trace
AHEAD_SECONDS = 2  # an end that is whole seconds, and later than whatever has happened
TRIES, PAUSE_SECONDS = 3, 0.5
LOOK = "Its log says more."
TAKEN = {"spans": "spans", "metrics": "points", "logs": "logs"}


@dataclass(frozen=True)
class Series:
    """A series of cumulative values: labels, and points of time (unix ns) and value in order."""

    labels: frozenset[tuple[str, str]]
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Event:
    """A span (its time is its end) or a log line; `key` tells it from every other one."""

    key: Hashable
    time_unix_ns: int
    name: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()


class Backends:
    """Asks the backends of a stack; ComponentError if one does not answer, or refuses."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def counters(self, instance: str, name: str, since_unix_ns: int) -> list[Series]:
        """The raw samples since then of what an instance counts under names that match."""
        seconds = max(1, int(time.time() - since_unix_ns / 1e9) + 1)
        selector = _selector(
            service_instance_id=f"={quoted(instance)}",
            __name__=f"=~{quoted(name)}",
            service_name=f"!={quoted(OWN)}",
        )
        query = {"query": f"{selector}[{seconds}s]"}
        return series(self._ask("Prometheus", self._stack.ports.prometheus, "/api/v1/query", query))

    def spans(self, instance: str, since_unix_ns: int = 0) -> list[Event]:
        """All spans of an instance that a search finds now, or those of traces that ended since.

        Without start and end only what is recent is searched, and to the very moment; so it is with
        an end that is still to come, if the start lies in the last quarter of an hour.
        """
        query = {
            "q": f"{{resource.service.instance.id={quoted(instance)}}}",
            "limit": str(MOST),
            "spss": str(SPANS_OF_ONE),
        }
        if since_unix_ns:
            end = int(time.time()) + AHEAD_SECONDS
            query |= {"start": str(since_unix_ns // 10**9), "end": str(end)}
        answer = self._ask("Tempo", self._stack.ports.tempo, "/api/search", query)
        if len(answer.get("traces") or ()) >= MOST:
            raise ComponentError(
                f"A search found {MOST:,} traces, which is all that it may find.",
                "How many there are cannot be told.",
                "Let the collector send fewer: http:sample=100.",
            )
        return spans(answer)

    def lines(
        self, instance: str, since_unix_ns: int, only: tuple[str, str] | None = None
    ) -> list[Event]:
        """The log lines of an instance since then that carry this attribute, the oldest first."""
        query = f'{{service_name=~".+"}} | service_instance_id={quoted(instance)}'
        query += f" | {label(only[0])}={quoted(only[1])}" if only else ""
        found: dict[Hashable, Event] = {}
        while True:
            page = self._lines(query, since_unix_ns)
            known = len(found)
            found |= {line.key: line for line in page}
            if len(page) < LINES or len(found) == known:
                return list(found.values())
            since_unix_ns = max(line.time_unix_ns for line in page)  # some of it may be cut off

    def _lines(self, query: str, since_unix_ns: int) -> list[Event]:
        parameters = {
            "query": query,
            "start": str(since_unix_ns),
            "end": str(time.time_ns() + 10**9),
            "limit": str(LINES),
            "direction": "forward",
        }
        path = "/loki/api/v1/query_range"
        return lines(self._ask("Loki", self._stack.ports.loki, path, parameters))

    def taken(self) -> dict[str, float]:
        """How many spans, metric points and log records the backends took from the Collector."""
        return taken(_get("The Collector", counters.collector_url(self._stack)).decode())

    def _ask(self, name: str, port: int, path: str, query: Mapping[str, str]) -> Any:
        text = _get(name, self._stack.url(port) + path, query)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ComponentError(f"{name} answered what is not JSON: {error}.") from error


def series(answer: Any) -> list[Series]:
    """Of Prometheus' answer to a query with a range selector."""
    return [
        Series(
            frozenset(one["metric"].items()),
            tuple((round(float(at) * 1e3) * 10**6, float(value)) for at, value in one["values"]),
        )
        for one in answer["data"]["result"]
    ]


def spans(answer: Any) -> list[Event]:
    """Of Tempo's answer to a search, each span once."""
    found = {
        (trace["traceID"], span["spanID"]): Event(
            (trace["traceID"], span["spanID"]),
            int(span["startTimeUnixNano"]) + int(span.get("durationNanos", 0)),
            str(span.get("name", "")),
        )
        for trace in answer.get("traces") or ()
        for spanset in _spansets(trace)
        for span in spanset.get("spans", ())
    }
    return list(found.values())


def _spansets(trace: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return trace.get("spanSets") or ([trace["spanSet"]] if trace.get("spanSet") else [])


def lines(answer: Any) -> list[Event]:
    """Of Loki's answer: labels and structured metadata together are a stream's `labels`."""
    return list(_lines(answer))


def _lines(answer: Any) -> Iterator[Event]:
    for stream in answer["data"]["result"]:
        labels = frozenset(stream["stream"].items())
        name = stream["stream"].get("event_name", "")
        alike: dict[tuple[str, str], int] = {}
        for at, line, *_ in stream["values"]:
            # equal lines of one stream at one time are several events
            nth = alike[at, line] = alike.get((at, line), 0) + 1
            yield Event((labels, at, line, nth), int(at), name or line, labels)


def taken(text: str) -> dict[str, float]:
    """Of the Collector's own metrics: what its exporters sent, by kind of telemetry."""
    return {kind: counters.collector(text, name)["sent"] for kind, name in TAKEN.items()}


def label(attribute: str) -> str:
    """An attribute's name as a label of Prometheus and Loki."""
    return re.sub(r"\W", "_", attribute)


def metric(name: str) -> str:
    """What matches an OpenTelemetry metric's count in Prometheus, whatever unit it has."""
    return f"{label(name)}(_.+)?_(total|count)"


def quoted(text: str) -> str:
    """A string of PromQL, LogQL or TraceQL."""
    return json.dumps(text, ensure_ascii=False)


def _selector(**matchers: str) -> str:
    return "{" + ",".join(f"{name}{matcher}" for name, matcher in matchers.items()) + "}"


def _get(name: str, url: str, query: Mapping[str, str] | None = None) -> bytes:
    """The body of an answer; a refusal that may pass is tried again."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            return client.get(url, query)
        except urllib.error.HTTPError as error:
            what, why = f"{name} refused a query.", f"It said {client.refusal(error)}"
            if error.code < 500:
                break
        except client.FAILURES as error:
            what, why = f"{name} does not answer.", f"{getattr(error, 'reason', error)}."
    raise ComponentError(what, why, LOOK)
