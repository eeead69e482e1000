"""What collectors cost by the second and by the request, and how that is read; for `html`."""

from __future__ import annotations

from harness.analysis.summary import Summary
from harness.model import Comparison
from harness.report import sheets, wording
from harness.report.sheets import Sheet
from harness.report.table import Cell

# column -> metric and what it is
COLUMNS = {
    "by the second": ("per_second_mcpu", "thousandths of a CPU, at any rate"),
    "by the request": ("per_request_us", "what each adds"),
    "a request at a tenth of the rate": (
        "tenth_rate_us",
        "with its share of what the second costs",
    ),
    "off the line": ("line_residual_mcpu", "the rate in between, metered less the line"),
}

OFF = "line_residual_mcpu"
BY_THE_LINE = ("per_request_us", "tenth_rate_us")  # what only a straight line tells


def sheet(summary: Summary, workload: str) -> Sheet:
    """A row for each arm whose cost was metered at two rates; or none."""
    measured = {row.arm for row in _rows(summary, workload, "per_request_us")}
    rows = tuple(
        (arm.name, wording.arm_label(summary, arm.name), _cells(summary, workload, arm.name))
        for arm in summary.experiment.arms
        if arm.name in measured
    )
    notes = tuple(what for _, what in COLUMNS.values())
    caption = "Agents and BPF programs (entry not included) by the second and by the request"
    return Sheet(caption, tuple(COLUMNS), rows, notes)


def _cells(summary: Summary, workload: str, arm: str) -> tuple[Cell, ...]:
    bent = _is_bent(summary.row(workload, arm, OFF))
    rows = {metric: summary.row(workload, arm, metric) for metric, _ in COLUMNS.values()}
    return tuple(
        Cell("no third rate", "", "none")
        if row is None
        else Cell("not told", "a third rate lies off the line", "none")
        if bent and metric in BY_THE_LINE
        else sheets.value(row)
        for metric, row in rows.items()
    )


def sentences(summary: Summary) -> list[str]:
    """One of each service whose costs are split: how to read it, by the arm of most collectors."""
    found = []
    for workload in summary.experiment.workloads:
        if rows := _rows(summary, workload, "tenth_rate_us"):
            found.append(_sentence(summary, max(rows, key=lambda row: _size(summary, row))))
    return found


def _size(summary: Summary, row: Comparison) -> int:
    return len(summary.experiment.arm(row.arm).collectors)


def _sentence(summary: Summary, tenth: Comparison) -> str:
    second, request, left = (
        summary.row(tenth.workload, tenth.arm, metric)
        for metric in ("per_second_mcpu", "per_request_us", OFF)
    )
    assert second is not None, "they come together"
    assert request is not None
    begin = f"{tenth.workload}, by the second and by the request:"
    idle = f"{wording.plain(second.estimate)} thousandths of a CPU ({wording.spread(second)})"
    if left is not None and _is_bent(left):
        return (
            f"{begin} not told. {tenth.arm} takes {idle} while no request comes, and at the rate "
            f"in between it is off a line from there to the whole rate ({_by(left)}): what "
            "requests cost depends on the rate, and of other rates nothing is known."
        )
    text = (
        f"{begin} {tenth.arm} takes {idle} at any rate, and for each request {_us(request)}, so "
        f"that with ten times fewer requests each costs {_us(tenth)}"
    )
    return f"{text}{_straight(left)}."


def at_rest(summary: Summary) -> list[str]:
    """One of each service whose agents were metered without requests: what those cause at all.

    An agent that no event wakes is woken by the clock alone, to look and to send.
    """
    found = []
    for workload in summary.experiment.workloads:
        if rows := _rows(summary, workload, "agent_driven_us"):
            driven = max(rows, key=lambda row: _size(summary, row))
            agent = summary.row(workload, driven.arm, "agent_us")
            if agent is not None and agent.estimate > 0 and driven.low < driven.high:
                found.append(_resting(agent, driven))
    return found


def _resting(agent: Comparison, driven: Comparison) -> str:
    begin = f"{agent.workload}, at rest: the agents of {agent.arm} take {_us(agent)} a request"
    by_clock = "while no request comes and the clock alone wakes them"
    if driven.low > 0:
        return f"{begin}; {_us(driven)} of it are what requests add to what is taken {by_clock}."
    told = f"{wording.plain(abs(driven.estimate))} µs"
    if driven.high < 0:
        return f"{begin}; {by_clock} they take more, by {told} ({wording.spread(driven)})."
    rest = wording.plain(agent.estimate - driven.estimate)
    return (
        f"{begin}, and {rest} µs in the same time {by_clock}: what requests add, "
        f"{wording.number(driven.estimate, wording.places(driven), signed=True)} µs "
        f"({wording.spread(driven)}), is not told from nothing."
    )


def _us(row: Comparison) -> str:
    return f"{wording.plain(row.estimate)} µs ({wording.spread(row)})"


def _is_bent(left: Comparison | None) -> bool:
    """Whether a third rate lies off the line through the two others."""
    return left is not None and left.low < left.high and wording.apart(left)


def _by(left: Comparison) -> str:
    return f"{wording.plain(left.estimate)} mCPU, {wording.spread(left)}"


def _straight(left: Comparison | None) -> str:
    """That a third rate agrees with the line, where there is one that can tell."""
    if left is None or not left.low < left.high:
        return ""
    return f"; a third rate agrees with that line ({_by(left)})"


def _rows(summary: Summary, workload: str, metric: str) -> list[Comparison]:
    return [row for row in summary.rows if (row.workload, row.metric) == (workload, metric)]
