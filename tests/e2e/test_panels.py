"""Every panel's query is asked of the running stack after a short run; an empty answer fails."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.stack import backends, catalog, client, grafana, lifecycle, supply
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

KEPT = {
    choice.component.signal: choice.component.name
    for choice in lifecycle.plan(lifecycle.select([]), supply.cache())
    if choice.component.signal
}
BOARDS = grafana.dashboards(KEPT)
QUERIES = [
    pytest.param(kind, told, id=f"{uid}: {title} {number}")
    for uid, tree in BOARDS.items()
    for number, (title, kind, told) in enumerate(panels.queries(tree))
]
SPAN_METRICS = pytest.mark.skipif(
    KEPT["traces"] != "tempo",
    reason="only Tempo makes metrics of spans, and no panel asks for them",
)
VARIABLES = [
    pytest.param(variable["query"], id=f"{uid}: {variable['name']}")
    for uid, tree in BOARDS.items()
    for variable in tree["templating"]["list"]
    if variable["type"] == "query"
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, up."""
    stacked.require(stacked.roles())
    planned = Stack(tmp_path_factory.mktemp("stack") / "stack", keeps=KEPT)
    up = lifecycle.up(planned, lifecycle.select([]), lambda _: None).stack
    assert up.keeps == KEPT
    yield up
    lifecycle.down()


@pytest.fixture(scope="module")
def deadline(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[float]:
    """The run, which goes on while panels are asked; the monotonic time to wait until."""
    with life.begin(stack, tmp_path_factory.mktemp("life")):
        yield time.monotonic() + LIMIT_SECONDS


@pytest.mark.parametrize(("kind", "told"), QUERIES)
def test_a_panel_shows_something(
    stack: Stack, deadline: float, kind: str, told: dict[str, Any]
) -> None:
    asked = {key: filled(text) if isinstance(text, str) else text for key, text in told.items()}
    while not (answer := ANSWERS[kind](stack, asked)):
        assert time.monotonic() < deadline, f"nothing answers {asked}"
        time.sleep(1)
    assert answer


@pytest.mark.parametrize(
    "alert",
    ["BackendDiscards"] + ["CollectorDrops"] * (KEPT["logs"] == "loki"),  # the other takes the post
)
def test_a_log_line_too_old_to_be_kept_is_a_loss_that_is_told(
    stack: Stack, deadline: float, alert: str
) -> None:
    """These panels say zero without an answer; here is one, and the alert over it."""
    counter = catalog.known()[KEPT["logs"]].discarded
    for asked in (f"{counter} > 0", f'ALERTS{{alertname="{alert}", alertstate="firing"}}'):
        while not samples(stack, asked):
            assert time.monotonic() < deadline, asked
            time.sleep(1)


@pytest.mark.parametrize("query", VARIABLES)
def test_a_variable_has_values(stack: Stack, deadline: float, query: str) -> None:
    ((metric, label),) = re.findall(r"label_values\((\w+), (\w+)\)", query)
    url = stack.url("prometheus") + f"/api/v1/label/{label}/values"
    while not (ask(url, {"match[]": metric}) or {}).get("data"):
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.parametrize(
    ("histogram", "label"),
    [
        pytest.param("traces_spanmetrics_latency_bucket", "traceID", marks=SPAN_METRICS),
        ("http_server_request_duration_seconds_bucket", "trace_id"),
    ],
)
def test_an_exemplar_leads_to_a_trace(
    stack: Stack, deadline: float, histogram: str, label: str
) -> None:
    url = stack.url("prometheus") + "/api/v1/query_exemplars"
    span = {"start": str(time.time() - 900), "end": str(time.time() + 900)}
    while not (found := (ask(url, {"query": histogram, **span}) or {}).get("data")):
        assert time.monotonic() < deadline
        time.sleep(1)
    trace = found[0]["exemplars"][0]["labels"][label]
    while not backends.keeper(stack, "traces").has(trace):
        assert time.monotonic() < deadline, trace
        time.sleep(1)


def test_a_span_leads_to_metrics_and_log_lines(stack: Stack, deadline: float) -> None:
    """What Grafana asks from a span of the service that is watched."""
    linked = sources.source(stack, KEPT["traces"])["jsonData"]
    for query in linked.get("tracesToMetrics", {"queries": ()})["queries"]:
        asked = query["query"].replace("$$__tags", 'service="watched"')
        assert "$" not in asked
        while not samples(stack, asked):
            assert time.monotonic() < deadline, asked
            time.sleep(1)
    (tag,) = linked["tracesToLogsV2"]["tags"]
    name = tag["value"] if KEPT["logs"] == "loki" else f'"{tag["value"]}"'
    while not ANSWERS[catalog.known()[KEPT["logs"]].source](
        stack, {"expr": f'{{{name}="watched"}}'}
    ):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_rules_are_evaluated_without_complaint(stack: Stack, deadline: float) -> None:
    url = stack.url("prometheus") + "/api/v1/rules"
    while True:
        groups = ask(url)["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        if found and all(rule["health"] == "ok" for rule in found):
            break
        assert time.monotonic() < deadline, [(r["name"], r.get("lastError")) for r in found]
        time.sleep(1)
    recorded = {rule["name"] for rule in found if rule["type"] == "recording"}
    for name in recorded:
        while not samples(stack, name):
            assert time.monotonic() < deadline, name
            time.sleep(1)


def filled(expression: str) -> str:
    """The expression as Grafana sends it, with all values of each variable."""
    for name, value in FILLED.items():
        expression = expression.replace(name, value)
    assert "$__" not in expression
    return re.sub(r"\$\w+", ".+", expression)


def samples(stack: Stack, expression: str) -> Any:
    """The samples that are numbers."""
    answer = ask(stack.url("prometheus") + "/api/v1/query", {"query": expression})
    found = answer["data"]["result"] if answer else []
    return [one for one in found if not math.isnan(float(one["value"][1]))]


def of_prometheus(stack: Stack, told: dict[str, Any]) -> Any:
    """The samples that are numbers."""
    return samples(stack, told["expr"])


def of_loki(stack: Stack, told: dict[str, Any]) -> Any:
    """Samples, or streams of log lines."""
    counts = "count_over_time" in told["expr"]
    url = stack.url("loki") + f"/loki/api/v1/query{'' if counts else '_range'}"
    answer = ask(url, {"query": told["expr"]})
    return answer["data"]["result"] if answer else []


def of_victorialogs(stack: Stack, told: dict[str, Any]) -> Any:
    """Lines of its log, or what it counted."""
    url = stack.url("victorialogs") + "/select/logsql/query"
    text = client.get(url, {"query": told["expr"], "limit": "1000"}).decode()
    return [json.loads(line) for line in text.splitlines()]


def of_tempo(stack: Stack, told: dict[str, Any]) -> Any:
    """Traces."""
    answer = ask(stack.url("tempo") + "/api/search", {"q": told["query"], "limit": "20"})
    return answer["traces"] if answer else []


def of_jaeger(stack: Stack, told: dict[str, Any]) -> Any:
    """Traces of any service that the search is for; or edges of its graph."""
    url = stack.url("jaeger") + "/api"
    if told["queryType"] == "dependencyGraph":
        now = str(time.time_ns() // 10**6)
        answer = ask(f"{url}/dependencies", {"endTs": now, "lookback": "900000"}) or {}
        return answer.get("data")
    tags = dict(part.split("=") for part in told.get("tags", "").split())
    found: list[Any] = []
    for service in (ask(f"{url}/services") or {}).get("data") or ():
        query = {"service": service, "tags": json.dumps(tags), "limit": "20", "lookback": "1h"}
        found += (ask(f"{url}/traces", query) or {}).get("data") or []
    return found


ANSWERS = {
    "prometheus": of_prometheus,
    "loki": of_loki,
    "tempo": of_tempo,
    "jaeger": of_jaeger,
    "victoriametrics-logs-datasource": of_victorialogs,
}
