"""What a service answers when it is full, with collectors and without; for `html`, `markdown`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.analysis.capacity import Saturation
from harness.analysis.summary import Summary
from harness.plan import saturation as plan
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell
from harness.wire.placement import names

PER_S, PERCENT = "capacity_per_s", "capacity_percent"
# column -> what it is
COLUMNS = {
    "capacity": f"% of requests a second, on {wording.MINUS} off",
    "in requests": f"a second, on {wording.MINUS} off",
    "with it off": "requests a second, answered well",
    "p after Holm": "over all services' arms",
    "service busy": "of its CPUs, where it was least",
    "load driver busy": "of one CPU, where it was most",
}


def sheet(summary: Summary, workload: str) -> Sheet:
    """A row for each arm that had saturated trials, the A/A among them; or none."""
    rows = tuple(
        (each.arm, wording.arm_label(summary, each.arm), _cells(summary, each))
        for each in summary.saturations
        if each.workload == workload
    )
    caption = f"Capacity: what the full service answers, on {wording.MINUS} off"
    return Sheet(caption, tuple(COLUMNS), rows, tuple(COLUMNS.values()))


def _cells(summary: Summary, each: Saturation) -> tuple[Cell, ...]:
    row, share = (summary.row(each.workload, each.arm, metric) for metric in (PER_S, PERCENT))
    busy = (_share(each.service_share), _share(each.driver_share))
    if row is None or share is None:
        why = each.limit or "Too few windows were counted."
        none = Cell("n/a", "", "none")
        return (Cell("not told", why, "missing"), none, none, none, *busy)
    return (
        sheets.difference(share), sheets.difference(row), Cell(f"{row.level:,.0f}"),
        Cell(wording.probability(row.p_holm) or "n/a"), *busy,
    )  # fmt: skip


def _share(share: float) -> Cell:
    return Cell("n/a", "", "none") if math.isnan(share) else Cell(f"{100 * share:.0f} %")


def note(summary: Summary, workload: str) -> str:
    """What the figures mean, and under which conditions they hold; empty without any."""
    known = [s for s in summary.saturations if s.workload == workload and s.connections]
    if not known:
        return ""
    one, e = known[0], summary.experiment
    said = [
        f"Closed loop: each of {one.connections} connections asks again as soon as it is answered, "
        f"so that the service is full{_placed(one)}. Counted are requests that were answered well, "
        f"in windows of {1e3 * plan.window_seconds(e):g} ms without the first "
        f"{1e3 * plan.guard_seconds(e):g} ms of each, at whose edges collectors are switched. What "
        "clients and agents pay on other CPUs is not in it. Where the load driver was full, or "
        "nobody was, there is no figure.",
        *_failed(one),
        *dict.fromkeys(each.doubt for each in known if each.doubt and not each.limit),
    ]
    return " ".join(said)


def _placed(one: Saturation) -> str:
    service = f"service on {names(one.service_on)}" if one.service_on else ""
    load = f"load driver on {names(one.load_on)}" if one.load_on else "load from another machine"
    return f" ({', '.join(filter(None, (service, load)))})" if service else ""


def _failed(one: Saturation) -> Iterator[str]:
    if one.failed_share > 0:
        yield f"{wording.plain(100 * one.failed_share)} % of the requests failed and do not count."


def sentences(summary: Summary) -> list[str]:
    """One of each service that was to be filled: what its capacity is, and what it loses."""
    return [
        sentence
        for workload in summary.experiment.workloads
        if (sentence := _sentence(summary, workload))
    ]


def _sentence(summary: Summary, workload: str) -> str:
    mine = [each for each in summary.saturations if each.workload == workload]
    rows = [
        row
        for each in mine
        if (row := summary.row(workload, each.arm, PERCENT)) is not None
        and not wording.is_null(summary, each.arm)
    ]
    if not mine:
        return ""
    if not rows:
        limits = [each.limit for each in mine if each.limit]
        return f"{workload}, capacity: not told. {limits[0] if limits else 'Too few windows.'}"
    level = summary.row(workload, rows[0].arm, PER_S)
    answers = f"answers {level.level:,.0f} requests a second" if level else "is full"
    told = [(row, wording.resolved(row)) for row in rows]
    seen = [f"{r.arm} {wording.change(r)} {wording.interval(r)}" for r, is_seen in told if is_seen]
    unseen = [f"{r.arm} (seen from {wording.plain(r.mde)} %)" for r, is_seen in told if not is_seen]
    parts = [*seen, *([f"not resolved: {', '.join(unseen)}"] if unseen else [])]
    return f"{workload}, capacity: when full it {answers}; {'; '.join(parts)}."
