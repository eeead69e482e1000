"""How every Matplotlib figure looks; `canvas`, `curve` and `precision` draw in it."""

from __future__ import annotations

from typing import Any

INK, MUTED, GRID = "#222222", "#767676", "#dddddd"  # of figures that are files, on white


def settings(ink: str = INK, muted: str = MUTED, grid: str = GRID) -> dict[str, Any]:
    """Matplotlib's settings in these colours."""
    return {
        "font.size": 9,
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.axisbelow": True,
        "grid.color": grid,
        "grid.linewidth": 0.6,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "legend.frameon": False,
        "svg.hashsalt": "harness",  # or ids would differ from one drawing to the next
    }
