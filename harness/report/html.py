"""report.html: one self-contained page; `build` calls it."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.analysis import validity
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.report import (
    attached,
    canvas,
    conditions,
    counters,
    events,
    flamegraph,
    growth,
    headline,
    peers,
    plain,
    plots,
    quality,
    rates,
    saturation,
    sheets,
    table,
    tiles,
    within,
    wording,
)
from harness.results.run import Run

MOST = 4  # columns that stand side by side on paper and narrow screens; of more, cells wrap
WIDEST = 10  # those that do on any screen: the page has a width, whatever the screen has
FEWEST_SAMPLES = 50  # of a flame graph: fewer are told as a count by the coverage of `profile`


@dataclass(frozen=True)
class Section:
    """What is shown of one workload; a figure that cannot be drawn is None."""

    workload: str
    anchor: str
    about: str
    forest: Markup | None
    bill: Markup | None
    latency: Markup | None
    shift: Markup | None
    series: Markup | None
    series_trial: str
    flame: Markup | None
    trust: sheets.Sheet
    account: sheets.Sheet
    events: sheets.Sheet
    contexts: sheets.Sheet
    counted: sheets.Sheet
    interactions: sheets.Sheet
    against: sheets.Sheet
    latencies: list[sheets.Sheet]
    life: sheets.Sheet
    peers: list[tuple[sheets.Sheet, str]]
    attached: sheets.Sheet
    within: sheets.Sheet
    growth: sheets.Sheet
    found: sheets.Sheet
    cost: sheets.Sheet
    programs: sheets.Sheet
    capacity: sheets.Sheet
    filled: str
    rates: sheets.Sheet


def page(run: Run, summary: Summary) -> str:
    """The page as text; needs no file beside it and no network."""
    about, lines = summary.about, table.lines(summary)
    sections = [_section(run, summary, each) for each in summary.experiment.workloads]
    return _environment().get_template("page.html.j2").render(
        summary=summary,
        about=about,
        columns=table.COLUMNS,
        sections=sections,
        groups=[
            (section, [line for line in lines if line.workload == section.workload])
            for section in sections
        ],
        sources=_sources(summary),
        glyphs=_glyphs(summary),
        tiles=tiles.tiles(summary),
        plain=plain.lines(summary),
        verdict=headline.verdict(summary),
        sentences=[
            *headline.sentences(summary), *saturation.sentences(summary), *rates.sentences(summary),
            *rates.at_rest(summary),
        ],
        paint=canvas.arm_names([arm.name for arm in summary.experiment.arms], BASELINE),
        machine=conditions.facts(about.facts, skip=("versions",)),
        versions=conditions.facts(about.facts.get("versions", {})),
        placement=conditions.facts(about.placement),
        measuring=conditions.measuring(summary),
        hooks=_hooks(summary),
        refused=[(j, conditions.fate(summary, j)) for j in summary.trials if not j.usable],
        asked=quality.note(summary),
        grown=growth.note(summary),
        bill=table.bill_is(summary),
        entry=table.has_entry(summary),
        shared=summary.experiment.has_shared,
        rules=validity.STATED,
        command=shlex.join(about.command),
        w=wording,
    )  # fmt: skip


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    environment.globals |= {"MOST": MOST, "WIDEST": WIDEST}
    return environment


def _unbroken(text: str) -> str:
    """With intervals that stay on one line, however narrow their column is."""
    return re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def _section(run: Run, summary: Summary, workload: str) -> Section:
    series = plots.series(run, summary, workload)
    return Section(
        workload,
        "w-" + re.sub(r"\W+", "-", workload),
        _driven(summary, workload),
        plots.forest(summary, workload),
        plots.bill(summary, workload),
        plots.latency(summary, workload),
        plots.shift(summary, workload),
        series[0] if series else None,
        series[1] if series else "",
        _flame(run, summary, workload),
        sheets.trust(summary, workload),
        sheets.bill(summary, workload),
        events.sheet(summary, workload),
        sheets.contexts(summary, workload),
        counters.sheet(summary, workload),
        sheets.interactions(summary, workload),
        sheets.against(summary, workload),
        sheets.latencies(summary, workload),
        sheets.life(summary, workload),
        peers.told(summary, workload),
        attached.sheet(summary, workload),
        within.sheet(summary, workload),
        growth.sheet(summary, workload),
        quality.found(summary, workload),
        quality.cost(summary, workload),
        sheets.programs(summary, workload),
        saturation.sheet(summary, workload),
        saturation.note(summary, workload),
        rates.sheet(summary, workload),
    )


def _driven(summary: Summary, workload: str) -> str:
    known = summary.about.calibration.get(workload, {})
    if "rate" not in known:
        return "It was not driven."
    text = f"Driven at {known['rate']:,.0f} requests a second"
    if "capacity" in known:
        text += f"; the load driver reached {known['capacity']:,.0f} a second in a closed loop"
        if known.get("failures"):
            text += f", beside {known['refused']:,.0f} a second not answered well"
        if "driver_cpu_share" in known:
            workers = summary.experiment.load_workers
            who = "driver" if workers == 1 else f"busiest of {workers} load workers"
            text += f" ({who} at {known['driver_cpu_share']:.0%} of its CPU)".replace("%", " %")
    row = summary.row(workload, BASELINE, "workload_cpu_us")
    return text + (f"; {wording.plain(row.level)} µs of CPU a request." if row else ".")


def _flame(run: Run, summary: Summary, workload: str) -> Markup | None:
    """The profiles of the workload's trials with the fewest collectors, for clarity, in one.

    None where there are too few samples to mean anything.
    """
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for judged in summary.trials:
        trial, extra = judged.record.trial, judged.record.extra
        path = run.path / "trials" / trial.name / str(extra.get("profile", ""))
        if trial.workload == workload and path.is_file():
            found[len(summary.experiment.arm(trial.arm).collectors)] += Counter(
                flamegraph.read(path)
            )
    stacks = found[min(found)] if found else Counter()
    if stacks.total() < FEWEST_SAMPLES:
        return None
    return Markup(flamegraph.render(stacks, f"CPU profile of {workload}"))


def _sources(summary: Summary) -> dict[str, int]:
    """Numbers for the sources of published figures, in order of appearance."""
    names = dict.fromkeys(str(claim["source"]) for claim in summary.about.claims)
    return {name: number for number, name in enumerate(names, 1)}


def _hooks(summary: Summary) -> dict[str, str]:
    """The hooks that each collector took, as its agent said."""
    found: dict[str, str] = {}
    for judged in summary.trials:
        for collector, hooks in judged.record.extra.get("hooks", {}).items():
            if hooks:  # what runs in the service takes none
                found[collector] = ", ".join(hooks)
    return found


def _glyphs(summary: Summary) -> dict[tuple[str, str], Markup]:
    """A tiny interval for each line of the headline table, on one scale a workload."""
    found = {}
    for workload in summary.experiment.workloads:
        rows = [
            r for r in summary.rows
            if (r.workload, r.metric) == (workload, "workload_cpu_us") and math.isfinite(r.low)
        ]  # fmt: skip
        low = min((r.low for r in rows), default=0.0)
        high = max((r.high for r in rows), default=0.0)
        for row in rows:
            found[workload, row.arm] = _glyph(row, min(low, 0.0), max(high, 0.0))
    return found


def _glyph(row: Comparison, low: float, high: float, width: int = 120) -> Markup:
    def x(value: float) -> str:
        return f"{4 + (width - 8) * (value - low) / (high - low or 1):.1f}"

    known = "known" if wording.resolved(row) else "unknown"
    return Markup(
        f'<svg class="glyph {known}" viewBox="0 0 {width} 16" aria-hidden="true">'
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="0" y2="16"/>'
        f'<line class="span" x1="{x(row.low)}" x2="{x(row.high)}" y1="8" y2="8"/>'
        f'<circle cx="{x(row.estimate)}" cy="8" r="3.6"/></svg>'
    )
