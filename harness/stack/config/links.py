"""What leads in Grafana from one signal to another; data sources' settings are made of it."""

from __future__ import annotations

from harness.stack.config.description import Stack, Tree
from harness.stack.promql import PANEL, quantile, rate, share

SHIFT = {"spanStartTimeShift": "-5m", "spanEndTimeShift": "5m"}
_OF_SPAN = "$__tags"


def traces_to_logs(stack: Stack) -> Tree:
    """A span leads to the log lines of its service and time, by what their keeper calls it."""
    from harness.stack.config import PROGRAMS  # of which the modules that ask this are a part

    store = PROGRAMS[stack.keeps["logs"]].store
    assert store is not None
    return {
        "datasourceUid": stack.keeps["logs"],
        "tags": [{"key": "service.name", "value": store.called("service.name")}],
        "filterByTraceID": False,  # what eBPF sees carries no trace's id
        "filterBySpanID": False,
        **SHIFT,
    }


def log_to_trace(stack: Stack, settings: Tree) -> Tree:
    """A line that carries a trace's id, which OTLP keeps beside the line, leads to it."""
    field = {
        "name": "TraceID",
        "datasourceUid": stack.keeps["traces"],
        "url": "${__value.raw}",
        "urlDisplayLabel": "Trace",
        **settings,
    }
    return {"derivedFields": [field]}


def traces_to_metrics(stack: Stack) -> Tree:
    """A span leads to the metrics that were made of spans of its service."""
    return {
        "datasourceUid": stack.keeps["metrics"],
        "tags": [{"key": "service.name", "value": "service"}],
        "queries": _metrics_of_span(),
        **SHIFT,
    }


def traces_to_profiles(stack: Stack) -> Tree:
    """A span leads to the CPU profile of its time; nothing where no profiles are configured."""
    if not stack.profiles_url:
        return {}
    return {
        "tracesToProfiles": {
            "datasourceUid": "pyroscope",
            "profileTypeId": "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
            "tags": [{"key": "service.name", "value": "service_name"}],
        }
    }


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
