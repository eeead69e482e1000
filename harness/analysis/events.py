"""What a load gives the collectors to see, and what one event costs; `account` calls it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.analysis import bill, coverage, value
from harness.analysis.bill import Found, Metered
from harness.analysis.compare import Estimate
from harness.analysis.coverage import Count
from harness.wire.telemetry import IN_AGENT

FEW = 0.01  # runs a request below which the load makes no events for the programs
CLOCKS = ("perf_event",)  # hooks whose programs run by time and not by event
COUNTED = "pooled over metered trials, exact 95 % interval (Garwood, Poisson)"
RATIO = "({}) / events_per_request; ratio of intervals (Donner and Zou 2012)"
_WHAT = {"metered_events": "events_per_request", "metered_spans": "spans_per_request"}
_COSTS = {"bpf_event_us": ("bpf_us", "entry_us"), "bill_event_us": ("bill_us",)}


def counts(trials: Sequence[Metered], *, alone: bool) -> Iterator[tuple[str, Found]]:
    """Runs of the programs a request, and of an arm with one collector its events and spans.

    Those of several collectors are of different kinds, which make no sum.
    """
    known = [trial for trial in trials if trial.requests]
    requests = math.fsum(trial.requests for trial in known)
    if not requests:
        return
    if any(_values(trial, "bpf_run_count") for trial in known):
        runs = math.fsum(each for trial in known for each in _values(trial, "bpf_run_count"))
        yield "runs_per_request", _rate(runs, requests, len(known))
    for recorded, metric in _WHAT.items() if alone else ():
        told = [trial for trial in known if _values(trial, recorded)]
        if seen := math.fsum(map(_seen, told)):
            number = math.fsum(each for trial in told for each in _values(trial, recorded))
            yield metric, _rate(number, seen, len(told))


def costs(
    parts: Mapping[str, Found | None], found: Mapping[str, Found]
) -> Iterator[tuple[str, Found]]:
    """Costs per event, of parts per request; none where none was counted."""
    events = found.get("events_per_request")
    if events is None or not events.value.estimate > 0:
        return
    for metric, names in _COSTS.items():
        known = {name: part for name in names if (part := parts.get(name))}
        if names[0] not in known:
            continue
        cost = bill.combined([(1.0, part.value) for part in known.values()])
        whole = ratio(value.not_negative(cost), events.value)
        yield metric, Found(whole, RATIO.format(_terms(metric, known, parts)))


def _terms(metric: str, known: Mapping[str, Found], parts: Mapping[str, Found | None]) -> str:
    """What is divided; of the bill, whether entry is in it."""
    entry = " with entry_us" if metric.startswith("bill") and parts.get("entry_us") else ""
    return " + ".join(known) + entry


def is_idle(trials: Sequence[Metered]) -> bool:
    """Whether programs ran so rarely that what was measured of them is no cost.

    Those that the clock runs have something to see under every load.
    """
    runs = bill.runs(trials)
    by_clock = any(runs.get(hook) for hook in CLOCKS)
    return bool(runs) and not by_clock and math.fsum(runs.values()) < FEW


def ratio(over: Estimate, under: Estimate) -> Estimate:
    """One estimate in another, which is above zero, with the interval from both of theirs.

    Donner and Zou, Statistical Methods in Medical Research 21 (2012), MOVER-R. Where the
    denominator is known to a factor of two only, the lower bound over the upper one and the
    upper over the lower: too wide.
    """
    a, b = over.estimate, under.estimate
    n = min(over.n, under.n)
    if not (under.low > 0 and under.high < 2 * b):
        high = over.high / under.low if under.low > 0 else math.nan
        return Estimate(a / b, over.low / under.high, high, n)
    low = _bound(a, over.low, b, under.high, -1)
    return Estimate(a / b, low, _bound(a, over.high, b, under.low, 1), n)


def _bound(a: float, own: float, b: float, others: float, side: int) -> float:
    """That of a / b by the bound `own` of a and the one of b that goes with it."""
    below = others * (2 * b - others)
    square = (a * b) ** 2 - own * (2 * a - own) * below
    return (a * b + side * math.sqrt(max(square, 0.0))) / below


def _rate(count: float, requests: float, trials: int) -> Found:
    return Found(replace(coverage.rate(Count(count, requests)), n=trials), COUNTED)


def _seen(trial: Metered) -> float:
    """The requests of which the collector counted: one that nobody switches saw more of them."""
    own = _values(trial, "counted_requests")
    return own[0] if own else trial.requests


def _values(trial: Metered, metric: str) -> list[float]:
    """Of the collectors of the trial; not of programs that an agent runs itself."""
    return [
        each.value
        for each in trial.record.values
        if each.metric == metric and each.labels.get("hook", "") not in IN_AGENT
    ]
