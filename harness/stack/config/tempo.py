"""Tempo: traces on the disk; service graphs and span metrics go to Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from harness.stack import client, questions
from harness.stack.config import links
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.questions import Event, asked, quoted, too_many
from harness.stack.searches import Calls, Search, Spans

SPANS_OF_ONE = 100  # that it tells of one trace
AHEAD_SECONDS = 2  # an end that is whole seconds, and later than whatever has happened


def render(stack: Stack) -> Tree:
    """Its file.

    A trace that was idle for a second is written to the log on disk (`trace_idle_period`): what
    Tempo acknowledged is in memory only until then. Its parts are in one process, and call each
    other on loopback, in a pod, too.
    """
    itself = f"127.0.0.1:{stack.port('tempo', 'grpc')}"
    ring = {"kvstore": {"store": "inmemory"}}
    return {
        "server": {
            "http_listen_address": stack.address("tempo"),
            "http_listen_port": stack.port("tempo"),
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": stack.port("tempo", "grpc"),
        },
        "usage_report": {"reporting_enabled": False},
        "distributor": {
            "ring": {**ring, "instance_addr": "127.0.0.1"},
            # told when to come back, the Collector keeps what was refused; else it drops it
            "retry_after_on_resource_exhausted": "1s",
            "receivers": {
                "otlp": {"protocols": {"grpc": {"endpoint": stack.listens("tempo", "otlp")}}}
            },
        },
        "ingester": {
            "lifecycler": {
                "address": "127.0.0.1",
                "ring": {**ring, "replication_factor": 1},
                "min_ready_duration": "0s",
                "final_sleep": "0s",
            },
            "trace_idle_period": "1s",
            "flush_check_period": "1s",
            "max_block_duration": "5m",
        },
        "querier": {"frontend_worker": {"frontend_address": itself}},
        # no ring: with one it waits a minute for others before it is ready
        "compactor": {"compaction": {"block_retention": f"{stack.retention_hours}h"}},
        "metrics_generator": {
            "ring": {**ring, "instance_addr": "127.0.0.1"},
            "storage": {
                "path": stack.data("tempo/generator"),
                "remote_write": [
                    {"url": stack.url("prometheus") + "/api/v1/write", "send_exemplars": True}
                ],
            },
        },
        "storage": {
            "trace": {
                "backend": "local",
                "local": {"path": stack.data("tempo/blocks")},
                "wal": {"path": stack.data("tempo/wal")},
            }
        },
        "overrides": {
            "defaults": {
                "metrics_generator": {"processors": ["service-graphs", "span-metrics"]},
                # what shields tenants from each other would here only lose spans
                "ingestion": {
                    "rate_limit_bytes": 500_000_000,
                    "burst_size_bytes": 1_000_000_000,
                    "max_traces_per_user": 0,
                },
            }
        },
    }


class Tempo:
    """What it is asked: TraceQL searches, and traces by their ids."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has(self, mark: str) -> bool:
        """Whether there is a trace of this id."""
        return bool(client.ask(f"{self._url}/api/traces/{mark}"))

    def spans(self, instance: str, since_unix_ns: int = 0) -> list[Event]:
        """All spans of an instance that a search finds now, or those of traces that ended since.

        Without start and end only what is recent is searched, and to the very moment; so it is with
        an end that is still to come, if the start lies in the last quarter of an hour.
        """
        query = {
            "q": f"{{resource.service.instance.id={quoted(instance)}}}",
            "limit": str(questions.MOST),
            "spss": str(SPANS_OF_ONE),
        }
        if since_unix_ns:
            end = int(time.time()) + AHEAD_SECONDS
            query |= {"start": str(since_unix_ns // 10**9), "end": str(end)}
        answer = asked("Tempo", f"{self._url}/api/search", query)
        if len(answer.get("traces") or ()) >= questions.MOST:
            raise too_many()
        return spans(answer)

    def origin(self, attribute: str, value: str) -> dict[str, str] | None:
        """What is said of where a span with this attribute was made; None if none is found now."""
        query = {"q": f"{{span.{attribute}={quoted(value)}}}", "limit": "1"}
        found = asked("Tempo", f"{self._url}/api/search", query).get("traces")
        if not found:
            return None
        whole = client.ask(f"{self._url}/api/traces/{found[0]['traceID']}")
        return origin(whole, attribute, value)  # None: not readable yet, and asked again

    def size(self, trace: str) -> int:
        """How many spans of this trace it has."""
        return size(client.ask(f"{self._url}/api/traces/{trace}"))


def spans(answer: Any) -> list[Event]:
    """Of its answer to a search, each span once."""
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


def size(answer: Any) -> int:
    """Spans in its answer."""
    return sum(
        len(scope.get("spans", ()))
        for group in _groups(answer)
        for scope in group.get("scopeSpans", ())
    )


def origin(answer: Any, attribute: str, value: str) -> dict[str, str] | None:
    """The resource of the first span with this attribute in its answer."""
    for group in _groups(answer):
        for scope in group.get("scopeSpans", ()):
            if any(_texts(span).get(attribute) == value for span in scope.get("spans", ())):
                return _texts(group.get("resource", {}))
    return None


def _texts(said: Any) -> dict[str, str]:
    """The attributes of a resource or span that are text."""
    pairs = ((each["key"], each.get("value", {})) for each in said.get("attributes", ()))
    return {key: value["stringValue"] for key, value in pairs if "stringValue" in value}


def _groups(answer: Any) -> Sequence[Any]:
    """Spans by their resource, as OTLP called them once or does now."""
    if not isinstance(answer, dict):
        return ()
    return answer.get("batches") or answer.get("trace", answer).get("resourceSpans") or ()


def _spansets(trace: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return trace.get("spanSets") or ([trace["spanSet"]] if trace.get("spanSet") else [])


def target(search: Search) -> Tree | None:
    """TraceQL; of calls it makes metrics, which its data source asks Prometheus for."""
    if isinstance(search, Calls):
        wanted = f'{{server=~"{search.service}"}}'
        return {"queryType": "serviceMap", "serviceMapQuery": wanted}
    if not isinstance(search, Spans):
        return None
    attribute, how, value = search.where
    found = f'resource.{attribute} {how} "{value}"' + (" && status = error" * search.failed)
    return {"queryType": "traceql", "query": f"{{ {found} }}", "limit": 20, "tableType": "traces"}


PROGRAM = Program(
    render,
    lambda s: [f"-config.file={s.file('tempo')}"],
    lambda s: s.url("tempo") + "/ready",
    store=Store(
        exporter=lambda s: (
            "otlp_grpc",
            {"endpoint": s.reached("tempo", "otlp"), "tls": {"insecure": True}},
        ),
        ask=Tempo,
        probe="/api/echo",
        target=target,
        settings=lambda s: {
            "tracesToLogsV2": links.traces_to_logs(s),
            "tracesToMetrics": links.traces_to_metrics(s),
            "serviceMap": {"datasourceUid": s.keeps["metrics"]},
            "nodeGraph": {"enabled": True},
            "traceQuery": {"timeShiftEnabled": True, **links.SHIFT},
            **links.traces_to_profiles(s),
        },
        span_metrics=True,
    ),
)
