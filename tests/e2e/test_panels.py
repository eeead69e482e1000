"""Every panel's query is asked of the running stack after a short run; an empty answer fails."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.stack import catalog, grafana, lifecycle
from harness.stack.client import ask
from harness.stack.config import Stack
from harness.stack.grafana import panels, sources
from tests.e2e import life, stacked

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.bpf,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]

LIMIT_SECONDS = 180  # from the beginning of the run: span metrics come every 15 s
FILLED = {
    "$__rate_interval": "1m", "$__interval": "15m", "$__range": "15m", "$__auto": "1m",
}  # fmt: skip

BOARDS = grafana.dashboards()
QUERIES = [
    pytest.param(kind, expression, id=f"{uid}: {title} {number}")
    for uid, tree in BOARDS.items()
    for number, (title, kind, expression) in enumerate(panels.queries(tree))
]
VARIABLES = [
    pytest.param(variable["query"], id=f"{uid}: {variable['name']}")
    for uid, tree in BOARDS.items()
    for variable in tree["templating"]["list"]
    if variable["type"] == "query"
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, up."""
    stacked.require(catalog.load().values())
    up = Stack(tmp_path_factory.mktemp("stack") / "stack")
    lifecycle.up(up, lifecycle.select([]), lambda _: None)
    yield up
    lifecycle.down()


@pytest.fixture(scope="module")
def deadline(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[float]:
    """The run, which goes on while panels are asked; the monotonic time to wait until."""
    with life.begin(stack, tmp_path_factory.mktemp("life")):
        yield time.monotonic() + LIMIT_SECONDS


@pytest.mark.parametrize(("kind", "expression"), QUERIES)
def test_a_panel_shows_something(stack: Stack, deadline: float, kind: str, expression: str) -> None:
    asked = filled(expression)
    while not (answer := ANSWERS[kind](stack, asked)):
        assert time.monotonic() < deadline, f"nothing answers {asked}"
        time.sleep(1)
    assert answer


@pytest.mark.parametrize(
    ("counter", "alert"),
    [
        ("loki_discarded_samples_total", "BackendDiscards"),
        ("otelcol_exporter_send_failed_log_records", "CollectorDrops"),
    ],
)
def test_a_log_line_too_old_for_loki_is_a_loss_that_is_told(
    stack: Stack, deadline: float, counter: str, alert: str
) -> None:
    """These panels say zero without an answer; here is one, and the alert over it."""
    for asked in (counter, f'ALERTS{{alertname="{alert}", alertstate="firing"}}'):
        while not of_prometheus(stack, asked):
            assert time.monotonic() < deadline, asked
            time.sleep(1)


@pytest.mark.parametrize("query", VARIABLES)
def test_a_variable_has_values(stack: Stack, deadline: float, query: str) -> None:
    ((metric, label),) = re.findall(r"label_values\((\w+), (\w+)\)", query)
    url = stack.url(stack.ports.prometheus) + f"/api/v1/label/{label}/values"
    while not (ask(url, {"match[]": metric}) or {}).get("data"):
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.parametrize(
    ("histogram", "label"),
    [
        ("traces_spanmetrics_latency_bucket", "traceID"),
        ("http_server_request_duration_seconds_bucket", "trace_id"),
    ],
)
def test_an_exemplar_leads_to_a_trace(
    stack: Stack, deadline: float, histogram: str, label: str
) -> None:
    url = stack.url(stack.ports.prometheus) + "/api/v1/query_exemplars"
    span = {"start": str(time.time() - 900), "end": str(time.time() + 900)}
    while not (found := (ask(url, {"query": histogram, **span}) or {}).get("data")):
        assert time.monotonic() < deadline
        time.sleep(1)
    trace = found[0]["exemplars"][0]["labels"][label]
    while not ask(stack.url(stack.ports.tempo) + f"/api/traces/{trace}"):
        assert time.monotonic() < deadline, trace
        time.sleep(1)


def test_a_span_leads_to_metrics_and_log_lines(stack: Stack, deadline: float) -> None:
    """What Grafana asks from a span of the service that is watched."""
    linked = sources.tempo(stack)["jsonData"]
    for query in linked["tracesToMetrics"]["queries"]:
        asked = query["query"].replace("$$__tags", 'service="watched"')
        assert "$" not in asked
        while not of_prometheus(stack, asked):
            assert time.monotonic() < deadline, asked
            time.sleep(1)
    (tag,) = linked["tracesToLogsV2"]["tags"]
    while not of_loki(stack, f'{{{tag["value"]}="watched"}}'):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_rules_are_evaluated_without_complaint(stack: Stack, deadline: float) -> None:
    url = stack.url(stack.ports.prometheus) + "/api/v1/rules"
    while True:
        groups = ask(url)["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        if found and all(rule["health"] == "ok" for rule in found):
            break
        assert time.monotonic() < deadline, [(r["name"], r.get("lastError")) for r in found]
        time.sleep(1)
    recorded = {rule["name"] for rule in found if rule["type"] == "recording"}
    for name in recorded:
        while not of_prometheus(stack, name):
            assert time.monotonic() < deadline, name
            time.sleep(1)


def filled(expression: str) -> str:
    """The expression as Grafana sends it, with all values of each variable."""
    for name, value in FILLED.items():
        expression = expression.replace(name, value)
    assert "$__" not in expression
    return re.sub(r"\$\w+", ".+", expression)


def of_prometheus(stack: Stack, expression: str) -> Any:
    """The samples that are numbers."""
    url = stack.url(stack.ports.prometheus) + "/api/v1/query"
    answer = ask(url, {"query": expression})
    found = answer["data"]["result"] if answer else []
    return [one for one in found if not math.isnan(float(one["value"][1]))]


def of_loki(stack: Stack, expression: str) -> Any:
    """Samples, or streams of log lines."""
    counts = "count_over_time" in expression
    url = stack.url(stack.ports.loki) + f"/loki/api/v1/query{'' if counts else '_range'}"
    answer = ask(url, {"query": expression})
    return answer["data"]["result"] if answer else []


def of_tempo(stack: Stack, expression: str) -> Any:
    """Traces."""
    answer = ask(stack.url(stack.ports.tempo) + "/api/search", {"q": expression, "limit": "20"})
    return answer["traces"] if answer else []


ANSWERS = {"prometheus": of_prometheus, "loki": of_loki, "tempo": of_tempo}
