"""Data sources and dashboards, without a Grafana: they are whole, and ask for what exists."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.metrics import METRICS
from harness.linux import processes
from harness.stack import config, grafana, rules
from harness.stack.config import PROGRAMS, Stack
from harness.stack.config.description import KEEPS
from harness.stack.grafana import board, panels, sources
from harness.stack.grafana.boards import BOARDS as DESCRIBED
from harness.stack.searches import Calls, Lines
from tests.unit.stacked import GRAFANAS, texts

AGENTS = Path(__file__).parents[2] / "harness" / "agent"
KEPT = (KEEPS, GRAFANAS)
PLUGINS = ("victoriametrics-logs-datasource",)
BOARDS = grafana.dashboards(GRAFANAS)
EVERY = [(keeps, grafana.dashboards(keeps)) for keeps in KEPT]

# what the programs of the stack count, from their sources; test_panels.py asks the running ones
STACK = {
    "ALERTS",
    "up",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "otelcol_process_cpu_seconds",
    "otelcol_process_memory_rss",
    "otelcol_exporter_queue_size",
    "otelcol_exporter_queue_capacity",
    *(
        f"otelcol_{what}_{records}"
        for what in (
            "receiver_accepted", "receiver_refused",
            "exporter_sent", "exporter_send_failed", "exporter_enqueue_failed",
        )
        for records in ("spans", "metric_points", "log_records")
    ),
    "prometheus_tsdb_head_samples_appended_total",
    "prometheus_tsdb_head_series",
    "prometheus_http_request_duration_seconds_bucket",
    "tempo_request_duration_seconds_bucket",
    "tempo_distributor_spans_received_total",
    "tempo_discarded_spans_total",
    "tempo_metrics_generator_registry_active_series",
    "traces_spanmetrics_calls_total",
    "traces_spanmetrics_latency_bucket",
    "traces_service_graph_request_total",
    "traces_service_graph_request_failed_total",
    "loki_request_duration_seconds_bucket",
    "loki_distributor_lines_received_total",
    "loki_discarded_samples_total",
    "jaeger_receiver_accepted_spans_total",
    "jaeger_exporter_send_failed_spans_total",
    "vl_rows_ingested_total",
    "vl_rows_dropped_total",
}  # fmt: skip
EVALUATION = {"harness_result"}

_MADE = re.compile(r'\b(counter|level|gauge|histogram)\(\s*"([a-z_.]+)", "([^"]*)"')
_UNITS = {"s": "_seconds", "By": "_bytes"}
_WORDS = {
    "and", "bool", "by", "count", "histogram_quantile", "ignoring", "increase", "last_over_time",
    "le", "max", "min", "on", "or", "rate", "sum", "topk", "unless", "vector", "without", "Inf",
}  # fmt: skip


def of_agents() -> set[str]:
    """What the included collectors send, by the names that Prometheus gives it."""
    names = set()
    for path in AGENTS.glob("*.py"):
        for kind, name, unit in _MADE.findall(path.read_text()):
            named = name.replace(".", "_") + _UNITS.get(unit, "")
            if kind == "histogram":
                names |= {f"{named}_{part}" for part in ("bucket", "count", "sum")}
            else:
                names.add(named + ("_total" if kind == "counter" else ""))
    return names


def metrics(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\boffset \S+", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", " ", bare)
    return set(re.findall(r"\b[a-zA-Z_][\w:]*", bare)) - _WORDS


def every_board() -> Iterator[tuple[str, dict[str, Any]]]:
    for _, boards in EVERY:
        yield from boards.items()


def every_panel() -> Iterator[tuple[str, dict[str, Any]]]:
    for uid, tree in every_board():
        for panel in panels.each_panel(tree):
            yield uid, panel


def asked_of(tree: dict[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """(panel, expression) of the queries to one kind of source."""
    for title, source, told in panels.queries(tree):
        if source == kind:
            yield title, told["expr"] if "expr" in told else told["query"]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path, keeps=GRAFANAS)


def test_every_file_is_where_grafana_looks_for_it(stack: Stack) -> None:
    config.write(stack, "grafana")
    folder = stack.folder / "grafana" / "provisioning"
    (provider,) = json.loads((folder / "dashboards" / "harness.yaml").read_text())["providers"]
    found = {path.stem for path in Path(provider["options"]["path"]).glob("*.json")}
    assert found == set(BOARDS)
    assert json.loads((folder / "datasources" / "stack.yaml").read_text())["apiVersion"] == 1


def test_a_dashboard_is_json_with_numbers_of_its_own() -> None:
    for uid, tree in every_board():
        assert json.loads(json.dumps(tree)) == tree
        assert tree["uid"] == uid
        numbers = [panel["id"] for panel in tree["panels"]]
        assert len(set(numbers)) == len(numbers)
        assert len({panel["title"] for panel in panels.each_panel(tree)}) == sum(
            panel["type"] != "row" for panel in tree["panels"]
        )


def test_every_panel_says_what_it_is_for_and_asks_something() -> None:
    for uid, panel in every_panel():
        assert len(panel["description"]) > 20, (uid, panel["title"])
        assert panel["targets"], (uid, panel["title"])
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], (uid, panel["title"])


def test_panels_lie_beside_each_other() -> None:
    for uid, tree in every_board():
        taken: set[tuple[int, int]] = set()
        for panel in tree["panels"]:
            at = panel["gridPos"]
            x, y = at.get("x", 0), at.get("y", 0)
            cells = {(x + i, y + j) for i in range(at["w"]) for j in range(at["h"])}
            assert x + at["w"] <= 24
            assert not cells & taken, (uid, panel["title"])
            taken |= cells


@pytest.mark.parametrize(("keeps", "boards"), EVERY)
def test_every_query_goes_to_a_source_that_can_be_chosen(
    stack: Stack, keeps: dict[str, str], boards: dict[str, Any]
) -> None:
    stack = replace(stack, keeps=keeps, plugins=PLUGINS)
    provided = {source["type"] for source in sources.provisioning(stack)["datasources"]}
    for uid, tree in boards.items():
        chosen = {
            variable["name"]: variable["query"]
            for variable in tree["templating"]["list"]
            if variable["type"] == "datasource"
        }
        assert set(chosen.values()) <= provided
        assert set(chosen) <= set(keeps)
        for panel in panels.each_panel(tree):
            for target in [panel, *panel["targets"]]:
                source = target["datasource"]
                signal = source["uid"].removeprefix("${").removesuffix("}")
                assert chosen[signal] == source["type"], (uid, panel["title"])


def test_each_component_is_asked_all_that_it_can_be() -> None:
    """What is left out for one is span metrics, others' own figures, and what it cannot search."""
    left_out = {
        (keeps["traces"], panel.title)
        for keeps in KEPT
        for described in DESCRIBED
        for row in described.rows
        for panel in row.panels
        if not panels.is_filled(panel, keeps) and panel.of in ("", *keeps.values())
    }
    assert left_out == {
        ("jaeger", title)
        for title in (
            "Traced requests", "Failed traced requests", "Duration of traced requests",
            "Calls between services", "Latest traces",
        )
    }  # fmt: skip


def test_every_variable_is_there() -> None:
    for uid, tree in every_board():
        known = {variable["name"] for variable in tree["templating"]["list"]}
        for title, _, told in panels.queries(tree):
            text = json.dumps({k: v for k, v in told.items() if k != "datasource"})
            asked = {name for name in re.findall(r"\$(\w+)", text) if name[:2] != "__"}
            assert asked <= known, (uid, title)


def test_every_metric_is_sent_by_somebody() -> None:
    known = of_agents() | STACK | EVALUATION
    assert {"tcp_rtt_seconds", "process_memory_usage_bytes"} < known  # the names are understood
    for uid, tree in every_board():
        for title, expression in asked_of(tree, "prometheus"):
            if "__name__" not in expression:
                assert metrics(expression), (uid, title)
                assert metrics(expression) <= known, (uid, title)
        for variable in tree["templating"]["list"]:
            for metric in re.findall(r"label_values\((\w+),", variable["query"]):
                assert metric in known, (uid, variable["name"])


def test_every_metric_of_a_rule_is_sent_by_somebody_or_worked_out() -> None:
    known = of_agents() | STACK | EVALUATION | set(rules.RECORDINGS)
    for group in rules.rules()["groups"]:
        for rule in group["rules"]:
            assert metrics(rule["expr"]) <= known, rule


def test_every_result_is_one_that_reports_hold() -> None:
    asked = [expression for _, expression in asked_of(BOARDS["harness-results"], "prometheus")]
    asked += [alert.expr for alert in rules.alerts()]
    named = {n for e in asked for n in re.findall(r'harness_metric=~?"(\w+)', e)}
    assert "bill_percent" in named
    assert named <= set(METRICS)


def test_links_lead_to_dashboards() -> None:
    urls = [text for tree in BOARDS.values() for text in texts(tree) if "/d/" in text]
    urls += [alert.tree()["annotations"]["dashboard"] for alert in rules.alerts()]
    found = {uid for text in urls for uid in re.findall(r"/d/([\w-]+)", text)}
    assert found
    assert found <= set(BOARDS)
    for tree in BOARDS.values():
        (link,) = tree["links"]
        assert (link["type"], link["tags"]) == ("dashboards", [panels.TAG])
        assert panels.TAG in tree["tags"]


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        ("loki", r'^[\w( ,)]*\{\w+=~"\$\w+"\}'),
        ("victoriametrics-logs-datasource", r'^\{"[\w.]+"=~"\$\w+"\}'),
    ],
)
def test_log_queries_choose_streams(kind: str, selector: str) -> None:
    asked = [e for _, tree in every_board() for _, e in asked_of(tree, kind)]
    assert len(asked) > 4
    for expression in asked:
        assert re.search(selector, expression), expression


def test_a_graph_asks_prometheus_for_tempo_and_jaeger_for_its_own() -> None:
    (expression,) = (
        e for title, e in asked_of(BOARDS["harness-service"], "prometheus")
        if title == "Who calls whom"
    )  # fmt: skip
    assert 'traces_service_graph_request_total{server=~"$service"}' in expression
    (told,) = (
        told for title, _, told in panels.queries(EVERY[0][1]["harness-service"])
        if title == "Who calls whom"
    )  # fmt: skip
    assert told["queryType"] == "dependencyGraph"


def test_the_same_is_asked_of_logs_in_both_languages() -> None:
    search = Lines((("service.name", "=~", "a|b"), ("guard.rule", "=", "r")), "$__range",
                   ("process.executable.name",), 20)  # fmt: skip
    told = {}
    for name in ("loki", "victorialogs"):
        store = PROGRAMS[name].store
        assert store is not None
        told[name] = (store.target(search) or {})["expr"]
        assert store.target(Calls("a")) is None
    assert told["loki"] == (
        "topk(20, sum by (process_executable_name) "
        '(count_over_time({service_name=~"a|b"} | guard_rule="r" [$__range])))'
    )
    assert told["victorialogs"] == (
        '{"service.name"=~"a|b"} "guard.rule":="r"'
        ' | stats by ("process.executable.name") count() records'
        " | sort by (records desc) limit 20"
    )


def test_a_variable_is_asked_of_prometheus() -> None:
    assert board.Variable("a", "A", "up", "job").query == "label_values(up, job)"


def test_the_builders_are_not_imported_before_they_are_needed() -> None:
    code = "import sys, harness.stack.config; print('grafana_foundation_sdk' in sys.modules)"
    assert processes.run([sys.executable, "-c", code]).stdout.strip() == "False"


def test_they_can_be_written_for_another_grafana(tmp_path: Path) -> None:
    processes.run([sys.executable, "-m", "harness.stack.grafana", str(tmp_path / "new")])
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "new").iterdir()}
    assert found.pop("rules.yaml") == rules.rules()
    assert found == {f"{uid}.json": tree for uid, tree in EVERY[0][1].items()}
    argv = [sys.executable, "-m", "harness.stack.grafana", str(tmp_path / "old"), "tempo", "loki"]
    processes.run(argv)
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "old").iterdir()}
    found.pop("rules.yaml")
    assert found == {f"{uid}.json": tree for uid, tree in BOARDS.items()}
