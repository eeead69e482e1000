"""The rules as Prometheus evaluates them: promtool runs each alert over samples made for it.

promtool is built of the module that Prometheus is pinned by.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.stack import catalog, rules, supply
from harness.stack.catalog import Module

pytestmark = [pytest.mark.e2e, pytest.mark.stack]

# what cmd/promtool needs beside cmd/prometheus, as Prometheus' own go.mod and go.sum have it
JSONDIFF = "github.com/nsf/jsondiff v0.0.0-20260207060731-8e8d90c4c0ac"
SUMS = (
    f"{JSONDIFF} h1:4YV96Dzy2csSnhzl14/Qk5YsSrKAQusGsIADDn/4/g8=\n"
    f"{JSONDIFF}/go.mod h1:mpRZBD8SJ55OIICQ3iWH0Yz3cjzA61JdqMLoWXeB2+8=\n"
)

SERVICE = {"service_name": "shop"}
AGENT = {"harness_collector": "http", "harness_service": "shop", "host_name": "node-1"}
RESULT = {
    "harness_workload": "go", "harness_arm": "all",
    "harness_metric": "bill_percent", "harness_bound": "low",
}  # fmt: skip
QUEUE = {"job": "otelcol", "exporter": "otlp_grpc/tempo", "data_type": "traces"}
DISCARDED = {"job": "tempo", "reason": "trace_too_large"}


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, built unless it is in the cache."""
    prometheus = catalog.load()["prometheus"]
    (way,) = (way for way in prometheus.ways if isinstance(way, Module))
    modules = tmp_path_factory.mktemp("modules")
    folder = shutil.copytree(prometheus.modules / "prometheus", modules / "promtool")
    with (folder / "go.mod").open("a") as go_mod, (folder / "go.sum").open("a") as go_sum:
        go_mod.write(f"\nrequire {JSONDIFF} // indirect\n")
        go_sum.write(SUMS)
    package = way.package.replace("cmd/prometheus", "cmd/promtool")
    tool = replace(
        prometheus, name="promtool", modules=modules, ways=(replace(way, package=package),)
    )
    offer = supply.choose(tool, supply.cache())
    if offer is None or not (offer.ready or os.environ.get("HARNESS_STACK")):
        pytest.skip("promtool is not in the cache: `make test-stack` builds it")
    kept = (supply.cache() / "go").exists()
    program = supply.get(tool, supply.cache())
    if not kept:
        supply.tidy(supply.cache())
    return str(program)


def series(name: str, labels: dict[str, str], values: str) -> dict[str, str]:
    """Samples every 15 s: `0+30x40` grows by 30 forty times, that is by 2 a second."""
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def requests(status: int, each: int, **labels: str) -> dict[str, str]:
    labelled = {**SERVICE, "http_response_status_code": str(status), **labels}
    return series("http_server_request_duration_seconds_count", labelled, f"0+{each}x60")


# alert -> what goes in, the labels that come out beside its own, its summary
FIRING: dict[str, tuple[list[dict[str, str]], dict[str, str], str]] = {
    "ServiceErrorRate": (
        [requests(200, 90), requests(500, 10), requests(200, 99, service_name="fine")],
        SERVICE,
        "shop fails 10% of its requests",
    ),
    "AgentEventsLost": (
        [series("harness_agent_events_lost_total", AGENT, "0+1x60")],
        AGENT,
        "http on node-1 lost 20 events of shop in 5 minutes",
    ),
    "CollectorOverBudget": (
        [
            series("process_cpu_time_seconds_total", {**AGENT, "cpu_mode": "user"}, "0+1x60"),
            series("process_cpu_time_seconds_total", {**AGENT, "cpu_mode": "system"}, "0+0.5x60"),
            series("bpf_program_run_time_seconds_total", AGENT, "0+0.15x60"),
        ],
        AGENT,
        "http on node-1 takes 11% of a CPU for shop",
    ),
    "EvaluationOverBudget": (
        [series("harness_result", RESULT, "2.5 _x60")],
        RESULT,
        "all costs go at least 2.50 % of the machine",
    ),
    "BackendDown": (
        [series("up", {"job": "tempo"}, "1x30 0x30"), series("up", {"job": "loki"}, "1x60")],
        {"job": "tempo"},
        "tempo does not answer",
    ),
    "QueueFills": (
        [
            series("otelcol_exporter_queue_size", QUEUE, "600x60"),
            series("otelcol_exporter_queue_capacity", QUEUE, "1000x60"),
        ],
        QUEUE,
        "The queue of otlp_grpc/tempo is 60% full",
    ),
    "BackendDiscards": (
        [series("tempo_discarded_spans_total", DISCARDED, "0+15x60")],
        DISCARDED,
        "tempo threw away 300 records in 5 minutes: trace_too_large",
    ),
    "CollectorRefuses": (
        [series("otelcol_receiver_refused_spans", {"receiver": "otlp"}, "0+30x60")],
        {"receiver": "otlp", "signal": "traces"},
        "The Collector refuses 2 spans a second",
    ),
    "CollectorDrops": (
        [series("otelcol_exporter_send_failed_log_records", {"exporter": "loki"}, "0+30x60")],
        {"exporter": "loki", "signal": "logs"},
        "loki dropped 600 log records in 5 minutes",
    ),
}

FINE = [
    requests(200, 99),
    requests(500, 1),
    series("harness_agent_events_lost_total", AGENT, "7x60"),
    series("process_cpu_time_seconds_total", AGENT, "0+0.15x60"),
    series("harness_result", RESULT, "1.5 _x60"),
    series("harness_result", {**RESULT, "harness_bound": "high"}, "2.5 _x60"),
    series("up", {"job": "tempo"}, "1x60"),
    series("up", {"job": "somebody"}, "0x60"),
    series("otelcol_exporter_queue_size", QUEUE, "10x60"),
    series("otelcol_exporter_queue_capacity", QUEUE, "1000x60"),
    series("tempo_discarded_spans_total", DISCARDED, "3x60"),
    series("otelcol_receiver_refused_spans", {"receiver": "otlp"}, "3x60"),
    series("otelcol_exporter_send_failed_spans", {"exporter": "tempo"}, "3x60"),
]


def run(promtool: str, folder: Path, command: Sequence[str], *tests: dict[str, Any]) -> str:
    """What promtool says, when it agrees."""
    (folder / "rules.yaml").write_text(json.dumps(rules.rules()))
    tree = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": list(tests)}
    (folder / "test.yaml").write_text(json.dumps(tree))
    done = processes.run([promtool, *command], cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def case(given: list[dict[str, str]], **expected: Any) -> dict[str, Any]:
    return {"interval": "15s", "input_series": given, **expected}


def test_the_file_is_valid(promtool: str, tmp_path: Path) -> None:
    said = run(promtool, tmp_path, ["check", "rules", "--lint-fatal", "rules.yaml"])
    count = sum(len(group["rules"]) for group in rules.rules()["groups"])
    assert f"{count} rules found" in said


def test_every_alert_is_tried() -> None:
    assert set(FIRING) == {alert.name for alert in rules.alerts()}


@pytest.mark.parametrize("name", FIRING)
def test_it_fires(promtool: str, tmp_path: Path, name: str) -> None:
    given, labels, summary = FIRING[name]
    (alert,) = (
        alert
        for alert in rules.alerts()
        if alert.name == name and dict(alert.labels).items() <= labels.items()
    )
    tree = alert.tree()
    expected = {
        "exp_labels": {**tree["labels"], **labels},
        "exp_annotations": {**tree["annotations"], "summary": summary},
    }
    asked = {"eval_time": "12m", "alertname": name, "exp_alerts": [expected]}
    run(promtool, tmp_path, ["test", "rules", "test.yaml"], case(given, alert_rule_test=[asked]))


@pytest.mark.parametrize(
    ("name", "counter", "labels"),
    [
        ("AgentEventsLost", "harness_agent_events_lost_total", AGENT),
        ("CollectorDrops", "otelcol_exporter_send_failed_spans", {"exporter": "tempo"}),
        ("CollectorDrops", "otelcol_exporter_enqueue_failed_spans", {"exporter": "tempo"}),
        ("BackendDiscards", "loki_discarded_samples_total", DISCARDED),
    ],
)
def test_the_first_loss_of_all_counts(
    promtool: str, tmp_path: Path, name: str, counter: str, labels: dict[str, str]
) -> None:
    """A counter that begins with 30 lost records and does not grow: for five minutes it is news."""
    firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
    asked = [
        {"expr": firing, "eval_time": "7m", "exp_samples": [{"labels": "{}", "value": 1}]},
        {"expr": firing, "eval_time": "14m", "exp_samples": []},
    ]
    given = [series(counter, labels, "_x20 30x40")]
    run(promtool, tmp_path, ["test", "rules", "test.yaml"], case(given, promql_expr_test=asked))


def test_nothing_fires_when_all_is_fine(promtool: str, tmp_path: Path) -> None:
    asked = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
        for name in FIRING
        for minute in (6, 9, 12)
    ]
    run(promtool, tmp_path, ["test", "rules", "test.yaml"], case(FINE, alert_rule_test=asked))


def test_without_errors_the_share_is_zero_and_not_unknown(promtool: str, tmp_path: Path) -> None:
    name = "service_name:http_server_errors:ratio_rate5m"
    expected = {"labels": f'{name}{{service_name="shop"}}', "value": 0}
    asked = {"expr": name, "eval_time": "10m", "exp_samples": [expected]}
    given = [requests(200, 15)]
    run(promtool, tmp_path, ["test", "rules", "test.yaml"], case(given, promql_expr_test=[asked]))


def test_a_collector_without_counted_programs_costs_its_agent(
    promtool: str, tmp_path: Path
) -> None:
    name = "harness_collector:cpu_cores:rate5m"
    labels = ", ".join(f'{key}="{value}"' for key, value in AGENT.items())
    asked = {
        "expr": f"round({name}, 0.001)",
        "eval_time": "10m",
        "exp_samples": [{"labels": f"{{{labels}}}", "value": 0.1}],
    }
    given = [series("process_cpu_time_seconds_total", AGENT, "0+1.5x60")]
    run(promtool, tmp_path, ["test", "rules", "test.yaml"], case(given, promql_expr_test=[asked]))
