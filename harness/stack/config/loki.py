"""Loki: one process, index tsdb with schema v13, files on the disk, with retention."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from typing import Any

from harness.stack import client
from harness.stack.config import links
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.questions import QUERY_SECONDS, READBACK, Event, asked, label, quoted
from harness.stack.searches import Lines, Search

LEAST_RETENTION_HOURS = 24
"""The period of its index, which is what Loki drops at once."""
LINES = 5000  # that one query may find, as it allows
RANGE = "/loki/api/v1/query_range"


def render(stack: Stack) -> Tree:
    """Its file; its parts are in one process, and call each other on loopback, in a pod, too."""
    scheduler = {"scheduler_address": f"127.0.0.1:{stack.port('loki', 'grpc')}"}
    return {
        "auth_enabled": False,
        "analytics": {"reporting_enabled": False},
        "server": {
            "http_listen_address": stack.address("loki"),
            "http_listen_port": stack.port("loki"),
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": stack.port("loki", "grpc"),
            "log_level": "warn",
        },
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": stack.data("loki"),
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {
                "filesystem": {
                    "chunks_directory": stack.data("loki/chunks"),
                    "rules_directory": stack.data("loki/rules"),
                }
            },
        },
        "ingester": {"lifecycler": {"min_ready_duration": "0s", "final_sleep": "0s"}},
        # told where it is, they do not wait ten seconds until a ring says it
        "query_scheduler": {"use_scheduler_ring": False},
        "frontend": scheduler,
        "frontend_worker": scheduler,
        "schema_config": {
            "configs": [
                {
                    "from": "2024-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "limits_config": {
            "allow_structured_metadata": True,
            "retention_period": f"{max(LEAST_RETENTION_HOURS, stack.retention_hours)}h",
            "volume_enabled": True,
            # what shields tenants from each other would here only lose lines
            "ingestion_rate_mb": 256,
            "ingestion_burst_size_mb": 512,
            "per_stream_rate_limit": "256MB",
            "per_stream_rate_limit_burst": "512MB",
        },
        "compactor": {
            "working_directory": stack.data("loki/compactor"),
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
    }


class Loki:
    """What it is asked: LogQL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has(self, mark: str) -> bool:
        """Whether it finds a line with this mark."""
        query = {"query": f'{{service_name="{READBACK}"}} |= "{mark}"'}
        answer = client.ask(f"{self._url}{RANGE}", query)
        return bool(answer and answer.get("data", {}).get("result"))

    def lines(
        self, instance: str, since_unix_ns: int, only: tuple[str, str] | None = None
    ) -> list[Event]:
        """The log lines of an instance since then that carry this attribute, the oldest first."""
        query = f'{{service_name=~".+"}} | service_instance_id={quoted(instance)}'
        query += f" | {label(only[0])}={quoted(only[1])}" if only else ""
        found: dict[Hashable, Event] = {}
        while True:
            page = self._page(query, since_unix_ns)
            known = len(found)
            found |= {line.key: line for line in page}
            if len(page) < LINES or len(found) == known:
                return list(found.values())
            since_unix_ns = max(line.time_unix_ns for line in page)  # some of it may be cut off

    def number(self, instance: str, seconds: float) -> float | None:
        """How many lines of the last so many seconds it has; None: no answer."""
        span = f"{max(60, round(seconds))}s"
        query = f'sum(count_over_time({{service_instance_id="{instance}"}}[{span}]))'
        answer = client.ask(f"{self._url}/loki/api/v1/query", {"query": query}, QUERY_SECONDS) or {}
        result = answer.get("data", {}).get("result")
        if result is None:
            return None
        return float(result[0]["value"][1]) if result else 0.0

    def _page(self, query: str, since_unix_ns: int) -> list[Event]:
        parameters = {
            "query": query,
            "start": str(since_unix_ns),
            "end": str(time.time_ns() + 10**9),
            "limit": str(LINES),
            "direction": "forward",
        }
        return list(lines(asked("Loki", f"{self._url}{RANGE}", parameters)))


def lines(answer: Any) -> Iterator[Event]:
    """Of its answer: labels and structured metadata together are a stream's `labels`."""
    for stream in answer["data"]["result"]:
        labels = frozenset(stream["stream"].items())
        name = stream["stream"].get("event_name", "")
        alike: dict[tuple[str, str], int] = {}
        for at, line, *_ in stream["values"]:
            # equal lines of one stream at one time are several events
            nth = alike[at, line] = alike.get((at, line), 0) + 1
            yield Event((labels, at, line, nth), int(at), name or line, labels)


def target(search: Search) -> Tree | None:
    """LogQL; labels and structured metadata have underscores for dots."""
    if not isinstance(search, Lines):
        return None
    first, *others = (f'{label(name)}{how}"{value}"' for name, how, value in search.where)
    found = "".join([f"{{{first}}}", *(f" | {other}" for other in others)])
    if not search.window:
        shown = " ".join(f"{{{{.{label(name)}}}}}" for name in search.shown)
        return {"expr": found + (f" | line_format `{{{{__line__}}}} {shown}`" if shown else "")}
    counted = f"count_over_time({found} [{search.window}])"
    how_often = {"queryType": "range" if search.window == "$__auto" else "instant"}
    if not search.by:
        return {"expr": f"sum({counted}) or vector(0)", **how_often}
    grouped = f"sum by ({', '.join(map(label, search.by))}) ({counted})"
    return {"expr": f"topk({search.most}, {grouped})" if search.most else grouped, **how_often}


PROGRAM = Program(
    render,
    lambda s: [f"-config.file={s.file('loki')}"],
    lambda s: s.url("loki") + "/ready",
    store=Store(
        exporter=lambda s: ("otlp_http", {"logs_endpoint": s.url("loki") + "/otlp/v1/logs"}),
        ask=Loki,
        probe="/loki/api/v1/labels",
        target=target,
        called=label,
        settings=lambda s: links.log_to_trace(
            s, {"matcherType": "label", "matcherRegex": "trace_id"}
        ),
    ),
)
