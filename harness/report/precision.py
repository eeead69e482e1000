"""The certificate's figures: noise by window, injected and recovered; `certificate` calls it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from harness.report import style
from harness.report.style import INK

CPU, LATENCY = "#0072b2", "#d55e00"  # of Okabe and Ito, told apart by colour-blind readers too
_DPI = 160


def write(folder: Path, certificate: Mapping[str, Any]) -> list[Path]:
    """Write noise.png and recovered.png."""
    with mpl.rc_context(style.settings()):
        figures = {"noise.png": _noise(certificate), "recovered.png": _recovered(certificate)}
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=_DPI, metadata={"Software": None})
    return [folder / name for name in figures]


def _noise(certificate: Mapping[str, Any]) -> Figure:
    """Standard error against window length, and the spectrum that explains it."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    windows = certificate["noise"]["windows"]
    x = [1e3 * row["window_seconds"] for row in windows]
    for key, label, line in (
        ("window_error_percent", "regression on windows", "-"),
        ("error_percent", "Hodges-Lehmann", "-."),
        ("sd_percent", "mean", ":"),
        ("mad_percent", "mean without outliers", "--"),
    ):
        left.plot(
            x,
            [row.get(key) or math.nan for row in windows],
            line,
            color=CPU,
            marker="o",
            ms=3,
            label=label,
        )
    left.axvline(1e3 * certificate["window_seconds"], color=LATENCY, lw=1, label="chosen")
    left.set(xscale="log", yscale="log", xlabel="window (ms)",
             ylabel="standard error after 60 s (%)")  # fmt: skip
    left.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    left.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    left.yaxis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else "")
    left.legend(fontsize=8)
    spectrum = certificate["noise"]["spectrum"]
    right.plot(spectrum["frequency_hz"], spectrum["percent2_per_hz"], color=CPU, lw=1.2)
    right.set(xscale="log", yscale="log", xlabel="frequency (Hz)",
              ylabel="CPU per request, power (%² / Hz)")  # fmt: skip
    for ax in (left, right):
        ax.grid(which="major")
    return figure


def _recovered(certificate: Mapping[str, Any]) -> Figure:
    """Recovered less injected with intervals, against injected: they should all reach zero.

    Hollow: not counted for that metric, see docs/calibration.md.
    """
    burning = [arm for arm in certificate["arms"] if arm["asked_ns"]]
    aside = {arm["arm"] for arm in burning if not arm["latency_us"]}
    counted = {
        "truth_us": aside or {arm["arm"] for arm in burning},
        "latency_us": {arm["arm"] for arm in burning} - aside,
    }
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, metric, key, colour, title in (
        (axes[0], "workload_cpu_us", "truth_us", CPU, "CPU per request"),
        (axes[1], "latency_p50_us", "latency_us", LATENCY, "latency p50"),
    ):
        ax.axhline(0, color=INK, lw=0.8)
        for arm in certificate["arms"]:
            truth = arm[key]
            for row in arm["recovered"]:
                if row["metric"] != metric or row["low"] is None or truth is None or truth <= 0:
                    continue
                ax.plot([truth] * 2, [row["low"] - truth, row["high"] - truth], color=colour, lw=2)
                fill = "full" if arm["arm"] in counted[key] else "none"
                ax.plot(truth, row["estimate"] - truth, "o", color=colour, ms=5, fillstyle=fill)
        ax.set(xscale="log", xlabel="injected (µs a request)",
               ylabel="recovered less injected (µs)", title=title)  # fmt: skip
        ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.grid(which="major")
    return figure
