"""Data sources of a Grafana: which a stack has, and where they lead."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.stack import grafana
from harness.stack.config import Stack
from harness.stack.config.description import KEEPS
from harness.stack.grafana import panels, sources
from tests.unit.stacked import GRAFANAS, texts

PLUGINS = ("victoriametrics-logs-datasource",)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path, keeps=GRAFANAS)


def test_sources_are_linked_where_jaeger_and_victorialogs_keep(stack: Stack) -> None:
    there = replace(stack, keeps=KEEPS, plugins=PLUGINS)
    made = {s["uid"]: s for s in sources.provisioning(there)["datasources"]}
    assert {uid: s["type"] for uid, s in made.items()} == {
        "jaeger": "jaeger", "prometheus": "prometheus",
        "victorialogs": "victoriametrics-logs-datasource",
    }  # fmt: skip
    assert made["jaeger"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "victorialogs"
    (field,) = made["victorialogs"]["jsonData"]["derivedFields"]
    assert (field["datasourceUid"], field["url"]) == ("jaeger", "$${__value.raw}")
    exemplars = made["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert {e["datasourceUid"] for e in exemplars} == {"jaeger"}


@pytest.mark.parametrize("traces", ["tempo", "jaeger"])
@pytest.mark.parametrize(
    ("logs", "service"), [("loki", "service_name"), ("victorialogs", "service.name")]
)
def test_a_span_leads_to_lines_by_what_their_keeper_calls_its_service(
    stack: Stack, traces: str, logs: str, service: str
) -> None:
    """Whoever keeps the spans: Loki comes as an archive where Tempo does not."""
    there = replace(stack, keeps={**KEEPS, "traces": traces, "logs": logs})
    linked = sources.source(there, traces)["jsonData"]["tracesToLogsV2"]
    assert linked["datasourceUid"] == logs
    assert linked["tags"] == [{"key": "service.name", "value": service}]


def test_sources_are_linked_both_ways(stack: Stack) -> None:
    made = {s["uid"]: s["jsonData"] for s in sources.provisioning(stack)["datasources"]}
    assert set(made) == {"prometheus", "tempo", "loki"}
    exemplars = made["prometheus"]["exemplarTraceIdDestinations"]
    assert {(e["name"], e["datasourceUid"]) for e in exemplars} == {
        ("trace_id", "tempo"), ("traceID", "tempo")
    }  # fmt: skip
    (field,) = made["loki"]["derivedFields"]
    assert (field["datasourceUid"], field["url"]) == ("tempo", "$${__value.raw}")
    tempo = made["tempo"]
    assert tempo["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert tempo["tracesToMetrics"]["datasourceUid"] == "prometheus"
    assert tempo["serviceMap"]["datasourceUid"] == "prometheus"
    assert "tracesToProfiles" not in tempo
    for query in tempo["tracesToMetrics"]["queries"]:
        assert "{$$__tags" in query["query"]


def test_logs_whose_source_is_a_plugin_are_left_out_without_it_and_that_is_said(
    stack: Stack,
) -> None:
    bare = replace(stack, keeps=KEEPS)
    made = {source["uid"]: source for source in sources.provisioning(bare)["datasources"]}
    assert set(made) == {"prometheus", "jaeger"}
    links = [text for source in made.values() for text in texts(source["jsonData"])]
    assert "victorialogs" not in links
    assert "jaeger" in links  # an exemplar still leads to its trace
    assert "tracesToLogsV2" not in made["jaeger"]["jsonData"]
    assert sources.lacking(bare) == (
        "Grafana shows no logs: its data source for VictoriaLogs is a plugin "
        "(victoriametrics-logs-datasource), which it does not come with."
    )
    found = grafana.files(bare)
    boards = {n: tree for n, tree in found.items() if n.startswith(grafana.FOLDER)}
    assert len(boards) == len(grafana.dashboards())
    for tree in boards.values():
        shown = list(panels.each_panel(tree))
        assert shown
        assert not [p["title"] for p in shown if p["datasource"]["uid"] == "${logs}"]
        assert "logs" not in [each["name"] for each in tree["templating"]["list"]]
    there = replace(bare, plugins=PLUGINS)
    assert sources.lacking(there) == sources.lacking(stack) == ""
    assert (
        grafana.files(there)[f"{grafana.FOLDER}/harness-guard.json"]
        == grafana.dashboards(KEEPS)["harness-guard"]
    )


def test_grafana_finds_no_variable_of_its_environment(stack: Stack) -> None:
    for text in texts(sources.provisioning(stack)):
        assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text), text


def test_profiles_are_a_source_where_they_are_configured(stack: Stack) -> None:
    there = replace(stack, profiles_url="http://127.0.0.1:4040")
    made = {source["uid"]: source for source in sources.provisioning(there)["datasources"]}
    assert made["pyroscope"]["url"] == "http://127.0.0.1:4040"
    assert made["tempo"]["jsonData"]["tracesToProfiles"]["datasourceUid"] == "pyroscope"


def test_sources_are_where_the_stack_listens(tmp_path: Path) -> None:
    stack = Stack(tmp_path, bind="192.0.2.7", plugins=PLUGINS)
    urls = {source["url"] for source in sources.provisioning(stack)["datasources"]}
    assert urls == {stack.url(name) for name in stack.keeps.values()}
    assert "http://192.0.2.7:16686" in urls
