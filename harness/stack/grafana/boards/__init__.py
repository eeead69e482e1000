"""The dashboards, each as data in a module of its own; registered here."""

from __future__ import annotations

from harness.stack.grafana.board import Board
from harness.stack.grafana.boards import (
    collectors,
    components,
    flows,
    guard,
    kubernetes,
    results,
    service,
)

BOARDS: tuple[Board, ...] = (
    service.BOARD,
    collectors.BOARD,
    flows.BOARD,
    guard.BOARD,
    kubernetes.BOARD,
    results.BOARD,
    components.BOARD,
)
