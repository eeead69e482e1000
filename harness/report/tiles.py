"""The cards on a page's first screen: each shows a row that a table below has; for `html`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis import coverage, sight
from harness.analysis.summary import Summary
from harness.model import Comparison
from harness.report import headline, table, wording


@dataclass(frozen=True)
class Tile:
    """One figure of the first screen, with the words around it."""

    title: str
    figure: str
    about: str


def tiles(summary: Summary) -> list[Tile]:
    """The bill, memory, coverage, and what would have been seen."""
    alone = {a.name for a in summary.experiment.arms if len(a.collectors) == 1}

    def of(metric: str, at: Callable[[Comparison], bool] = lambda _: True) -> list[Comparison]:
        return [r for r in summary.rows if r.metric.partition("[")[0] == metric and at(r)]

    def is_alone(row: Comparison) -> bool:
        return row.arm in alone

    return [
        _greatest(
            summary, "bill_percent", "Dearest collector, whole bill", of("bill_percent", is_alone),
            "{} %", "of the machine: {arm}, {workload} service",
        ),
        _greatest(
            summary, "agent_memory_mb", "Largest agent", of("agent_memory_mb", is_alone),
            "{} MB PSS", "{arm}, {workload} service",
        ),
        _coverage(summary, of("coverage_percent", lambda r: not wording.is_null(summary, r.arm))),
        _seen(headline.costs(summary)),
    ]  # fmt: skip


def _greatest(
    summary: Summary, metric: str, title: str, rows: Sequence[Comparison], figure: str, about: str
) -> Tile:
    if not rows:
        return _unmeasured(summary, metric, title)
    row = max(rows, key=lambda r: r.estimate)
    return Tile(
        title, figure.format(wording.plain(row.estimate)),
        about.format(arm=row.arm, workload=row.workload),
    )  # fmt: skip


def _unmeasured(summary: Summary, metric: str, title: str) -> Tile:
    """Why no arm has it, as is said of the first that could."""
    e = summary.experiment
    arms = [arm.name for arm in e.arms if arm.collectors]
    why = summary.missing(e.workloads[0], arms[0], metric) if arms else "No arm has collectors."
    return Tile(title, "not measured", why)


def _coverage(summary: Summary, rows: Sequence[Comparison]) -> Tile:
    """The lowest of those that make a percentage, or else of all; requests are not the only one."""
    title = "Lowest coverage"
    if not rows:
        return _unmeasured(summary, "coverage_percent", title)
    row = min([r for r in rows if not _few(r)] or rows, key=lambda r: r.estimate)
    where, figure = f"{row.arm}, {row.workload} service", table.arrived(row)[0]
    return Tile(
        title, figure, f"of {sight.signal(row)}: {where}" if figure.endswith("%") else where
    )


def _few(row: Comparison) -> bool:
    return row.n < coverage.ENOUGH


def _seen(rows: Sequence[Comparison]) -> Tile:
    """That of the first sentence where nothing was resolved: what would have been seen anywhere."""
    title, row = "Would have been seen anywhere", headline.least_seen(rows)
    if row is None or not row.level > 0:
        return Tile(title, "not known", "an arm has no interval, or none was measured")
    figure = f"{wording.plain(100 * row.mde / row.level)} %"
    return Tile(title, figure, f"of a request's CPU: {row.arm}, {row.workload} service")
