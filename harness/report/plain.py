"""The first screen's lines, one a collector and service in plain words; for `html`.

They say what the tables below them say, without the statistics' words, and with no more digits than
the intervals allow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from harness.analysis import sight
from harness.analysis.summary import Summary
from harness.model import Comparison
from harness.report import table, wording
from harness.report.table import Claimed
from harness.wire.telemetry import SIGNALS

MISSED = 99.0  # % of what there was, below which a collector is said to have missed some
SCALE = (0.01, 100.0)  # % of the picture's axis, which is logarithmic
_PERCENT = re.compile(r"([<≤]=?\s*)?\+?(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))? ?%")


@dataclass(frozen=True)
class Plain:
    """What one collector costs a service and what it saw; `bad` if it saw too little."""

    workload: str
    arm: str
    label: str
    cost: str
    seen: str
    bad: bool
    claims: tuple[Claimed, ...]
    picture: Markup | None


def lines(summary: Summary) -> list[Plain]:
    """Every arm with collectors of each service, in the order of the tables."""
    return [
        _line(summary, workload, arm.name)
        for workload in summary.experiment.workloads
        for arm in summary.experiment.arms
        if arm.collectors
    ]


def _line(summary: Summary, workload: str, arm: str) -> Plain:
    seen, bad = _seen(summary, workload, arm)
    claims = table.claims(summary, arm)
    # what two sets differ by is not what one of them was published to cost
    alone = not summary.experiment.arm(arm).against
    picture = _picture(summary, workload, arm, claims) if claims and alone else None
    label = wording.arm_label(summary, arm)
    cost = _cost(summary, workload, arm)
    return Plain(workload, arm, label, _firm(cost), _firm(seen), bad, claims, picture)


def _firm(text: str) -> str:
    """No line is broken between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|µs|MB)", "\N{NO-BREAK SPACE}", text)


def _cost(summary: Summary, workload: str, arm: str) -> str:
    """A sentence: what the service pays, then what all of it takes."""
    row = summary.row(workload, arm, "workload_cpu_us")
    if row is None:
        return f"Not measured. {summary.missing(workload, arm, 'workload_cpu_us')}"
    if wording.is_idle(summary, workload, arm):
        return "No events under this load: what it costs where there are some was not measured."
    said = _difference(summary, row) if wording.against(summary, row) else _alone(row)
    taken = list(_taken(summary, workload, arm))
    return f"{said}{'; takes ' + ' and '.join(taken) + ' in all' if taken else ''}."


def _alone(row: Comparison) -> str:
    if not math.isfinite(row.low):
        return "Too little was measured to tell what it costs the service"
    if not wording.resolved(row):
        return f"No cost to the service could be told{_limit(row)}"
    if row.estimate < 0:
        odd = "Makes a request cheaper, which no collector should (look below)"
        return f"{odd}, by {_amount(row)}{_open(row)}"
    return f"Costs {_amount(row)}{_open(row)}"


def _difference(summary: Summary, row: Comparison) -> str:
    instead = wording.instead(summary, row).replace("`", "").strip()
    if not wording.resolved(row):
        return f"{instead.capitalize()}: no difference could be told{_limit(row)}"
    word = "dearer" if row.estimate > 0 else "cheaper"
    return f"{instead.capitalize()}: a request is {word} by {_amount(row)}{_open(row)}"


def _open(row: Comparison) -> str:
    return " in the processes measured; of others that is open" * wording.only_here(row)


def _limit(row: Comparison) -> str:
    """The smallest effect that would have been seen, in percent of a request too."""
    if not math.isfinite(row.mde):
        return ""
    share = f" ({wording.plain(100 * row.mde / row.level)} %)" if row.level > 0 else ""
    return f"; one of {wording.plain(row.mde)} µs a request{share} would have been"


def _amount(row: Comparison) -> str:
    """`6.3 µs of CPU a request (19 %), between 5.8 and 6.8`, whichever sign it has."""
    places = wording.places(row)
    ends = sorted(abs(end) for end in (row.low, row.high))
    centre, low, high = (wording.number(v, places) for v in (abs(row.estimate), *ends))
    share = f" ({wording.plain(100 * abs(row.estimate) / row.level)} %)" if row.level > 0 else ""
    told = "" if wording.only_here(row) else f", between {low} and {high}"
    return f"{centre} µs of CPU a request{share}{told}"


def _taken(summary: Summary, workload: str, arm: str) -> Iterator[str]:
    for metric, unit in (("bill_percent", "% of the machine"), ("agent_memory_mb", "MB")):
        row = summary.row(workload, arm, metric)
        if row is not None:
            yield f"{wording.plain(row.estimate)} {unit}"


def _seen(summary: Summary, workload: str, arm: str) -> tuple[str, bool]:
    """What of what there was arrived, and whether that is too little."""
    rows = [
        row for row in summary.rows
        if (row.workload, row.arm) == (workload, arm) and row.metric.startswith("coverage_percent")
    ]  # fmt: skip
    if not rows:
        if (events := summary.row(workload, arm, "events_per_request")) is not None:
            number = wording.plain(events.estimate)
            return f"told {number} events a request; how many there were is not known", False
        return "what it saw was not counted", False
    told = (_told(row, sight.is_within(summary.rows, row)) for row in rows)
    return "saw " + ", ".join(told), any(_is_bad(row) for row in rows)


def _told(row: Comparison, within: bool) -> str:
    signal = sight.signal(row)
    if row.estimate == 0 and not SIGNALS[signal].is_expected:
        why = " (is it encrypted?)" if signal == "requests" and not within else ""
        return f"none of {row.n:,} {signal}{why}: what it costs is what looking costs"
    text, _ = table.arrived(row)
    if SIGNALS[signal].is_probed:
        return f"{text} for {signal}"
    return f"{text} of {signal}" if text.endswith("%") else text


def _is_bad(row: Comparison) -> bool:
    return row.high < (sight.THIRD if sight.is_expected(sight.signal(row)) else MISSED)


def _picture(
    summary: Summary, workload: str, arm: str, claims: tuple[Claimed, ...]
) -> Markup | None:
    """Measured beside published, in percent on one axis; None where nothing can be placed."""
    here = [
        (kind, row.estimate, row.low, row.high)
        for kind, metric in (("bill", "bill_percent"), ("cost", "workload_cpu_percent"))
        if (row := summary.row(workload, arm, metric)) is not None and row.estimate > 0
        and (kind == "bill" or wording.resolved(row))
    ]  # fmt: skip
    told = [span for claim in claims if (span := _span(claim.text)) is not None]
    if not here or not told:
        return None
    marks = [_published(*span, 24 + 7 * i) for i, span in enumerate(told)]
    marks += [_measured(kind, value, low, high) for kind, value, low, high in here]
    words = "; ".join(f"{kind} {value:.2g} %" for kind, value, _, _ in here)
    ticks = "".join(
        f'<line class="tick" x1="{_x(at):.1f}" x2="{_x(at):.1f}" y1="2" y2="36"/>'
        f'<text x="{_x(at):.1f}" y="47">{at:g}</text>'
        for at in (0.01, 0.1, 1.0, 10.0, 100.0)
    )
    said = escape(f"here: {words}; published: {'; '.join(c.text for c in claims)}")
    return Markup(
        f'<svg class="claimed" viewBox="0 0 200 50" role="img" aria-label="{said}">'
        f"<title>{said}</title>{ticks}{''.join(marks)}</svg>"
    )


def _span(text: str) -> tuple[float, float] | None:
    """The percentages that a claim names first, from and to; an upper limit begins at nothing."""
    found = _PERCENT.search(text)
    if found is None:
        return None
    limit, first, last = found.groups()
    value = float(first)
    return (0.0 if limit else value), float(last) if last else value


def _x(percent: float) -> float:
    low, high = map(math.log10, SCALE)
    at = math.log10(min(max(percent, SCALE[0]), SCALE[1]))
    return 12 + 176 * (at - low) / (high - low)


def _published(low: float, high: float, y: float) -> str:
    x = _x(high)
    bar = f'<line class="told" x1="{_x(low):.1f}" x2="{x:.1f}" y1="{y}" y2="{y}"/>'
    diamond = f"M{x - 4:.1f} {y}L{x:.1f} {y - 4}L{x + 4:.1f} {y}L{x:.1f} {y + 4}Z"
    return f'{bar if low < high else ""}<path class="told" d="{diamond}"/>'


def _measured(kind: str, value: float, low: float, high: float) -> str:
    y = 8 if kind == "bill" else 16
    span = ""
    if math.isfinite(low) and high > 0:
        span = f'<line class="here" x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{y}" y2="{y}"/>'
    x = _x(value)
    if kind == "bill":
        return f'{span}<circle class="here" cx="{x:.1f}" cy="{y}" r="3.6"/>'
    return f'{span}<rect class="here" x="{x - 3:.1f}" y="{y - 3}" width="6" height="6"/>'
