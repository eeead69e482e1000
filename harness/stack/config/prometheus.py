"""Prometheus: takes OTLP and remote write, scrapes the stack itself, evaluates its rules."""

from __future__ import annotations

import time
from typing import Any

from harness.stack import catalog, client, rules
from harness.stack.catalog import Component
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.questions import (
    INSTANCE,
    MARK,
    OWN,
    QUERY_SECONDS,
    Series,
    asked,
    label,
    quoted,
)

RULES = "rules.yaml"
EVENTS = "harness_agent_events_total"  # which every collector tells of itself
INTERVAL_SECONDS = 15  # the shortest window that panels ask for is four times this
LATE_HOURS = 6
"""How long samples may have waited in the Collector's queue; older ones are refused for good."""
PROMOTED = (
    "service.name",
    "service.namespace",
    "service.instance.id",
    "host.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cluster.name",
    "harness.run",
)
"""The resource attributes that become labels of each series that comes by OTLP."""


def render(stack: Stack) -> Tree:
    """Its file; exemplars are kept, and so are samples that waited in the Collector's queue."""
    interval = f"{stack.scrape_seconds}s"
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(stack.folder / RULES)],
        "otlp": {"promote_resource_attributes": list(PROMOTED)},
        "storage": {
            # what waited in the Collector's queue is older than what came since
            "tsdb": {"out_of_order_time_window": f"{LATE_HOURS}h"},
            "exemplars": {"max_exemplars": 100_000},
        },
        "scrape_configs": [_job(stack, catalog.known()[name]) for name in scraped(stack)],
    }


def scraped(stack: Stack) -> list[str]:
    """The components of this stack that tell metrics of themselves: its Collector, its keepers."""
    return ["otelcol", *(stack.keeps[signal] for signal in sorted(stack.keeps))]


def _job(stack: Stack, component: Component) -> Tree:
    target = stack.reached(component.name, component.metrics)
    job: Tree = {"job_name": component.name, "static_configs": [{"targets": [target]}]}
    if component.prefix:
        job["metric_relabel_configs"] = [
            {
                "source_labels": ["__name__"],
                "regex": "otelcol_(.+)",
                "target_label": "__name__",
                "replacement": f"{component.prefix}${{1}}",
            }
        ]
    return job


class Prometheus:
    """What it is asked: PromQL."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/v1"

    def has(self, mark: str) -> bool:
        """Whether it finds the sample with this mark."""
        answer = client.ask(f"{self._url}/query", {"query": f'{MARK}{{mark="{mark}"}}'})
        return bool(answer and answer.get("data", {}).get("result"))

    def counters(
        self, instance: str, name: str, since_unix_ns: int, by: str = INSTANCE
    ) -> list[Series]:
        """The raw samples since then of what an instance counts under names that match."""
        seconds = max(1, int(time.time() - since_unix_ns / 1e9) + 1)
        selector = _selector(
            **{by: f"={quoted(instance)}"},
            __name__=f"=~{quoted(name)}",
            service_name=f"!={quoted(OWN)}",
        )
        query = {"query": f"{selector}[{seconds}s]"}
        return series(asked("Prometheus", f"{self._url}/query", query))

    def heard(self, attribute: str) -> dict[str, float]:
        """Seconds since agents told of themselves, by an attribute of what they run on."""
        by = label(attribute)
        newest = f"max by ({by}) (timestamp({EVENTS}{_selector(service_name=f'={quoted(OWN)}')}))"
        answer = asked("Prometheus", f"{self._url}/query", {"query": f"time() - {newest}"})
        found = ((one["metric"].get(by), one["value"][1]) for one in answer["data"]["result"])
        return {name: float(age) for name, age in found if name}

    def number(self, instance: str, prefix: str, seconds: float) -> float | None:
        """Samples of the last so many seconds, of all names with this prefix; None: no answer."""
        match = {"match[]": f'{{instance="{instance}"}}'}
        named, found = client.ask(f"{self._url}/label/__name__/values", match), 0.0
        if not named:
            return None
        # one name at a time: a function over a range takes the name off, and then there are twins
        for name in (name for name in named["data"] if name.startswith(prefix)):
            span = f"{max(60, round(seconds))}s"
            count = self._value(f'sum(count_over_time({name}{{instance="{instance}"}}[{span}]))')
            if count is None:
                return None
            found += count
        return found

    def _value(self, query: str) -> float | None:
        answer = client.ask(f"{self._url}/query", {"query": query}, QUERY_SECONDS) or {}
        result = answer.get("data", {}).get("result")
        if result is None:
            return None
        return float(result[0]["value"][1]) if result else 0.0


def series(answer: Any) -> list[Series]:
    """Of its answer to a query with a range selector."""
    return [
        Series(
            frozenset(one["metric"].items()),
            tuple((round(float(at) * 1e3) * 10**6, float(value)) for at, value in one["values"]),
        )
        for one in answer["data"]["result"]
    ]


def metric(name: str) -> str:
    """What matches an OpenTelemetry metric's count here, whatever unit it has."""
    return f"{label(name)}(_.+)?_(total|count)"


def _selector(**matchers: str) -> str:
    return "{" + ",".join(f"{name}{matcher}" for name, matcher in matchers.items()) + "}"


PROGRAM = Program(
    render,
    lambda s: [
        f"--config.file={s.file('prometheus')}",
        f"--storage.tsdb.path={s.data('prometheus')}",
        f"--storage.tsdb.retention.time={s.retention_hours}h",
        f"--web.listen-address={s.listens('prometheus')}",
        "--web.enable-otlp-receiver",
        "--web.enable-remote-write-receiver",
        "--enable-feature=exemplar-storage",
    ],
    lambda s: s.url("prometheus") + "/-/ready",
    files=lambda s: {RULES: rules.rules()},
    store=Store(
        exporter=lambda s: (
            "otlp_http",
            {"metrics_endpoint": s.url("prometheus") + "/api/v1/otlp/v1/metrics"},
        ),
        ask=Prometheus,
        probe="/api/v1/query?query=1",
        settings=lambda s: {
            "httpMethod": "POST",
            "prometheusType": "Prometheus",
            "timeInterval": f"{INTERVAL_SECONDS}s",
            # an exemplar leads to its trace; Tempo calls the id traceID, OTLP trace_id
            "exemplarTraceIdDestinations": [
                {"name": name, "datasourceUid": s.keeps["traces"]}
                for name in ("trace_id", "traceID")
            ],
        },
    ),
)
