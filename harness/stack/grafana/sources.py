"""Grafana's data sources, each linked with the others; `files` writes them.

Grafana replaces `$NAME` in files of provisioning by the environment: what is for it to replace
later is written `$$NAME`.
"""

from __future__ import annotations

from harness.stack.config.description import Stack, Tree
from harness.stack.promql import PANEL, quantile, rate, share

INTERVAL_SECONDS = 15  # the shortest window that panels ask for is four times this

_SHIFT = {"spanStartTimeShift": "-5m", "spanEndTimeShift": "5m"}
_OF_SPAN = "$__tags"


def provisioning(stack: Stack) -> Tree:
    """The file of data sources; Pyroscope is in it only where one is configured."""
    made = [prometheus(stack), tempo(stack), loki(stack)]
    if stack.profiles_url:
        made.append(pyroscope(stack))
    return {"apiVersion": 1, "prune": True, "datasources": made}


def prometheus(stack: Stack) -> Tree:
    """Metrics; an exemplar leads to its trace. Tempo calls the id traceID, OTLP trace_id."""
    exemplars = [{"name": name, "datasourceUid": "tempo"} for name in ("trace_id", "traceID")]
    settings = {
        "httpMethod": "POST",
        "prometheusType": "Prometheus",
        "timeInterval": f"{INTERVAL_SECONDS}s",
        "exemplarTraceIdDestinations": exemplars,
    }
    return _source("prometheus", "Prometheus", stack.url(stack.ports.prometheus), settings, True)


def loki(stack: Stack) -> Tree:
    """Log lines; one that carries a trace's id, which OTLP keeps beside the line, leads to it."""
    field = {
        "name": "TraceID",
        "datasourceUid": "tempo",
        "matcherType": "label",
        "matcherRegex": "trace_id",
        "url": "${__value.raw}",
        "urlDisplayLabel": "Trace",
    }
    return _source("loki", "Loki", stack.url(stack.ports.loki), {"derivedFields": [field]})


def tempo(stack: Stack) -> Tree:
    """Traces; a span leads to the log lines, metrics and, if any, CPU profiles of its time."""
    service = {"key": "service.name", "value": "service_name"}
    settings: Tree = {
        "tracesToLogsV2": {
            "datasourceUid": "loki",
            "tags": [service],
            "filterByTraceID": False,  # what eBPF sees carries no trace's id
            "filterBySpanID": False,
            **_SHIFT,
        },
        "tracesToMetrics": {
            "datasourceUid": "prometheus",
            "tags": [{"key": "service.name", "value": "service"}],
            "queries": _metrics_of_span(),
            **_SHIFT,
        },
        "serviceMap": {"datasourceUid": "prometheus"},
        "nodeGraph": {"enabled": True},
        "traceQuery": {"timeShiftEnabled": True, **_SHIFT},
    }
    if stack.profiles_url:
        settings["tracesToProfiles"] = {
            "datasourceUid": "pyroscope",
            "profileTypeId": "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
            "tags": [service],
        }
    return _source("tempo", "Tempo", stack.url(stack.ports.tempo), settings)


def pyroscope(stack: Stack) -> Tree:
    """Profiles, from a server that is not the stack's own."""
    kind = "grafana-pyroscope-datasource"
    return {**_source("pyroscope", "Pyroscope", stack.profiles_url, {}), "type": kind}


def _metrics_of_span() -> list[Tree]:
    calls = rate("traces_spanmetrics_calls_total", "service", _OF_SPAN)
    failed = rate(
        "traces_spanmetrics_calls_total", "service", f'{_OF_SPAN}, status_code="STATUS_CODE_ERROR"'
    )
    asked = {
        "Requests a second": calls,
        "Share of errors": share(failed, calls),
        "p95": quantile(0.95, "traces_spanmetrics_latency", "service", _OF_SPAN),
    }
    return [{"name": name, "query": query.replace(PANEL, "5m")} for name, query in asked.items()]


def _source(uid: str, name: str, url: str, settings: Tree, default: bool = False) -> Tree:
    return {
        "name": name,
        "type": uid,
        "uid": uid,
        "url": url,
        "access": "proxy",
        "isDefault": default,
        "editable": False,
        "jsonData": _escaped(settings),
    }


def _escaped(tree: object) -> object:
    """The same tree with each `$` in a text doubled."""
    if isinstance(tree, dict):
        return {key: _escaped(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_escaped(value) for value in tree]
    return tree.replace("$", "$$") if isinstance(tree, str) else tree
