"""Requests, errors and durations of services: of every request, and of the traced ones."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.promql import quantile, rate, share
from harness.stack.rules import ERROR_RATIO
from harness.stack.searches import Calls, Spans

_HTTP = "http_server_request_duration_seconds"
_OF = 'service_name=~"$service"'
_FAILED = f'{_OF}, http_response_status_code=~"5.."'
_ROUTE = "service_name, http_request_method, http_route"
_SPANS = 'service=~"$service", span_kind="SPAN_KIND_SERVER"'
_CALLS = "traces_spanmetrics_calls_total"
_EDGE = "client, server"
_EDGES = 'server=~"$service"'

_requests = rate(f"{_HTTP}_count", "service_name", _OF)
_routes = rate(f"{_HTTP}_count", _ROUTE, _OF)
_calls = rate(_CALLS, "service", _SPANS)
_edges = rate("traces_service_graph_request_total", _EDGE, _EDGES)

_EVERY = Row(
    "Every request (http.server.request.duration)",
    (
        Panel(
            "lines",
            "Requests",
            "Requests answered in a second. A sudden fall with steady callers means that they do"
            " not get through: look at the flows of the service.",
            (Query(_requests, "{{service_name}}"),),
            "reqps",
            link="harness-flows",
        ),
        Panel(
            "lines",
            "Failed requests",
            f"The share answered with 5xx. Above {ERROR_RATIO:.0%} the alert ServiceErrorRate is"
            " raised: open a failed request in the table below.",
            (Query(share(rate(f"{_HTTP}_count", "service_name", _FAILED), _requests),
                   "{{service_name}}"),),
            "percentunit",
            (ERROR_RATIO,),
        ),
        Panel(
            "lines",
            "Duration",
            "Half, 95 % and 99 % of the requests took no longer, interpolated within buckets. The"
            " points are traces, the slowest of each series between two exports: click one.",
            tuple(
                Query(quantile(q, _HTTP, "service_name", _OF), f"{{{{service_name}}}} p{q * 100:g}",
                      exemplars=True)
                for q in (0.5, 0.95, 0.99)
            ),
            "s",
        ),
        Panel(
            "table",
            "Routes",
            "Each route: requests a second, share of 5xx, and what 95 % took at most. What is"
            " slow or fails here is what to look for in traces.",
            (
                Query(_routes, "requests", unit="reqps"),
                Query(share(rate(f"{_HTTP}_count", _ROUTE, _FAILED), _routes), "failed",
                      unit="percentunit"),
                Query(quantile(0.95, _HTTP, _ROUTE, _OF), "p95", unit="s"),
            ),
        ),
    ),
)  # fmt: skip

_TRACED = Row(
    "Traced requests (a sample)",
    (
        Panel(
            "lines",
            "Traced requests",
            "Spans of requests served in a second: with --sample 100 a hundredth of the requests"
            " above. If this is zero and the above is not, spans are lost on the way.",
            (Query(_calls, "{{service}}"),),
            "reqps",
            link="harness-components",
            span_metrics=True,
        ),
        Panel(
            "lines",
            "Failed traced requests",
            "The share of those spans with an error.",
            (Query(share(rate(_CALLS, "service", f'{_SPANS}, status_code="STATUS_CODE_ERROR"'),
                         _calls), "{{service}}"),),
            "percentunit",
            (ERROR_RATIO,),
            span_metrics=True,
        ),
        Panel(
            "lines",
            "Duration of traced requests",
            "The points are single traces: click one of the highest to see where its time went.",
            tuple(
                Query(quantile(q, "traces_spanmetrics_latency", "service", _SPANS),
                      f"{{{{service}}}} p{q * 100:g}", exemplars=True)
                for q in (0.5, 0.95, 0.99)
            ),
            "s",
            span_metrics=True,
        ),
        Panel(
            "lines",
            "Calls between services",
            "Requests a second from one service to another, out of spans of both ends. eBPF's spans"
            " have no parent: an edge needs services that hand on a trace's context.",
            (
                Query(_edges, "{{client}} to {{server}}"),
                Query(share(rate("traces_service_graph_request_failed_total", _EDGE, _EDGES),
                            _edges), "{{client}} to {{server}}, share failed"),
            ),
            "reqps",
            span_metrics=True,
        ),
        Panel(
            "graph",
            "Who calls whom",
            "The same as a graph; red is the share of failed calls.",
            (Query(Calls("$service")),),
        ),
        Panel(
            "traces",
            "Traces of failed requests",
            "The latest traces with a failed request; from a trace go on to the log lines and CPU"
            " profile of its time.",
            (Query(Spans(("service.name", "=~", "$service"), failed=True)),),
            each="service",
        ),
    ),
)  # fmt: skip

BOARD = Board(
    "harness-service",
    "Services: requests, errors, durations",
    "Which service, which route is slow or fails, and which trace shows why?",
    (Variable("service", "Service", f"{_HTTP}_count", "service_name"),),
    (_EVERY, _TRACED),
)
