"""How each kind of panel looks; `panels` adds what all have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    logs,
    nodegraph,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model

from harness.stack.grafana.board import Kind, Panel

LETTERS = "ABCDEFGH"
"""What Grafana calls a panel's queries."""


def _lines(panel: Panel) -> Any:
    return (
        _measured(timeseries.Panel(), panel)
        .min(0)
        .fill_opacity(8)
        .show_points(look.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
        .thresholds_style(_threshold_lines(panel))
    )


def _points(panel: Panel) -> Any:
    return (
        _measured(timeseries.Panel(), panel)
        .draw_style(look.GraphDrawStyle.POINTS)
        .point_size(7)
        .show_points(look.VisibilityMode.ALWAYS)
        .legend(_legend())
        .tooltip(_tooltip())
        .thresholds_style(_threshold_lines(panel))
    )


def _figure(panel: Panel) -> Any:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return (
        _measured(stat.Panel(), panel)
        .reduce_options(last)
        .graph_mode(look.BigValueGraphMode.NONE)
        .text_mode(look.BigValueTextMode.VALUE_AND_NAME)
    )


def _table(panel: Panel) -> Any:
    """One row a group of labels; the value of each query in a column named by its legend."""
    names = {f"Value #{LETTERS[i]}": query.legend for i, query in enumerate(panel.queries)}
    names["Value"] = panel.queries[0].legend  # the name where there is only one
    steps = {
        "labelsToFields": {} if panel.signal == "logs" else None,
        "merge": {},
        "organize": {"excludeByName": {"Time": True}, "renameByName": names},
    }
    made = _measured(table.Panel(), panel)
    for name, options in steps.items():
        if options is not None:
            made.with_transformation(model.DataTransformerConfig(id_val=name, options=options))
    for query in panel.queries:
        if query.unit:
            unit = model.DynamicConfigValue(id_val="unit", value=query.unit)
            made.override_by_name(query.legend, [unit])
    return made


def _logs(_: Panel) -> Any:
    newest = look.LogsSortOrder.DESCENDING
    return logs.Panel().show_time(True).enable_log_details(True).sort_order(newest)


def _measured(made: Any, panel: Panel) -> Any:
    """With the unit, and a colour from each limit on."""
    steps = [model.Threshold(value=None, color="red" if panel.least is not None else "green")]
    if panel.least is not None:
        steps.append(model.Threshold(value=panel.least, color="green"))
    for limit, color in zip(panel.limits, ("orange", "red"), strict=False):
        steps.append(model.Threshold(value=limit, color=color))
    absolute = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
    return made.unit(panel.unit).thresholds(absolute)


def _threshold_lines(panel: Panel) -> common.GraphThresholdsStyleConfig:
    modes = look.GraphThresholdsStyleMode
    return common.GraphThresholdsStyleConfig().mode(modes.DASHED if panel.limits else modes.OFF)


def _tooltip() -> common.VizTooltipOptions:
    every = common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI)
    return every.sort(look.SortOrder.DESCENDING)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(look.LegendDisplayMode.TABLE)
        .placement(look.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )


VISUALS: dict[Kind, Callable[[Panel], Any]] = {
    "lines": _lines,
    "points": _points,
    "figure": _figure,
    "table": _table,
    "logs": _logs,
    "traces": lambda _: table.Panel(),
    "graph": lambda _: nodegraph.Panel(),
}
"""Makes the builder of a panel of each kind."""
