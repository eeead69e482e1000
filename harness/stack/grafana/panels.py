"""Makes a dashboard's JSON with Grafana's Foundation SDK, and reads its queries back for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from grafana_foundation_sdk.builders import dashboard, loki, prometheus, tempo
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType

from harness.stack.config.description import Tree
from harness.stack.grafana.board import Board, Kind, Panel, Query, Source, Variable
from harness.stack.grafana.visual import LETTERS, VISUALS

TAG = "harness"
EDGES = "traces_service_graph_request_total"
_HEIGHTS: dict[Kind, int] = {"figure": 5, "logs": 12, "table": 9, "traces": 9, "graph": 9}


def build(board: Board) -> Tree:
    """A dashboard as Grafana imports it; its data sources can be chosen above it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.question)
        .tags([TAG])
        .time(f"now-{board.hours:g}h", "now")
        .refresh("30s" if board.hours <= 1 else "5m")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(_others())
    )
    used = {panel.source for row in board.rows for panel in row.panels}
    for source in sorted(used | ({"prometheus"} if board.variables else set())):
        made.with_variable(dashboard.DatasourceVariable(source).label(source.title()).type(source))
    for variable in board.variables:
        made.with_variable(_variable(variable))
    number = 0
    for row in board.rows:
        number += 1
        made.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made.with_panel(_panel(panel, number))
    tree: Tree = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    return tree


def queries(tree: Tree) -> list[tuple[str, str, str]]:
    """(panel title, data source's type, expression) of each query of a dashboard.

    A graph is what Tempo's data source asks Prometheus for.
    """
    return [
        (panel["title"], *_asked(target))
        for panel in each_panel(tree)
        for target in panel.get("targets", [])
    ]


def each_panel(tree: Tree) -> Iterator[Tree]:
    """The panels of a dashboard, those of closed rows too."""
    for panel in tree["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def _asked(target: Tree) -> tuple[str, str]:
    if "serviceMapQuery" in target:
        edges = f"{EDGES}{target['serviceMapQuery']}"
        return "prometheus", f"sum by (client, server) (rate({edges}[$__range]))"
    return target["datasource"]["type"], target["expr"] if "expr" in target else target["query"]


def _panel(panel: Panel, number: int) -> Any:
    made = (
        VISUALS[panel.kind](panel)
        .id(number)
        .title(panel.title)
        .description(panel.what)
        .datasource(_reference(panel.source))
        .span(panel.width)
        .height(_HEIGHTS.get(panel.kind, 8))
        .targets([_target(each, panel.kind, LETTERS[i]) for i, each in enumerate(panel.queries)])
    )
    if panel.link:
        made.links([_link(panel.link)])
    return made


def _target(query: Query, kind: Kind, letter: str) -> Any:
    made = _TARGETS[query.source](query, kind)
    return made.ref_id(letter).datasource(_reference(query.source))


def _of_prometheus(query: Query, kind: Kind) -> Any:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
    made.exemplar(query.exemplars)
    if kind == "table":
        made.format(PromQueryFormat.TABLE)
    return made.instant() if kind in ("figure", "table") else made.range()


def _of_loki(query: Query, kind: Kind) -> Any:
    made = loki.Dataquery().expr(query.expr).legend_format(query.legend)
    return made.query_type("instant" if kind in ("figure", "table") else "range")


def _of_tempo(query: Query, kind: Kind) -> Any:
    if kind == "graph":
        return tempo.TempoQuery().query_type("serviceMap").service_map_query(query.expr)
    made = tempo.TempoQuery().query_type("traceql").query(query.expr).limit(20)
    return made.table_type(SearchTableType.TRACES)


_TARGETS: dict[Source, Callable[[Query, Kind], Any]] = {
    "prometheus": _of_prometheus,
    "loki": _of_loki,
    "tempo": _of_tempo,
}


def _variable(variable: Variable) -> dashboard.QueryVariable:
    everything = model.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .query(variable.query)
        .datasource(_reference("prometheus"))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(variable.every)
        .current(everything)
    )


def _reference(source: Source) -> model.DataSourceRef:
    """The data source that is chosen above the dashboard."""
    return model.DataSourceRef(type_val=source, uid=f"${{{source}}}")


def _others() -> dashboard.DashboardLink:
    """All dashboards of ours, with the time and the variables kept."""
    return (
        dashboard.DashboardLink("Dashboards")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _link(uid: str) -> dashboard.DashboardLink:
    url = f"/d/{uid}?${{__url_time_range}}&${{__all_variables}}"
    return dashboard.DashboardLink(f"Go on to {uid}").type(model.DashboardLinkType.LINK).url(url)
