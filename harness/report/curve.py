"""The figure of a ramp: what arrived, the lag and the CPU against what was offered; for `ramp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from harness.analysis.ramp import ONCE
from harness.report import capacity, style
from harness.report.style import INK, MUTED

# of Okabe and Ito, told apart by colour-blind readers too
_KEEPERS = ("#d55e00", "#e69f00", "#009e73", "#56b4e9")
_LABELS = {"otelcol": "Collector", "generator": "generator", "harness": "ramp", "nobody": "others"}
_REST = {"grafana": "#cc79a7", "harness": "#c4c4c4", "nobody": "#e4e4e4"}
_TITLES = {"spans": "spans", "points": "metric points", "logs": "log lines"}
_STYLE = style.settings() | {"axes.titlesize": 10}
_DPI = 150
_LEAST_LAG = 0.05
_LAGS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)

Steps = Sequence[Mapping[str, Any]]


def parts(signals: Mapping[str, Any]) -> dict[str, str]:
    """Who took part, with a colour each: the Collector, those that keep a signal, the generator."""
    order = list(ONCE)
    keepers = dict.fromkeys(
        step["keeper"]
        for each in sorted(signals, key=order.index)
        for step in signals[each]["steps"][:1]
    )
    return {"otelcol": "#0072b2", **dict(zip(keepers, _KEEPERS, strict=False)),
            "generator": "#999999"}  # fmt: skip


def short(name: str, titles: Mapping[str, str]) -> str:
    """Its name in a legend or at the head of a column."""
    return _LABELS.get(name) or capacity.spoken(name, titles)


def write(folder: Path, found: Mapping[str, Any]) -> list[Path]:
    """Write ramp.png and ramp.svg from what ramp.json says."""
    with mpl.rc_context(_STYLE):
        figure = _figure(found)
        figure.savefig(folder / "ramp.png", dpi=_DPI, metadata={"Software": None})
        figure.savefig(folder / "ramp.svg", metadata={"Date": None, "Creator": None})
    return [folder / "ramp.png", folder / "ramp.svg"]


def _figure(found: Mapping[str, Any]) -> Figure:
    """A row a signal: arrived, lag, CPU; all against the rate that was offered."""
    signals = found["signals"]
    figure = Figure(figsize=(10.5, 0.4 + 2.7 * max(1, len(signals))), layout="constrained")
    axes = figure.subplots(max(1, len(signals)), 3, squeeze=False)
    for row, (each, own) in zip(axes, signals.items(), strict=False):
        loaded = [step for step in own["steps"] if step["rate"] > 0]
        steps = sorted(loaded, key=lambda step: float(step["rate"]))
        if not steps:
            continue
        _arrived(row[0], steps, _TITLES[each])
        _lag(row[1], steps, found["asked"]["limit_lag"])
        _cpu(row[2], own["steps"], found["cpus"], parts(signals))
        for ax in row:
            ax.set_xlim(0, 1.04 * steps[-1]["rate"])
            ax.xaxis.set_major_formatter(_thousands)
            ax.grid(visible=True)
            if (rate := own["capacity"]["rate"]) is not None:
                ax.axvline(rate, color=INK, lw=1, ls=(0, (4, 2)))
    for ax in axes[-1]:
        ax.set_xlabel("offered, thousands a second")
    return figure


def _arrived(ax: Any, steps: Steps, title: str) -> None:
    top = steps[-1]["rate"]
    ax.plot([0, top], [0, top], color=MUTED, lw=0.8, label="all of it")
    ax.plot([s["rate"] for s in steps], [s["arrived"] for s in steps], color=INK, lw=0.8)
    for held, fill, label in ((True, INK, "held"), (False, "white", "not held")):
        chosen = [step for step in steps if (not step["reasons"]) == held]
        ax.plot(
            [s["rate"] for s in chosen], [s["arrived"] for s in chosen], "o",
            mec=INK, mfc=fill, ms=5, label=label,
        )  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(_thousands)
    ax.set(title=title, ylabel="arrived, thousands a second")
    ax.title.set(weight="bold", ha="left", x=0)
    ax.legend(fontsize=8, loc="upper left")


def _lag(ax: Any, steps: Steps, limit: float) -> None:
    for step in steps:
        lags = [max(lag, _LEAST_LAG) for lag in step["lags"] if lag is not None]
        ax.plot([step["rate"]] * len(lags), lags, ".", color=INK, ms=3.5, alpha=0.6)
    ax.axhline(limit, color="#d55e00", lw=1)
    ax.annotate(f"limit {limit:g} s", (0.02, limit), xycoords=("axes fraction", "data"),
                xytext=(0, 3), textcoords="offset points", color="#d55e00", fontsize=8)  # fmt: skip
    ax.set(yscale="log", ylabel="until it can be queried, s")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(FixedLocator([at for at in _LAGS if low <= at <= high]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")


def _cpu(ax: Any, steps: Steps, cpus: int, known: Mapping[str, str]) -> None:
    last = {step["rate"]: step for step in steps}  # of two tries the last
    chosen = [last[rate] for rate in sorted(last)]
    colours = {**known, **_REST}
    values = {
        name: [max(0.0, {**s["cpu"], "nobody": s["nobody"]}.get(name, 0.0)) for s in chosen]
        for name in colours
    }
    shown = [name for name in colours if max(values[name], default=0.0) > 0.005]
    if shown:
        ax.stackplot(
            [s["rate"] for s in chosen], *(values[name] for name in shown),
            colors=[colours[name] for name in shown], lw=0,
            labels=[short(name, steps[0]["titles"]) for name in shown],
        )  # fmt: skip
    ax.axhline(cpus, color=MUTED, lw=0.8)
    ax.set(ylabel=f"CPUs used, of {cpus}", ylim=(0, 1.08 * cpus))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))


def _thousands(value: float, _position: int | None = None) -> str:
    return f"{value / 1000:g}"
