"""The rows of a cell's full bill, and of its difference to another set's; `summary` calls it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.analysis import (
    bill,
    compare,
    coverage,
    events,
    hierarchy,
    metrics,
    pairs,
    rates,
    unseen,
    value,
)
from harness.analysis.bill import Found, Metered
from harness.analysis.cell import Cell
from harness.analysis.compare import Estimate, Quadruples
from harness.analysis.value import REFERENCE
from harness.model import Comparison

DRIVEN = "agent_us less idle CPU / rate (rate taken as exact); intervals in quadrature"
SLICED = "Hodges-Lehmann over quadruples of slices of metered trials, widened by blocks"
WITHIN = "workload_cpu_us: it runs in the service, whose CPU is its own"
PART = (
    "service, load and agent together, Hodges-Lehmann over trials, signed-rank interval: "
    "its programs are those of what goes on without it"
)
COUNTED = (
    "events of the whole node from before a steady part until after it, over its requests: how "
    "many are of others is not known"
)
ARRIVED = (
    "requests whose telemetry arrived, pooled over steady parts, exact 95 % interval (Garwood)"
)


def bill_rows(
    cell: Cell, rows: Sequence[Comparison], facts: Mapping[str, Any]
) -> Iterator[Comparison]:
    """The full bill, from the metered trials and the arm's other `rows`.

    What is left of a difference between two sets is not what one of them leaves: an arm that
    compares two has no such rows.
    """
    by_metric = {row.metric: row for row in rows}
    trials = cell.metering()
    parts = {"bpf_us": bill.bpf_us(trials), "entry_us": bill.entry_us(trials, cell.entry)}
    parts["agent_us"] = _found(by_metric.get("agent_us"))
    within = any(map(value.is_within, cell.records()))
    # of an arm that has collectors in the service and beside it, parts alone are no bill
    if part := any(map(value.is_part, cell.records())):
        parts["bill_us"] = _of_part(cell, by_metric)
    else:
        parts["bill_us"] = _within(cell, by_metric) if within else bill.whole(parts)
    if not cell.arm.against:
        parts["residual_us"] = bill.residual(parts, _found(by_metric.get("context_cpu_us")))
        parts["unexplained_percent"] = bill.unexplained_percent(
            *(_found(by_metric.get(name)) for name in ("unexplained_us", "host_cpu_us", "agent_us"))
        )
    rate, cpus = by_metric.get("rate_per_s"), bill.cpu_count(facts)
    if parts["bill_us"] and rate and cpus:  # of requests: a task of a locustfile may make several
        factor = bill.machine_percent_factor(rate.estimate, cpus)
        whole = parts["bill_us"]
        parts["bill_percent"] = Found(whole.value.scaled(factor), whole.method)
    parts |= dict(_idle(trials, by_metric))
    alone = len(cell.arm.collectors) == 1
    counted = dict(events.counts(trials, alone=alone))
    if alone and not trials:
        counted |= dict(_arrived(cell))
    # the events of a part are those of the whole node, its bill is of these requests
    each = {} if part or events.is_idle(trials) else dict(events.costs(parts, counted))
    told = {**parts, **counted, **each, **dict(rates.split(trials))}
    for metric, found in told.items():
        if found is not None and metric != "agent_us":
            yield from cell.told(metric, found)


def _within(cell: Cell, by_metric: Mapping[str, Comparison]) -> Found | None:
    """The bill of a collector in the service's own process: what that process takes more."""
    if "agent_us" in by_metric:
        return None
    own = _found(by_metric.get("workload_cpu_us"))
    if own is None or own.value.estimate <= 0:  # chance: there is no bill below nothing
        return None
    return Found(value.not_negative(own.value), WITHIN)


def _of_part(cell: Cell, by_metric: Mapping[str, Comparison]) -> Found | None:
    """The bill of a part of an agent: what service, load and that agent take more with it.

    Trial by trial, since what a machine drifts by is in all of them alike.
    """
    if not {"context_cpu_us", "agent_us"} <= by_metric.keys():
        return None
    paid = cell.sample((*metrics.COMBINED_CPU["context_cpu_us"], metrics.AGENT))
    whole = hierarchy.within(paid).whole
    # chance: there is no bill below nothing
    return Found(value.not_negative(whole), PART) if whole.estimate > 0 else None


def _arrived(cell: Cell) -> Iterator[tuple[str, Found]]:
    """Events a request of a collector that has no metered trial: what arrived of its requests."""
    seen = [
        (events, requests)
        for record in cell.records()
        if (events := value.total(record, "steady_events")) is not None
        and (requests := value.total(record, "steady_requests"))
    ]
    if seen:
        total = coverage.Count(*map(math.fsum, zip(*seen, strict=True)))
        rate = replace(coverage.rate(total), low=math.nan, high=math.nan)
        yield "events_per_request", Found(rate, COUNTED)
        return
    count = coverage.pooled(cell.records()).get("requests")
    if count is not None and any(map(value.is_within, cell.records())):
        yield "events_per_request", Found(coverage.rate(count), ARRIVED)


def _idle(
    trials: Sequence[Metered], by_metric: Mapping[str, Comparison]
) -> Iterator[tuple[str, Found]]:
    """What the collectors cost without a request, and what of the agents' CPU a request causes.

    A line through two rates, of which one is zero.
    """
    records = [trial.record for trial in trials]
    if not (told := value.found(records, value.idle_mcpu)):
        return
    whole = value.mean(told)
    yield "idle_mcpu", Found(whole, value.MEAN)
    agent, rate = by_metric.get("agent_us"), by_metric.get("rate_per_s")
    own = value.mean(value.found(records, value.idle_agent_mcpu))
    if agent and rate and rate.estimate > 0:
        driven = bill.combined([(1.0, Estimate.of(agent)), (-1.0, own.scaled(1e3 / rate.estimate))])
        yield "agent_driven_us", Found(driven, DRIVEN)


def against_rows(cell: Cell) -> Iterator[Comparison]:
    """Candidate - reference of an arm that compares two sets of collectors."""
    if not cell.arm.against:
        return
    parts = [
        pairs.pairs(rows, "switch", ("bpf.run",), (), 0.0, record.trial.block)
        for record, rows in cell.metered
    ]
    sample = compare.join(parts)
    if len(sample.on):
        yield _bpf_difference(cell, sample)
    readers = {"agent_difference_us": value.agent_us, "agent_memory_difference_mb": value.memory_mb}
    for metric, read in readers.items():
        both = [
            (new, old)
            for mine, other in zip(cell.records(), cell.records(REFERENCE), strict=True)
            if (new := read(mine)) is not None and (old := read(other)) is not None
        ]
        if both:
            found = hierarchy.mean_interval([new - old for new, old in both])
            level = float(np.mean([old for _, old in both]))
            yield cell.row(metric, found, level, value.MEAN)


def _bpf_difference(cell: Cell, sample: Quadruples) -> Comparison:
    """By sums if runs of either set are rare; differences that are all alike have no interval."""
    metric = "bpf_difference_us"
    if unseen.is_none(sample):
        found, method = unseen.bound(sample, unseen.LONGEST_US, both=True)
        return cell.row(metric, found, 0.0, method)
    if bill.is_rare(sample.on) or bill.is_rare(sample.off):
        return cell.row(metric, *compare.ratio_of_sums(sample, bill.SEED), bill.SUMS)
    found, p = hierarchy.combine(sample), hierarchy.probability(sample)
    if not found.low < found.high:
        found, p = replace(found, low=math.nan, high=math.nan), math.nan
    return cell.row(metric, found, float(np.median(sample.off)), SLICED, p)


def _found(row: Comparison | None) -> Found | None:
    if row is None:
        return None
    return Found(Estimate.of(row), row.method, row.level)
