"""Jaeger: traces on the disk, in Badger; a Collector of its own that keeps what it receives."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from harness.stack import client, questions
from harness.stack.config import links
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.questions import Event, asked, too_many
from harness.stack.searches import Calls, Search, Spans

KEPT = "badger"
AHEAD_SECONDS = 2  # beyond now, for what has just begun


def render(stack: Stack) -> Tree:
    """Its file: what comes by OTLP is kept at once, without a batch that a kill would lose."""
    data = stack.data("jaeger")
    kept = {
        "badger": {
            "directories": {"keys": f"{data}/keys", "values": f"{data}/values"},
            "ephemeral": False,
            "ttl": {"spans": f"{stack.retention_hours}h"},
        }
    }
    return {
        "extensions": {
            "healthcheckv2": {
                "use_v2": True,
                "http": {"endpoint": stack.listens("jaeger", "health")},
            },
            "jaeger_storage": {"backends": {KEPT: kept}},
            "jaeger_query": {
                "storage": {"traces": KEPT},
                "http": {"endpoint": stack.listens("jaeger")},
                "grpc": {"endpoint": stack.listens("jaeger", "grpc")},
            },
        },
        "receivers": {
            "otlp": {"protocols": {"grpc": {"endpoint": stack.listens("jaeger", "otlp")}}}
        },
        "exporters": {"jaeger_storage_exporter": {"trace_storage": KEPT}},
        "service": {
            "extensions": ["healthcheckv2", "jaeger_storage", "jaeger_query"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}
            },
            "telemetry": {
                "logs": {"level": "warn"},
                "metrics": {"level": "normal", "readers": [_reader(stack)]},
            },
        },
    }


def _reader(stack: Stack) -> Tree:
    where = {"host": stack.address("jaeger", "metrics"), "port": stack.port("jaeger", "metrics")}
    return {"pull": {"exporter": {"prometheus": where}}}


class Jaeger:
    """What it is asked: searches by an attribute of the resource, and traces by their ids.

    Its newer API takes no attributes over HTTP: it is asked as its own pages and Grafana ask it.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def has(self, mark: str) -> bool:
        """Whether there is a trace of this id."""
        return self.size(mark) > 0

    def spans(self, instance: str, since_unix_ns: int = 0) -> list[Event]:
        """All spans of an instance that a search finds now, or those of traces that began since."""
        found: dict[object, Event] = {}
        for answer in self._search({"service.instance.id": instance}, since_unix_ns):
            if len(answer.get("data") or ()) >= questions.MOST:
                raise too_many()
            found |= {event.key: event for event in spans(answer, instance)}
        return list(found.values())

    def origin(self, attribute: str, value: str) -> dict[str, str] | None:
        """What is said of where a span with this attribute was made; None if none is found now."""
        found = (origin(each, attribute, value) for each in self._search({attribute: value}, 0))
        return next((each for each in found if each is not None), None)

    def _search(self, tags: dict[str, str], since_unix_ns: int) -> Iterator[Any]:
        """Its answers, one of each service: it searches no further."""
        services = asked("Jaeger", f"{self._url}/api/services").get("data") or ()
        for service in services:
            query = {
                "service": service,
                "tags": json.dumps(tags),
                "start": str(since_unix_ns // 1000),
                "end": str(int((time.time() + AHEAD_SECONDS) * 1e6)),
                "limit": str(questions.MOST),
            }
            yield asked("Jaeger", f"{self._url}/api/traces", query)

    def size(self, trace: str) -> int:
        """How many spans of this trace it has."""
        answer = client.ask(f"{self._url}/api/traces/{trace}") or {}
        return sum(len(one.get("spans", ())) for one in answer.get("data") or ())


def origin(answer: Any, attribute: str, value: str) -> dict[str, str] | None:
    """The resource of the first span with this attribute in its answer to a search."""
    for trace in answer.get("data") or ():
        for span in trace.get("spans", ()):
            if _has(span, attribute, value):
                process = (trace.get("processes") or {}).get(span.get("processID"), {})
                said = {tag["key"]: str(tag["value"]) for tag in process.get("tags") or ()}
                return {"service.name": str(process.get("serviceName", "")), **said}
    return None


def _has(span: Any, key: str, value: str) -> bool:
    return any((tag["key"], tag["value"]) == (key, value) for tag in span.get("tags") or ())


def spans(answer: Any, instance: str) -> Iterator[Event]:
    """Those of this instance in its answer to a search; its times are in microseconds."""
    for trace in answer.get("data") or ():
        own = {
            name
            for name, process in (trace.get("processes") or {}).items()
            if any(
                (tag["key"], tag["value"]) == ("service.instance.id", instance)
                for tag in process.get("tags") or ()
            )
        }
        for span in trace.get("spans", ()):
            if span.get("processID") in own:
                yield Event(
                    (span["traceID"], span["spanID"]),
                    1000 * (int(span["startTime"]) + int(span.get("duration", 0))),
                    str(span.get("operationName", "")),
                )


def target(search: Search) -> Tree | None:
    """A search of one service, which its data source asks for, or its graph of all calls."""
    if isinstance(search, Calls):
        return {"queryType": "dependencyGraph"}
    if not isinstance(search, Spans) or search.where[0] != "service.name":
        return None
    tags = {"tags": "error=true"} if search.failed else {}
    return {"queryType": "search", "service": search.where[2], "limit": 20, **tags}


PROGRAM = Program(
    render,
    lambda s: [f"--config={s.file('jaeger')}"],
    lambda s: s.url("jaeger", "health") + "/status",
    store=Store(
        exporter=lambda s: (
            "otlp_grpc",
            {"endpoint": s.reached("jaeger", "otlp"), "tls": {"insecure": True}},
        ),
        ask=Jaeger,
        probe="/api/services",
        target=target,
        settings=lambda s: {
            "tracesToLogsV2": links.traces_to_logs(s),
            "nodeGraph": {"enabled": True},
            **links.traces_to_profiles(s),
        },
    ),
)
