"""The report's figures, each a function of the summary that returns inline SVG; for `html`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import NullLocator

from harness.analysis import factorial, metrics
from harness.analysis.compare import Array
from harness.analysis.metrics import PERCENTILES
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison, Trial, WindowRow
from harness.report import canvas, wording
from harness.report.canvas import INK, MUTED, PAPER, PAYERS
from harness.results.run import Run

TAILS = {0.5: "p50", 0.1: "p90", 0.01: "p99", 0.001: "p99.9"}
ZOOM_SECONDS = 3.0
DIFFERENCE = f"on {wording.MINUS} off"


def colours(summary: Summary) -> dict[str, str]:
    """The colour to draw each arm with."""
    names = canvas.arm_names([arm.name for arm in summary.experiment.arms], BASELINE)
    return {arm: canvas.arm_colour(name) for arm, name in names.items()}


def forest(summary: Summary, workload: str) -> Markup | None:
    """Differences of the workload's CPU per request with intervals, A/A band and MDE."""
    rows = _rows(summary, workload, "workload_cpu_us")
    if not rows:
        return None
    paint = colours(summary)
    with canvas.figure(9, 0.9 + 0.38 * len(rows)) as fig:
        ax = fig.add_subplot()
        null = summary.row(workload, BASELINE, "workload_cpu_us")
        if null is not None and math.isfinite(null.low):
            ax.axvspan(null.low, null.high, color=paint[BASELINE], alpha=0.18, lw=0)
        ax.axvline(0, color=INK, lw=0.8)
        for y, row in enumerate(rows):
            _whisker(ax, row, y, paint[row.arm])
            text = f"{wording.change(row)}  {wording.interval(row)}"
            ax.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center",
                        color=INK if wording.resolved(row) else MUTED, fontsize=8.5)  # fmt: skip
        ax.set_yticks(range(len(rows)), [wording.arm_label(summary, row.arm) for row in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel(f"workload's CPU per request, {DIFFERENCE} (µs)")
        ax.grid(axis="x")
        _percent_axis(ax, rows)
        return canvas.svg(fig, f"CPU per request, {workload}")


def _whisker(ax: Any, row: Comparison, y: float, colour: str) -> None:
    seen = wording.resolved(row)
    if math.isfinite(row.low):
        ax.plot([row.low, row.high], [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        ax.plot([-row.mde, row.mde], [y, y], "|", color=MUTED, ms=7, mew=0.9)
    ax.plot(row.estimate, y, "o", ms=6.5, mew=1.6, mec=colour, mfc=colour if seen else PAPER)


def _percent_axis(ax: Any, rows: list[Comparison]) -> None:
    level = float(np.median([row.level for row in rows]))
    if level > 0:
        top = ax.secondary_xaxis("top", functions=(lambda x: 100 * x / level,
                                                   lambda p: p * level / 100))  # fmt: skip
        top.set_xlabel(f"% of {wording.plain(level)} µs a request", fontsize=8)


def latency(summary: Summary, workload: str) -> Markup | None:
    """Latency against percentile with a logarithmic tail, on and off, a panel an arm."""
    arms = [a.name for a in summary.experiment.arms if len(_curve(summary, workload, a.name))]
    if not arms:
        return None
    paint, columns = colours(summary), min(3, len(arms))
    with canvas.figure(9, 0.4 + 2.0 * math.ceil(len(arms) / columns)) as fig:
        axes = fig.subplots(
            math.ceil(len(arms) / columns), columns, sharex=True, sharey=True, squeeze=False
        )
        for ax in axes.flat[len(arms) :]:
            ax.set_visible(False)
        for ax, arm in zip(axes.flat, arms, strict=False):
            curve = summary.curves[workload, arm]
            ax.plot(1 - curve.q, curve.off, color=MUTED, lw=1.2, label="off")
            ax.plot(1 - curve.q, curve.on, color=paint[arm], lw=1.6, ls=(0, (4, 1.5)), label="on")
            ax.set(xscale="log", yscale="log", title=wording.arm_label(summary, arm))
            ax.legend(loc="upper left", fontsize=8)
            ax.grid(which="major")
        axes[0, 0].set_xticks(list(TAILS), list(TAILS.values()))
        axes[0, 0].set_xticks([], minor=True)
        axes[0, 0].set_xlim(0.7, min(float(1 - summary.curves[workload, a].q[-1]) for a in arms))
        axes[0, 0].yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
        axes[0, 0].yaxis.set_minor_locator(NullLocator())
        fig.supylabel("latency (µs)", fontsize=9)
        return canvas.svg(fig, f"Latency on and off, {workload}")


def _curve(summary: Summary, workload: str, arm: str) -> Array:
    curve = summary.curves.get((workload, arm))
    return np.empty(0) if curve is None else curve.q


def shift(summary: Summary, workload: str) -> Markup | None:
    """On - off of the latency percentiles, in percent of the level off, with intervals."""
    rows = [
        (x, row)
        for x, name in enumerate(PERCENTILES)
        for row in _rows(summary, workload, f"latency_{name}_us")
        if row.level > 0
    ]
    if not rows:
        return None
    paint, arms = colours(summary), [arm.name for arm in summary.experiment.arms]
    with canvas.figure(9, 2.6) as fig:
        ax = fig.add_subplot()
        ax.axhline(0, color=INK, lw=0.8)
        for x, row in rows:
            step = min(0.11, 0.8 / len(arms))
            at, scale = x + step * (arms.index(row.arm) - (len(arms) - 1) / 2), 100 / row.level
            ax.plot([at, at], [row.low * scale, row.high * scale], color=paint[row.arm], lw=2.2)
            ax.plot(at, row.estimate * scale, "o", ms=5.5, mew=1.5, mec=paint[row.arm],
                    mfc=paint[row.arm] if wording.resolved(row) else PAPER,
                    label=wording.arm_label(summary, row.arm) if x == 0 else None)  # fmt: skip
        ax.set_yscale("symlog", linthresh=1, linscale=0.7)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:+g} %" if v else "0")
        ax.set_xticks(range(len(PERCENTILES)), [name.replace("_", ".") for name in PERCENTILES])
        ax.set_ylabel(f"latency, {DIFFERENCE}")
        ax.grid(axis="y")
        fig.legend(loc="outside upper center", ncols=min(6, len(arms)), fontsize=8)
        return canvas.svg(fig, f"Latency shift, {workload}")


METERED = {
    "bpf_us": ("BPF programs, metered", PAYERS[0]),
    "entry_us": ("entry, calibrated", PAYERS[4]),
    "agent_us": ("agent", PAYERS[1]),
}
SWITCHED = {
    "workload_cpu_us": (f"workload, {DIFFERENCE}", PAYERS[2]),
    "client_cpu_us": (f"client, {DIFFERENCE}", PAYERS[3]),
}


def bill(summary: Summary, workload: str) -> Markup | None:
    """Who pays: what is metered beside what the comparison shows in each process."""
    arms = [
        a.name for a in summary.experiment.arms
        if a.collectors and not a.against and summary.row(workload, a.name, "context_cpu_us")
    ]  # fmt: skip
    if not arms:
        return None
    with canvas.figure(9, 1.0 + 0.62 * len(arms)) as fig:
        ax = fig.add_subplot()
        for y, arm in enumerate(arms):
            for parts, whole, at in (
                (METERED, "bill_us", y - 0.19),
                (SWITCHED, "context_cpu_us", y + 0.19),
            ):
                _stack(ax, summary, workload, arm, at, parts)
                total = summary.row(workload, arm, whole)
                if total is not None and math.isfinite(total.low):
                    ax.plot([total.low, total.high], [at, at], color=INK, lw=1.1)
                    ax.plot(total.estimate, at, "D", ms=3.6, color=INK)
        for metric, (name, colour) in (METERED | SWITCHED).items():
            if any(summary.row(workload, arm, metric) for arm in arms):
                ax.barh([0], [0], color=colour, label=name)
        ax.plot([], [], "D-", ms=3.6, lw=1.1, color=INK, label="sum, 95 %")
        ax.axvline(0, color=INK, lw=0.8)
        ax.set_yticks(range(len(arms)), [wording.arm_label(summary, arm) for arm in arms])
        ax.set_ylim(len(arms) - 0.5, -0.5)
        ax.set_xlabel("µs of CPU per request")
        ax.grid(axis="x")
        fig.legend(loc="outside upper center", ncols=6, fontsize=8, handlelength=1.2)
        return canvas.svg(fig, f"CPU bill, {workload}")


def _stack(
    ax: Any, summary: Summary, workload: str, arm: str, y: float,
    parts: Mapping[str, tuple[str, str]],
) -> None:  # fmt: skip
    """Positive parts to the right of zero, negative ones to its left; pale if unresolved."""
    ends = {True: 0.0, False: 0.0}
    for metric, (_, colour) in parts.items():
        row = summary.row(workload, arm, metric)
        if row is None:
            continue
        side = row.estimate >= 0
        known = not metrics.metric(metric).difference or wording.resolved(row)
        ax.barh(y, row.estimate, 0.34, left=ends[side], color=colour, alpha=1 if known else 0.35,
                lw=0)  # fmt: skip
        ends[side] += row.estimate


def series(run: Run, summary: Summary, workload: str) -> tuple[Markup, str] | None:
    """CPU per request of each window of one trial, zoomed and whole, and the trial's name."""
    chosen = [
        judged.record.trial for judged in summary.trials
        if judged.usable and judged.record.trial.workload == workload
        and judged.record.trial.kind == "switched"
        and summary.experiment.arm(judged.record.trial.arm).method != "block"
    ]  # fmt: skip
    if not chosen:
        return None
    trial = max(chosen, key=lambda t: (len(summary.experiment.arm(t.arm).collectors), t.block))
    arm, rows = _shown(summary, trial, run.windows(trial))
    known = [(r.window, each) for r in rows if (each := _cost(r))]
    if not known:
        return None
    windows, begin = [window for window, _ in known], known[0][0].start_ns
    t = np.array([(w.start_ns + w.end_ns) / 2 - begin for w in windows]) / 1e9
    cost = np.array([each for _, each in known])
    on = np.array([window.on for window in windows])
    with canvas.figure(9, 4.2) as fig:
        zoom, whole = fig.subplots(2, 1)
        _zoom(zoom, t, cost, on, summary.experiment.window_seconds, colours(summary)[arm])
        whose = f"{arm} " if arm != trial.arm else ""
        for state, colour, name in (
            (False, MUTED, f"{whose}off"),
            (True, colours(summary)[arm], f"{whose}on"),
        ):
            whole.plot(t[on == state], cost[on == state], "o", ms=2.2, color=colour, label=name)
        _limits(whole, cost)
        whole.set_xlabel("time in the trial (s)")
        whole.legend(loc="upper right", ncols=2, fontsize=8)
        for ax in (zoom, whole):
            ax.grid(axis="y")
        fig.supylabel("µs of CPU per request, a window", fontsize=9)
        return canvas.svg(fig, f"Windows over time, {workload}"), trial.name


def _shown(
    summary: Summary, trial: Trial, rows: Sequence[WindowRow]
) -> tuple[str, Sequence[WindowRow]]:
    """The arm whose state is drawn, and the windows with it: of a shared trial one collector's."""
    arms = [arm for arm in summary.experiment.arms_of(trial) if arm.collectors]
    if not arms or trial.arm == arms[0].name:
        return trial.arm, rows
    arm = min(arms, key=lambda each: len(each.collectors))
    return arm.name, factorial.view(summary.about, summary.experiment, arm).windows(rows)


def _cost(row: WindowRow) -> float | None:
    """us of CPU a request of the process that was driven; of a twin, the plain one while off."""
    twin = ".twin" if "cpu.twin" in row.meters and not row.window.on else ""
    paid = row.meters.get("cpu.twin" if twin else "cpu.workload")
    requests = row.meters.get(f"requests{twin}")
    return 1e6 * paid / requests if paid and requests else None


def _zoom(ax: Any, t: Array, cost: Array, on: Any, width: float, colour: str) -> None:
    seen = t < ZOOM_SECONDS
    for at, state in zip(t[seen], on[seen], strict=True):
        if state:
            ax.axvspan(at - width / 2, at + width / 2, color=colour, alpha=0.14, lw=0)
    ax.plot(t[seen], cost[seen], color=MUTED, lw=0.7, alpha=0.6)
    ax.plot(t[seen & on], cost[seen & on], "o", ms=4.5, color=colour)
    ax.plot(t[seen & ~on], cost[seen & ~on], "o", ms=4.5, color=MUTED)
    ax.set_title(f"the first {ZOOM_SECONDS:g} s: shaded is on", loc="left")
    _limits(ax, cost[seen])


def _limits(ax: Any, cost: Array) -> None:
    """Leave out what something else disturbed, and say how many windows that are."""
    low, high = np.quantile(cost, [0.1, 0.9])
    low, high = low - (high - low), high + (high - low)
    ax.set_ylim(low, high)
    if beyond := int(np.sum((cost < low) | (cost > high))):
        ax.set_title(f"{beyond} windows lie beyond the axis", loc="right", color=MUTED)


def _rows(summary: Summary, workload: str, metric: str) -> list[Comparison]:
    found = [summary.row(workload, arm.name, metric) for arm in summary.experiment.arms]
    return sorted((r for r in found if r is not None), key=lambda r: r.arm != BASELINE)
