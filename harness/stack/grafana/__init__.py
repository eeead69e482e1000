"""Grafana as code: data sources, and dashboards built with Grafana's Foundation SDK.

A dashboard is data, in a module of its own; `panels` makes JSON of it. The SDK takes a second to
import, so that nothing here imports it before it is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.stack.config.description import KEEPS, Stack, Tree

FOLDER = "grafana/dashboards"


def files(stack: Stack) -> Mapping[str, Tree]:
    """What Grafana reads at its start, by names relative to the stack's folder."""
    from harness.stack.grafana import sources

    made = {
        "grafana/provisioning/datasources/stack.yaml": sources.provisioning(stack),
        "grafana/provisioning/dashboards/harness.yaml": _provider(stack),
    }
    had = sources.had(stack)
    without = [signal for signal, name in stack.keeps.items() if name not in had]
    boards = dashboards(stack.keeps, without)
    return made | {f"{FOLDER}/{uid}.json": tree for uid, tree in boards.items()}


def dashboards(keeps: Mapping[str, str] = KEEPS, without: Collection[str] = ()) -> dict[str, Tree]:
    """Every dashboard by its uid, as Grafana imports it, for who keeps each signal.

    Those signals are left out `without` a data source.
    """
    from harness.stack.grafana import panels
    from harness.stack.grafana.boards import BOARDS

    return {board.uid: panels.build(board, keeps, without) for board in BOARDS}


def _provider(stack: Stack) -> Tree:
    """Dashboards come from files; what is changed in the browser is not written back."""
    provider = {
        "name": "harness",
        "folder": "harness",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": str(stack.folder / FOLDER)},
    }
    return {"apiVersion": 1, "providers": [provider]}
