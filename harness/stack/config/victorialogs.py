"""VictoriaLogs: log lines on the disk, a folder a day; everything is said by its arguments."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime

from harness.stack import client
from harness.stack.config import links
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.questions import QUERY_SECONDS, READBACK, Event, quoted, told
from harness.stack.searches import Lines, Search

LEAST_RETENTION_HOURS = 24
"""It keeps whole days and refuses less."""
QUERY = "/select/logsql/query"
LATER_SECONDS = 1.0  # beyond now, for what has just happened


class VictoriaLogs:
    """What it is asked: LogsQL. Attributes are fields by their own names, events' names too."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has(self, mark: str) -> bool:
        """Whether it finds a line with this mark."""
        query = {"query": f"{of('service.name', READBACK)} {quoted(mark)}", "limit": "1"}
        try:
            return bool(client.get(self._url + QUERY, query).strip())
        except client.FAILURES:
            return False

    def lines(
        self, instance: str, since_unix_ns: int, only: tuple[str, str] | None = None
    ) -> list[Event]:
        """The log lines of an instance since then that carry this attribute, the oldest first."""
        query = of("service.instance.id", instance)
        query += f" {quoted(only[0])}:={quoted(only[1])}" if only else ""
        parameters = {
            "query": query,
            "start": str(since_unix_ns),
            "end": str(time.time_ns() + int(LATER_SECONDS * 1e9)),
        }
        text = told("VictoriaLogs", self._url + QUERY, parameters).decode()
        return sorted(lines(text), key=lambda event: event.time_unix_ns)

    def number(self, instance: str, seconds: float) -> float | None:
        """How many lines of the last so many seconds it has; None: no answer."""
        span = f"_time:{max(60, round(seconds))}s"
        query = f"{span} {of('service.instance.id', instance)} | stats count() lines"
        found = client.ask(self._url + QUERY, {"query": query}, QUERY_SECONDS)
        return float(found["lines"]) if isinstance(found, dict) and "lines" in found else None


def of(attribute: str, value: str) -> str:
    """What selects the streams whose resource has this attribute."""
    return f"{{{quoted(attribute)}={quoted(value)}}}"


def lines(text: str) -> Iterator[Event]:
    """Of its answer, an object a line."""
    alike: dict[object, int] = {}
    for one in map(json.loads, text.splitlines()):
        labels = frozenset((name, str(value)) for name, value in one.items())
        nth = alike[labels] = alike.get(labels, 0) + 1  # equal lines are several events
        name = one.get("event_name") or one.get("_msg", "")
        yield Event((labels, nth), unix_ns(one["_time"]), name, labels)


def unix_ns(text: str) -> int:
    """An RFC 3339 time in UTC with up to nine digits of a second, which no float holds."""
    whole, _, part = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 10**9 + int(part.ljust(9, "0") or 0)


def _arguments(stack: Stack) -> list[str]:
    hours = max(LEAST_RETENTION_HOURS, stack.retention_hours)
    return [
        f"-storageDataPath={stack.data('victorialogs')}",
        f"-httpListenAddr={stack.listens('victorialogs')}",
        f"-retentionPeriod={hours}h",
        "-inmemoryDataFlushInterval=1s",  # what a kill may lose
        "-loggerLevel=WARN",
    ]


def _exporter(stack: Stack) -> tuple[str, Tree]:
    return "otlp_http", {
        "logs_endpoint": stack.url("victorialogs") + "/insert/opentelemetry/v1/logs"
    }


def target(search: Search) -> Tree | None:
    """LogsQL; attributes are called as they are."""
    if not isinstance(search, Lines):
        return None
    (first, how, value), *others = search.where
    found = f"{{{quoted(first)}{how}{quoted(value)}}}"
    for name, kind, text in others:
        found += f" {quoted(name)}:{kind if kind == '=' else '~'}{quoted(text)}"
    if not search.window:
        shown = " ".join(f"<{name}>" for name in search.shown)
        return {"expr": found + (f' | format "<_msg> {shown}" as _msg' if shown else "")}
    by = f" by ({', '.join(map(quoted, search.by))})" if search.by else ""
    found += f" | stats{by} count() records"
    found += f" | sort by (records desc) limit {search.most}" if search.most else ""
    ranged = search.window == "$__auto"
    return {"expr": found, "queryType": "statsRange" if ranged else "stats"}


PROGRAM = Program(
    None,
    _arguments,
    lambda s: s.url("victorialogs") + "/health",
    store=Store(
        exporter=_exporter,
        ask=VictoriaLogs,
        probe=f"{QUERY}?query=*&limit=1",
        target=target,
        settings=lambda s: links.log_to_trace(s, {"matcherRegex": "trace_id"}),
    ),
)
