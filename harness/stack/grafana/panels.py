"""Makes a dashboard's JSON with Grafana's Foundation SDK, and reads its queries back for tests."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from harness.stack import catalog
from harness.stack.config import PROGRAMS
from harness.stack.config.description import Store, Tree
from harness.stack.grafana.board import Board, Kind, Panel, Query, Signal, Variable
from harness.stack.grafana.visual import LETTERS, VISUALS

TAG = "harness"
EDGES = "traces_service_graph_request_total"
_HEIGHTS: dict[Kind, int] = {"figure": 5, "logs": 12, "table": 9, "traces": 9, "graph": 9}


Keeps = Mapping[str, str]
"""Signal -> the component that keeps it."""


@dataclass
class Target(variants.Dataquery):
    """A query as the data source of a component is told it."""

    told: Tree

    def to_json(self) -> dict[str, object]:
        """As it stands in a dashboard."""
        return dict(self.told)

    def dataquery_type(self) -> str:
        """Which plugin is asked."""
        return str(self.told["datasource"]["type"])


def build(board: Board, keeps: Keeps, without: Collection[str] = ()) -> Tree:
    """A dashboard as Grafana imports it; its data sources can be chosen above it.

    Panels that the components of this stack cannot fill are left out, those of signals `without` a
    data source too, and rows that are then empty.
    """
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
    rows = {
        row.title: [p for p in row.panels if p.signal not in without and is_filled(p, keeps)]
        for row in board.rows
    }
    used = {panel.signal for row in rows.values() for panel in row}
    for signal in sorted(used | ({"metrics"} if board.variables else set())):
        kind = catalog.known()[keeps[signal]].source
        made.with_variable(dashboard.DatasourceVariable(signal).label(signal.title()).type(kind))
    for variable in board.variables:
        made.with_variable(_variable(variable, keeps))
    number = 0
    for title, row in rows.items():
        if not row:
            continue
        number += 1
        made.with_row(dashboard.Row(title).id(number))
        for panel in row:
            number += 1
            made.with_panel(_panel(panel, number, keeps))
    tree: Tree = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    return tree


def is_filled(panel: Panel, keeps: Keeps) -> bool:
    """Whether this stack's components can answer what the panel asks."""
    if panel.of and panel.of not in keeps.values():
        return False
    if panel.span_metrics and not _store(keeps, "traces").span_metrics:
        return False
    return all(_told(query, keeps) is not None for query in panel.queries)


def _store(keeps: Keeps, signal: str) -> Store:
    store = PROGRAMS[keeps[signal]].store
    assert store is not None
    return store


def _told(query: Query, keeps: Keeps) -> Tree | None:
    """What the data source of the query's signal is told, None if it cannot be asked that."""
    if isinstance(query.expr, str):
        return {"expr": query.expr}
    return _store(keeps, query.signal).target(query.expr)


def queries(tree: Tree) -> list[tuple[str, str, Tree]]:
    """(panel title, data source's type, what it is told) of each query of a dashboard.

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


def _asked(target: Tree) -> tuple[str, Tree]:
    if "serviceMapQuery" in target:
        edges = f"{EDGES}{target['serviceMapQuery']}"
        return "prometheus", {"expr": f"sum by (client, server) (rate({edges}[$__range]))"}
    return target["datasource"]["type"], target


def _panel(panel: Panel, number: int, keeps: Keeps) -> Any:
    made = (
        VISUALS[panel.kind](panel)
        .id(number)
        .title(panel.title)
        .description(panel.what)
        .datasource(_reference(panel.signal, keeps))
        .span(panel.width)
        .height(_HEIGHTS.get(panel.kind, 8))
        .targets(
            [_target(each, panel.kind, LETTERS[i], keeps) for i, each in enumerate(panel.queries)]
        )
    )
    if panel.each:
        made.repeat(panel.each)
    if panel.link:
        made.links([_link(panel.link)])
    return made


def _target(query: Query, kind: Kind, letter: str, keeps: Keeps) -> Any:
    if isinstance(query.expr, str):
        made = _of_prometheus(query, query.expr, kind)
        return made.ref_id(letter).datasource(_reference("metrics", keeps))
    told = _told(query, keeps)
    assert told is not None
    legend = {"legendFormat": query.legend} if query.legend else {}
    source = {"type": catalog.known()[keeps[query.signal]].source, "uid": f"${{{query.signal}}}"}
    return _Fixed(Target({**told, **legend, "refId": letter, "datasource": source}))


class _Fixed:
    """A builder of what is made already."""

    def __init__(self, made: Target) -> None:
        self._made = made

    def build(self) -> Target:
        """It."""
        return self._made


def _of_prometheus(query: Query, expr: str, kind: Kind) -> Any:
    made = prometheus.Dataquery().expr(expr).legend_format(query.legend)
    made.exemplar(query.exemplars)
    if kind == "table":
        made.format(PromQueryFormat.TABLE)
    return made.instant() if kind in ("figure", "table") else made.range()


def _variable(variable: Variable, keeps: Keeps) -> dashboard.QueryVariable:
    everything = model.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .query(variable.query)
        .datasource(_reference("metrics", keeps))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(variable.every)
        .current(everything)
    )


def _reference(signal: Signal, keeps: Keeps) -> model.DataSourceRef:
    """The data source that is chosen above the dashboard."""
    kind = catalog.known()[keeps[signal]].source
    return model.DataSourceRef(type_val=kind, uid=f"${{{signal}}}")


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
