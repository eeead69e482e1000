"""The first sentences of a report, which nothing below them may refute; for `html`, `markdown`.

A row that the tables show as resolved is told of, or counted among those that are; a difference of
two sets is never called a collector's cost; "could be told from zero" says of what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis import caution, coverage, family, metrics, posts, sight
from harness.analysis.account import PART
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison
from harness.report import wording

TURNED_AWAY = ("refused", "malformed")  # what became of posts that is told at once
TOLD = 2  # other differences that are named; more are counted
NAMES = {
    "workload_cpu_us": "the service's CPU a request",
    "client_cpu_us": "the client's CPU a request",
    "context_cpu_us": "CPU of service and client a request",
    "softirq_cpu_us": "softirq time a request",
    "host_cpu_us": "the host's CPU a request",
    "latency_p50_us": "median latency",
    "latency_p90_us": "p90 of latency",
    "latency_p99_us": "p99 of latency",
    "latency_p99_9_us": "p99.9 of latency",
    "capacity_percent": "what the full service answers",
    "bpf_difference_us": "time in BPF programs a request",
    "agent_difference_us": "the agents' CPU a request",
    "agent_memory_difference_mb": "the agents' memory",
    "residual_us": "CPU of service and client a request beyond the BPF programs",
    "unexplained_us": "the host's CPU a request that no cgroup pays",
    "unexplained_percent": "the host's CPU that no cgroup pays, in percent",
    "interaction_us": "what collectors cost together beyond the sum of each alone",
    "instructions_per_request": "the service's instructions a request",
    "cycles_per_request": "the service's cycles a request",
    "instructions_per_cycle": "the service's instructions in a cycle",
    "cache_misses_per_request": "the service's cache misses a request",
}  # of rows that are worth a place in the first sentences, in this order
SAME = {
    "workload_cpu_percent",
    "capacity_per_s",
    "instructions_percent",
}  # as another row, in another unit


def verdict(summary: Summary) -> str:
    """Harms, who saw little or was refused, the service's CPU, and what is known besides."""
    said = [harm.sentence for harm in summary.harms[:1]]
    said += [blind(summary), half_blind(summary), lossy(summary), turned_away(summary)]
    said += [cpu_verdict(summary)]
    if not any(_is_told(summary, row) for row in costs(summary)):
        said += [besides(summary), bill(summary)]
    return " ".join(text for text in said if text)


def blind(summary: Summary) -> str:
    """That a collector told of nothing: its costs, told or not, are no answer; empty if none did.

    Of a service that speaks TLS `http` would else look as if it came for nothing.
    """
    rows = list(sight.nothing(summary.rows))
    if not rows:
        return ""
    row, signal = max(rows, key=lambda each: each[0].n)
    why = " (is it encrypted, by TLS?)" if signal == "requests" else ""
    if sight.is_within(summary.rows, row):
        why = " (does it know this kind of server?)"
    more = _more(rows, "; so it is in")
    return (
        f"{_who(summary, row)} saw none of {row.n:,} {signal} of the {row.workload} "
        f"service{why}: what is told of it is what looking costs{more}."
    )


def half_blind(summary: Summary) -> str:
    """That a collector missed much of what there was; empty if none did."""
    rows = list(sight.partly(summary.rows))
    if not rows:
        return ""
    row, signal = min(rows, key=lambda each: each[0].estimate)
    more = _more(rows, "; so it is, more or less, in")
    return (
        f"{_who(summary, row)} saw only {_part(row, signal)} "
        f"{signal} of the {row.workload} service: what is told of it is the cost of seeing no "
        f"more{more}."
    )


def _who(summary: Summary, row: Comparison) -> str:
    """The arm at the beginning of a sentence."""
    phrase = wording.arm_phrase(summary, row.arm)
    return f"{phrase[:1].upper()}{phrase[1:]}"


def _more(rows: Sequence[object], so: str) -> str:
    """That it is so in other rows, too; empty if there is this one alone."""
    others = len(rows) - 1
    return f"{so} {others} more row{'s' * (others > 1)}" if others else ""


def _part(row: Comparison, signal: str) -> str:
    """`71 % of 3,000`; where a few were expected as a count, as in the table."""
    if not sight.is_expected(signal):
        return f"{wording.plain(row.estimate)} % of {row.n:,}"
    if row.n < coverage.ENOUGH:
        return f"{round(row.estimate * row.n / 100):,} of about {row.n:,}"
    return f"{wording.plain(row.estimate)} % of about {row.n:,}"


def lossy(summary: Summary) -> str:
    """That a collector lost much of what it saw, by its own count; empty if none did."""
    rows = sight.lossy(summary.rows)
    if not rows:
        return ""
    row = max(rows, key=lambda each: each.estimate)
    more = _more(rows, "; so it is, more or less, in")
    return (
        f"{_who(summary, row)} lost {wording.plain(row.estimate)} % of {row.n:,} "
        f"events, by its own count, beside the {row.workload} service: what is told of it is the "
        f"cost of telling no more{more}."
    )


def turned_away(summary: Summary) -> str:
    """That the receiver could not take what a collector sent; empty if it took everything."""
    found = [each for each in posts.troubles(summary.trials) if each.outcome in TURNED_AWAY]
    if not found:
        return ""
    more = f" There are {len(found) - 1} more such warnings." if len(found) > 1 else ""
    return f"{found[0].sentence}{more}"


def _is_told(summary: Summary, row: Comparison) -> bool:
    """Whether the sentence on the service's CPU can be of this row."""
    return wording.resolved(row) and (row.estimate > 0 or bool(wording.against(summary, row)))


def others(summary: Summary) -> list[Comparison]:
    """Every resolved difference but the service's CPU, as the tables show them."""
    return [
        row for row in summary.rows
        if not wording.is_null(summary, row.arm) and metrics.metric(row.metric).difference
        and row.metric not in SAME and row.metric != "workload_cpu_us" and wording.resolved(row)
    ]  # fmt: skip


def besides(summary: Summary) -> str:
    """What was resolved where the service's CPU was not, as a sentence; empty if nothing was.

    It chooses among the answers to many questions, each of which was corrected for itself, so that
    it names only what holds after the correction over all of them.
    """
    rows, held = others(summary), family.together(_asked(summary))
    named = [row for row in rows if not held.get(_key(row), 0.0) >= wording.LEVEL]
    known = [row for row in named if row.metric.partition("[")[0] in NAMES]
    known.sort(key=lambda r: list(NAMES).index(r.metric.partition("[")[0]))
    told = [_told(summary, row) for row in (known or named)[:TOLD]]
    if not rows:
        return ""
    what = "difference was" if len(rows) == 1 else "differences were"
    if not told:
        return (
            f"{len(rows)} other {what} resolved in the tables; in so many questions chance makes "
            "some."
        )
    more = len(rows) - len(told)
    rest = f"; {more} more" if more else ""
    return f"Other {what} resolved: {' and '.join(told)}{rest}."


def _asked(summary: Summary) -> list[Comparison]:
    """All rows of which one might be named, resolved or not."""
    return [
        row for row in summary.rows
        if math.isfinite(row.p) and not wording.is_null(summary, row.arm)
        and row.metric not in SAME and row.metric != "workload_cpu_us"
    ]  # fmt: skip


def _key(row: Comparison) -> tuple[str, str, str]:
    return row.workload, row.arm, row.metric


def bill(summary: Summary) -> str:
    """The dearest bill, which is known whether a difference is resolved or not; or nothing."""
    rows = [r for r in summary.rows if r.metric == "bill_us" and r.estimate > 0]
    if not rows:
        return ""
    row = max(rows, key=lambda r: r.estimate)
    base = summary.row(row.workload, row.arm, "workload_cpu_us")
    level = base.level if base is not None else math.nan
    share = (
        f", {wording.plain(100 * row.estimate / level)} % of the service's own" if level > 0 else ""
    )
    bounds = f" {wording.bounds(row)}" if math.isfinite(row.low) else ""
    how, where = "Metered directly", "BPF programs and agent"
    if row.method == PART:
        how, where = "In all", "the service, its load and the agent"
    return (
        f"{how}: {wording.arm_phrase(summary, row.arm)} {_takes(summary, row.arm)} "
        f"{wording.plain(row.estimate)} {wording.unit(row)}{bounds} a request of the "
        f"{row.workload} service in {where}{share}."
    )


def _told(summary: Summary, row: Comparison) -> str:
    name, _, where = row.metric.partition("[")
    what = NAMES.get(name, name) + (f" of {where.rstrip(']')}" if where else "")
    return (
        f"{wording.arm_phrase(summary, row.arm)}{wording.instead(summary, row)} "
        f"{wording.change(row)} of {what} in the {row.workload} service"
    )


def notes(summary: Summary) -> Sequence[str]:
    """What must stand beside the first sentence wherever that is shown."""
    return [*caution.skipped(summary.about, summary.rows), *caution.spoiled(summary.trials)]


def cpu_verdict(summary: Summary) -> str:
    """On the service's CPU: the most telling difference that was resolved, or that none was."""
    rows, where = costs(summary), wording.place(summary.about.target)
    if not rows:
        return "No collector's cost was measured in this run."
    known = [row for row in rows if _is_told(summary, row)]
    if not known:
        return _unresolved(summary, rows)
    size = {row.arm: len(summary.experiment.arm(row.arm).collectors) for row in known}
    alone = [
        r for r in known if not wording.against(summary, r)
    ]  # costs before differences of costs
    most = max(size[r.arm] for r in alone or known)
    same = [r for r in alone or known if size[r.arm] == most]
    row = max(same, key=lambda r: _share(abs(r.estimate), r.level))
    return f"{where} {_cost(summary, row)}{_largest(len(same))}."


def _unresolved(summary: Summary, rows: Sequence[Comparison]) -> str:
    """Of what nothing could be told, and how large it would have had to be."""
    where = wording.place(summary.about.target)
    worst = least_seen(rows)
    compared_only = all(wording.against(summary, row) for row in rows)
    less = [r for r in rows if wording.resolved(r)]  # all below zero
    if less:
        row = min(less, key=lambda r: r.estimate)
        text = (
            f"{where} no collector made a service's CPU a request dearer beyond doubt; "
            f"{wording.arm_phrase(summary, row.arm)} made it cheaper in the {row.workload} "
            f"service, by {wording.change(row)} {wording.interval(row, True)}"
        )
        return f"{text}."
    if compared_only:
        row = max(rows, key=lambda r: _share(abs(r.estimate), r.level))
        text = (
            f"{where} no difference of a service's CPU between two sets of collectors could be "
            f"told from zero (`{row.arm}`{wording.instead(summary, row)}: {wording.change(row)} "
            f"{wording.interval(row)})"
        )
    else:
        text = f"{where} no collector's cost to a service's own CPU could be told from zero"
    if worst is None:
        return f"{text}, and no smallest effect that would have been seen is known."
    of = "difference" if compared_only else "cost"
    return (
        f"{text}; in the {worst.workload} service a {of} of {wording.floor(worst)} a request "
        "would have been seen."
    )


def least_seen(rows: Sequence[Comparison]) -> Comparison | None:
    """The row whose smallest effect seen is the largest: what would have been seen in each."""
    known = [row for row in rows if math.isfinite(row.mde)]
    if len(known) < len(rows):
        return None
    return max(known, key=lambda row: _share(row.mde, row.level), default=None)


def _cost(summary: Summary, row: Comparison) -> str:
    share = f" ({wording.relative(row)})" if wording.relative(row) else ""
    bounds = f"95 % interval {wording.interval(row, True)}"
    figure = f"{wording.change(row)} of CPU a request{share}, {bounds}{_here(row)}"
    if against := wording.against(summary, row):
        return f"`{row.arm}` instead of {against} changes the {row.workload} service by {figure}"
    verb = "cost" if len(summary.experiment.arm(row.arm).collectors) > 1 else "costs"
    return f"{wording.arm_phrase(summary, row.arm)} {verb} the {row.workload} service {figure}"


def _here(row: Comparison) -> str:
    if not wording.only_here(row):
        return ""
    return " (a cost in the processes measured; of processes in general these are too few)"


def _largest(of: int) -> str:
    return f"; the largest of {of} such costs that were resolved" if of > 1 else ""


def costs(summary: Summary) -> list[Comparison]:
    """The differences of a service's CPU that tell of a cost: no A/A, no idle programs."""
    return [
        row for row in summary.rows
        if row.metric == "workload_cpu_us" and not wording.is_null(summary, row.arm)
        and not wording.is_idle(summary, row.workload, row.arm)
    ]  # fmt: skip


def _share(value: float, level: float) -> float:
    """value / level for putting in order; what cannot be told comes last."""
    return value / level if level > 0 and math.isfinite(value) else -math.inf


def sentences(summary: Summary) -> list[str]:
    """One sentence a workload: what was resolved, what not, and the A/A."""
    return [_sentence(summary, workload) for workload in summary.experiment.workloads]


def _sentence(summary: Summary, workload: str) -> str:
    rows = [row for row in costs(summary) if row.workload == workload]
    seen = [
        f"{r.arm} {wording.change(r)} ({wording.relative(r)})" for r in rows if wording.resolved(r)
    ]
    unseen = [r for r in rows if not wording.resolved(r)]
    parts = []
    if seen:
        parts.append(", ".join(seen))
    if unseen:
        least = max(unseen, key=lambda r: r.mde if math.isfinite(r.mde) else -math.inf)
        names = ", ".join(r.arm for r in unseen)
        parts.append(f"not resolved: {names} (from {wording.floor(least)} it would have been seen)")
    arms = [arm.name for arm in summary.experiment.arms]
    if idle := [name for name in arms if wording.is_idle(summary, workload, name)]:
        parts.append(f"{wording.NO_EVENTS}: {', '.join(idle)}")
    null = summary.row(workload, BASELINE, "workload_cpu_us")
    if null is not None:
        parts.append(f"nothing installed: {wording.change(null)} {wording.interval(null)}")
    return f"{workload}: " + ("; ".join(parts) if parts else "not measured") + "."


def _takes(summary: Summary, arm: str) -> str:
    """The verb of `arm_phrase`."""
    return "take" if len(summary.experiment.arm(arm).collectors) > 1 else "takes"
