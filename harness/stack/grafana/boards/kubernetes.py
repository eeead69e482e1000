"""The same questions by what Kubernetes calls things: cluster, namespace, deployment, pod, node."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.promql import grown, quantile, rate, share
from harness.stack.rules import AGENT_CORES, ERROR_RATIO
from harness.stack.searches import Lines, Spans

_HTTP = "http_server_request_duration_seconds"
_CLUSTER = 'k8s_cluster_name=~"$cluster"'
_OF = f'{_CLUSTER}, k8s_namespace_name=~"$namespace"'
_DEPLOYMENT = "k8s_namespace_name, k8s_deployment_name"
_POD = "k8s_namespace_name, k8s_pod_name"
_NODE = "k8s_node_name, harness_collector"
_OWN = f'{_CLUSTER}, harness_collector!=""'

_requests = rate(f"{_HTTP}_count", _DEPLOYMENT, _OF)
_failed = rate(f"{_HTTP}_count", _DEPLOYMENT, f'{_OF}, http_response_status_code=~"5.."')

BOARD = Board(
    "harness-kubernetes",
    "Kubernetes: services and collectors",
    "Which deployment is slow or fails, in which pod, and what do the collectors cost each node?",
    (
        Variable("cluster", "Cluster", f"{_HTTP}_count", "k8s_cluster_name", every=".*"),
        Variable("namespace", "Namespace", f"{_HTTP}_count", "k8s_namespace_name"),
    ),
    (
        Row(
            "Deployments",
            (
                Panel(
                    "lines",
                    "Requests",
                    "Requests a second of each deployment.",
                    (Query(_requests, "{{k8s_namespace_name}}/{{k8s_deployment_name}}"),),
                    "reqps",
                    width=8,
                    link="harness-service",
                ),
                Panel(
                    "lines",
                    "Failed requests",
                    "The share answered with 5xx; compare its pods below: one pod is a bad node or"
                    " a bad start, all of them a bad release.",
                    (Query(share(_failed, _requests),
                           "{{k8s_namespace_name}}/{{k8s_deployment_name}}"),),
                    "percentunit",
                    (ERROR_RATIO,),
                    width=8,
                ),
                Panel(
                    "lines",
                    "Duration, p95",
                    "95 % of the requests took no longer.",
                    (Query(quantile(0.95, _HTTP, _DEPLOYMENT, _OF),
                           "{{k8s_namespace_name}}/{{k8s_deployment_name}}", exemplars=True),),
                    "s",
                    width=8,
                ),
            ),
        ),
        Row(
            "Pods",
            (
                Panel(
                    "lines",
                    "Requests by pod",
                    "Uneven: the balancing, or clients that keep their connections.",
                    (Query(rate(f"{_HTTP}_count", _POD, _OF), "{{k8s_pod_name}}"),),
                    "reqps",
                    width=8,
                ),
                Panel(
                    "lines",
                    "Duration by pod, p95",
                    "One pod that is slower than the rest: look at its node.",
                    (Query(quantile(0.95, _HTTP, _POD, _OF), "{{k8s_pod_name}}"),),
                    "s",
                    width=8,
                ),
                Panel(
                    "lines",
                    "Bytes by pod",
                    "Payload over TCP in a second, both ways.",
                    (Query(rate("tcp_io_bytes_total", _POD, _OF), "{{k8s_pod_name}}"),),
                    "Bps",
                    width=8,
                    link="harness-flows",
                ),
                Panel(
                    "lines",
                    "Log records by pod",
                    "What the pods' guard and the services themselves said, records in each step.",
                    (Query(Lines((("k8s.namespace.name", "=~", "$namespace"),), "$__auto",
                                 ("k8s.namespace.name", "k8s.pod.name"))),),
                    link="harness-guard",
                ),
                Panel(
                    "traces",
                    "Latest traces",
                    "Traces of this namespace; sort by duration.",
                    (Query(Spans(("k8s.namespace.name", "=~", "$namespace"))),),
                ),
            ),
        ),
        Row(
            "Collectors by node",
            (
                Panel(
                    "lines",
                    "CPU of agents",
                    f"Share of one CPU of a node; the budget is {AGENT_CORES:.0%} an agent.",
                    (Query(rate("process_cpu_time_seconds_total", _NODE, _OWN),
                           "{{harness_collector}} on {{k8s_node_name}}"),),
                    "percentunit",
                    (AGENT_CORES,),
                    width=8,
                    link="harness-collectors",
                ),
                Panel(
                    "lines",
                    "Memory of agents",
                    "Resident; compare with the limit of their pods before they are killed.",
                    (Query(f"sum by ({_NODE}) (process_memory_usage_bytes{{{_OWN}}})",
                           "{{harness_collector}} on {{k8s_node_name}}"),),
                    "bytes",
                    width=8,
                ),
                Panel(
                    "figure",
                    "Events lost",
                    "In the time shown, by node: what was said of its pods has gaps.",
                    (Query(grown("harness_agent_events_lost_total", _NODE, _CLUSTER),
                           "{{harness_collector}} on {{k8s_node_name}}"),),
                    limits=(0.5,),
                    width=8,
                ),
            ),
        ),
    ),
)  # fmt: skip
