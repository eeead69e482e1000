"""Published claims beside what runs found, a pure function of both; `report` prints it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.analysis import controls, metrics, verdicts
from harness.collectors.claim import CheckableClaim, Kind
from harness.errors import InputError
from harness.model import Comparison

Verdict = Literal[
    "confirmed", "refuted", "met", "not met", "within it here", "beyond it here",
    "less than claimed", "not resolved", "not measured yet", "not obtainable here",
    "no figure answers it",
]  # fmt: skip
NOT_YET: Verdict = "not measured yet"
ENTRY = "entry_ns"  # of a certificate: its rows have this arm
SEEN = 95.0  # percent; cheap because it saw less is no result
SPANS = "coverage_percent[spans]"  # of those that were sent, which are a sample as a rule
_OUTCOMES: Mapping[Kind, tuple[Verdict, Verdict]] = {  # within what is allowed, outside of it
    "claim": ("confirmed", "refuted"),
    "goal": ("met", "not met"),
    "stand-in": ("within it here", "beyond it here"),
}


@dataclass(frozen=True)
class Quantity:
    """A figure of a report in a claim's unit: the first of `metrics` that is there, times `scale`.

    `by_rate` multiplies by the requests of a second, too. `is_cost` says that less is better, and
    that one who saw nothing has none to show.
    """

    metrics: tuple[str, ...]
    unit: str
    scale: float = 1.0
    by_rate: bool = False
    is_cost: bool = True


QUANTITIES: dict[str, Quantity] = {
    "bill_percent": Quantity(("bill_percent",), "%"),
    "service_cpu_percent": Quantity(("workload_cpu_percent",), "%"),
    "agent_cpu_percent": Quantity(("agent_us",), "% of a core", 1e-4, by_rate=True),
    "agent_memory_mb": Quantity(("agent_memory_mb",), "MB"),
    "agent_peak_memory_mb": Quantity(("agent_peak_memory_mb",), "MB"),
    "latency_p99_ms": Quantity(("latency_p99_us",), "ms", 1e-3),
    "bpf_ns": Quantity(("bpf_us",), "ns/request", 1e3),
    "coverage_percent": Quantity(
        ("coverage_percent[requests]", "coverage_percent[server_spans]"), "%", is_cost=False
    ),
    "trace_coverage_percent": Quantity(
        ("coverage_percent[server_spans]", SPANS), "%", is_cost=False
    ),
    "data_latency_p99_s": Quantity(("data_latency_p99_s",), "s", is_cost=False),
    **{
        f"{ENTRY}[{hook}]": Quantity((f"{ENTRY}[{hook}]",), "ns")
        for hook in ("tracepoint", "fentry", "kprobe", "uprobe")
    },
}
METRICS = frozenset(name for each in QUANTITIES.values() for name in each.metrics)


@dataclass(frozen=True)
class Evidence:
    """What one run, certificate or submission tells.

    `arms` has the collectors (joined by +, in order) and the method of each arm, `silent` the
    services and arms whose programs saw no events, `harmed` those that answered worse. `command`
    is what measured it, where that is known: a submission does not tell.
    """

    name: str
    link: str
    kind: Literal["run", "certificate", "submission"]
    began: str
    version: str
    statistics: int
    target: str
    machine: Mapping[str, Any]
    arms: Mapping[str, tuple[str, str]]
    rows: tuple[Comparison, ...]
    complete: bool = True
    rates: Mapping[str, float] = field(default_factory=dict)
    silent: frozenset[tuple[str, str]] = frozenset()
    harmed: frozenset[tuple[str, str]] = frozenset()
    command: str = ""

    def row(self, workload: str, arm: str, names: Iterable[str]) -> Comparison | None:
        """The first of these metrics that this service and arm have."""
        found = {r.metric: r for r in self.rows if (r.workload, r.arm) == (workload, arm)}
        return next((found[name] for name in names if name in found), None)


@dataclass(frozen=True)
class Figure:
    """Ours, in the claim's unit, with the 95 % interval."""

    estimate: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Answer:
    """A row of the table: a claim, and what one service of one run says to it, if one does."""

    claim: CheckableClaim
    verdict: Verdict
    why: str = ""
    figure: Figure | None = None
    evidence: Evidence | None = None
    workload: str = ""
    collectors: str = ""
    here: str = ""


def table(
    claims: Sequence[CheckableClaim], found: Sequence[Evidence], unobtainable: Mapping[str, str]
) -> list[Answer]:
    """All rows in the order of the claims; `unobtainable` says of collectors why they are."""
    return [row for claim in claims for row in answers(claim, found, unobtainable)]


def answers(
    claim: CheckableClaim, found: Sequence[Evidence], unobtainable: Mapping[str, str]
) -> list[Answer]:
    """What says something to a claim, or one row that says why nothing does; never without one."""
    if claim.unanswerable:
        return [Answer(claim, "no figure answers it", claim.unanswerable)]
    if claim.quantity not in QUANTITIES:
        raise InputError(
            f"The claim {claim.id} is of {claim.quantity!r}, which no report has.",
            next_step=f"Take one of: {', '.join(QUANTITIES)}.",
        )
    rows = [row for evidence in found for row in _of(claim, evidence)]
    if rows:
        return rows
    reasons = [unobtainable.get(name, "") for name in claim.collectors]
    if reasons and all(reasons):
        return [Answer(claim, "not obtainable here", reasons[0])]
    return [Answer(claim, NOT_YET, "no published run has it")]


def _of(claim: CheckableClaim, evidence: Evidence) -> Iterator[Answer]:
    kind = QUANTITIES[claim.quantity]
    workloads = dict.fromkeys(row.workload for row in evidence.rows)
    for arm, (collectors, method) in evidence.arms.items():
        if collectors not in claim.collectors:
            continue
        for workload in workloads:
            row = evidence.row(workload, arm, _metrics(kind, collectors))
            if row is None or (claim.workloads and workload not in claim.workloads):
                continue
            figure = _figure(kind, row, evidence)
            verdict, why = _verdict(claim, kind, row, figure, evidence)
            here = _here(evidence, workload, method)
            yield Answer(claim, verdict, why, figure, evidence, workload, collectors, here)


def _metrics(kind: Quantity, collectors: str) -> list[str]:
    """Those that answer: spans that were sent are all requests' only where http samples all."""
    return [name for name in kind.metrics if name != SPANS or _samples_all(collectors)]


def _samples_all(collectors: str) -> bool:
    specs = (each.partition(":") for each in collectors.split("+"))
    return any(name == "http" and "sample=1" in options.split(",") for name, _, options in specs)


def _figure(kind: Quantity, row: Comparison, evidence: Evidence) -> Figure:
    rate = evidence.rates.get(row.workload, math.nan) if kind.by_rate else 1.0
    scale = kind.scale * rate
    return Figure(row.estimate * scale, row.low * scale, row.high * scale, kind.unit)


def _verdict(
    claim: CheckableClaim, kind: Quantity, row: Comparison, figure: Figure, evidence: Evidence
) -> tuple[Verdict, str]:
    """Whether the whole interval is within the claim, and why it is no verdict if it is none."""
    if doubt := _doubt(kind, row, evidence):
        return "not resolved", doubt
    outcome = verdicts.decide(figure.low, figure.high, claim.least, claim.most)
    if outcome == "inconclusive":
        finite = math.isfinite(figure.low + figure.high)
        return "not resolved", "" if finite else "it has no finite interval"
    below = kind.is_cost and figure.high < claim.least and math.isfinite(claim.most)
    if outcome == "fail" and not below:
        return _OUTCOMES[claim.kind][1], ""
    missing = verdicts.part(row.metric, row.method)
    part = f"{verdicts.OF_PART}: {missing}" if missing else ""
    return ("less than claimed" if below else _OUTCOMES[claim.kind][0]), part


def _doubt(kind: Quantity, row: Comparison, evidence: Evidence) -> str:
    """Why a figure can decide nothing; empty if it can."""
    at = row.workload, row.arm
    if not evidence.complete:
        return "the run is not complete"
    if "range" in row.method.lower():
        return "a range over trials, which is no interval"
    if row.method == "one trial":
        return "one trial"
    if kind.is_cost and at in evidence.silent:
        return "its programs saw no events under this load"
    if kind.is_cost and at in evidence.harmed:
        return "the service answered worse with it: the report says how"
    if kind.is_cost and (seen := _least_seen(evidence, *at)) is not None:
        signal = seen.metric.partition("[")[2].rstrip("]") or "events"
        return f"it told {seen.estimate:.3g} % of the {signal}"
    if (null := _control(row, evidence)) is not None and controls.excludes_zero(null):
        return f"with nothing installed it is {null.estimate:+.3g} {null.unit}, which is not zero"
    return ""


def _least_seen(evidence: Evidence, workload: str, arm: str) -> Comparison | None:
    """The coverage of a signal of which less than SEEN arrived for certain."""
    found = (r for r in evidence.rows if (r.workload, r.arm) == (workload, arm))
    less = [r for r in found if r.metric.startswith("coverage_percent") and r.high < SEEN]
    return min(less, key=lambda r: r.estimate, default=None)


def _control(row: Comparison, evidence: Evidence) -> Comparison | None:
    """The same difference where nothing was installed, by the same method."""
    if row.metric.startswith(ENTRY) or not metrics.metric(row.metric).difference:
        return None
    method = evidence.arms[row.arm][1]
    for arm, (collectors, how) in evidence.arms.items():
        if not collectors and how == method:
            return evidence.row(row.workload, arm, (row.metric,))
    return None


def _here(evidence: Evidence, workload: str, method: str) -> str:
    """The conditions under which our figure was found."""
    cpus = evidence.machine.get("cpus_online")
    rate = evidence.rates.get(workload)
    parts = (
        f"{cpus} CPUs, one machine" if cpus else "",
        f"{rate:,.0f} requests/s" if rate else "",
        "" if evidence.target == "local" else f"target {evidence.target}",
        f"compared as {method}" if method in ("twin", "block") else "",
    )
    return ", ".join(filter(None, parts))
