"""The rows of one workload and arm, from its usable trials; `summary` calls it for each."""

from __future__ import annotations

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis import bill, compare, coverage, latency, metrics
from harness.analysis.compare import Estimate, Quadruples
from harness.analysis.latency import Histograms, Requests
from harness.analysis.metrics import PERCENTILES, SWITCHED_CPU
from harness.model import Comparison
from harness.store import Run, TrialRecord, WindowRow

HL = "Hodges-Lehmann over quadruples, signed-rank interval"
BOOTSTRAP = "pooled quantiles, bootstrap over quadruples within blocks"
TICKS = "ratio of sums (the counter moves by ticks), bootstrap over quadruples within blocks"
RANGE = "mean and range over trials"
WHOLE = "bpf_us + agent_us; the range is the sum of their ranges over trials"
ONE = "one trial"
RESIDUAL = "context_cpu_us less bpf_us, the latter taken as exact"


@dataclass(frozen=True)
class BlockRow:
    """The estimate of one block alone, to be compared with the other blocks'."""

    workload: str
    arm: str
    metric: str
    block: int
    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Cell:
    """The usable trials of one workload and arm, with the windows of those that switch."""

    workload: str
    arm: str
    switched: tuple[tuple[TrialRecord, tuple[WindowRow, ...]], ...]
    metered: tuple[TrialRecord, ...]
    least_seconds: float = 0.0  # windows shorter than this do not count

    def sample(self, parts: Sequence[str], less: Sequence[str] = ()) -> Quadruples:
        """The quadruples of every trial that switches."""
        return compare.join(
            [
                compare.quadruples(rows, parts, less, self.least_seconds, record.trial.block)
                for record, rows in self.switched
            ]
        )

    def row(self, metric: str, value: Estimate, level: float, method: str) -> Comparison:
        """A row of report.json; only differences have a smallest effect seen."""
        kind = metrics.metric(metric)
        return Comparison(
            self.workload, self.arm, metric, kind.unit, value.estimate, value.low, value.high,
            value.n, value.mde if kind.difference else math.nan, level, method,
        )  # fmt: skip


def cpu_rows(cell: Cell, seed: int) -> Iterator[Comparison]:
    """Differences of CPU per request, by who pays; the residual is what BPF metering misses."""
    meters = {metric: (meter,) for meter, metric in SWITCHED_CPU.items()}
    for metric, parts in {**meters, "context_cpu_us": ("cpu.workload", "cpu.client")}.items():
        sample = cell.sample(parts, metrics.APART.get(metric, ()))
        if not len(sample.on):
            continue
        if any(compare.is_ticked(rows, part) for part in parts for _, rows in cell.switched):
            value, level = compare.ratio_of_sums(sample, _seed(cell, seed, metric))
            yield cell.row(metric, value, level, TICKS)
            continue
        value, level = compare.hodges_lehmann(sample.differences), float(np.median(sample.off))
        yield cell.row(metric, value, level, HL)
        if metric == "workload_cpu_us" and level > 0:
            yield cell.row("workload_cpu_percent", value.scaled(100 / level), 100.0, HL)
        if metric == "context_cpu_us":
            bpf = bill.over_trials(cell.metered, bill.METERED["bpf_us"]).estimate
            if not math.isnan(bpf):
                yield cell.row("residual_us", value.less(bpf), level, RESIDUAL)


def _seed(cell: Cell, seed: int, name: str) -> int:
    return zlib.crc32(f"{seed}/{cell.workload}/{cell.arm}/{name}".encode())


def block_rows(cell: Cell) -> Iterator[BlockRow]:
    """The same estimate of each block alone."""
    metric = "workload_cpu_us"
    for record, rows in cell.switched:
        sample = compare.quadruples(rows, ("cpu.workload",), (), cell.least_seconds)
        if len(sample.on):
            e = compare.hodges_lehmann(sample.differences)
            yield BlockRow(
                cell.workload, cell.arm, metric, record.trial.block, e.estimate, e.low, e.high, e.n
            )


def latency_samples(run: Run, cell: Cell, primary: str = "") -> dict[str, Histograms]:
    """By suffix of the metric: "" for the primary route (the busiest, if not told), "[route]"."""
    loaded = list(_requests(run, cell))
    counts = Counter(str(name) for _, requests, _ in loaded for name in requests.route)
    routes = [name for name, _ in counts.most_common()]
    first = primary if primary in counts else next(iter(routes), "")
    return {
        "" if route == first else f"[{route}]": latency.join(
            [
                latency.histograms(requests.of(route), rows, record.trial.block)
                for record, requests, rows in loaded
            ]
        )
        for route in routes
    }


def latency_rows(cell: Cell, samples: Mapping[str, Histograms], seed: int) -> Iterator[Comparison]:
    """Shifts of the percentiles of every route."""
    for suffix, sample in samples.items():
        key = _seed(cell, seed, suffix)
        found = latency.shifts(sample, list(PERCENTILES.values()), key)
        for name, (value, level) in zip(PERCENTILES, found, strict=True):
            if not math.isnan(value.estimate):
                yield cell.row(f"latency_{name}_us{suffix}", value, level, BOOTSTRAP)


def _requests(
    run: Run, cell: Cell
) -> Iterator[tuple[TrialRecord, Requests, tuple[WindowRow, ...]]]:
    for record, rows in cell.switched:
        path = run.path / "trials" / record.trial.name / "requests.npz"
        if path.exists() and rows:
            yield record, Requests.load(path), rows


def value_rows(cell: Cell, about: Mapping[str, Any]) -> Iterator[Comparison]:
    """What whole trials tell: the bill, memory, coverage, attach times."""
    switched = [record for record, _ in cell.switched]
    values = {m: bill.over_trials(switched, read) for m, read in bill.SWITCHED.items()}
    values |= {m: bill.over_trials(cell.metered, read) for m, read in bill.METERED.items()}
    values["switch_ms"] = bill.over_trials(switched, _switch_reader(cell))
    values["bill_us"] = bill.whole(values["bpf_us"], values["agent_us"])
    rate = values["rate_per_s"].estimate  # of requests: a task of a locustfile may make several
    cpus = bill.cpu_count(about.get("facts", {}))
    if cpus and rate > 0:
        factor = bill.machine_percent_factor(rate, cpus)
        values["bill_percent"] = values["bill_us"].scaled(factor)
    for metric, value in values.items():
        if not math.isnan(value.estimate):
            spread = WHOLE if metric in ("bill_us", "bill_percent") else RANGE
            yield cell.row(metric, value, math.nan, ONE if math.isnan(value.low) else spread)


def coverage_rows(cell: Cell) -> Iterator[Comparison]:
    """The share of each signal that arrived, pooled over trials; `n` is how many were made."""
    for signal, count in coverage.pooled([record for record, _ in cell.switched]).items():
        metric = f"coverage_percent[{signal}]"
        share, method = coverage.share(count, signal), coverage.method(count, signal)
        yield cell.row(metric, share, math.nan, method)


def _switch_reader(cell: Cell) -> bill.Reader:
    windows = {record.trial: rows for record, rows in cell.switched}

    def read(record: TrialRecord) -> float | None:
        rows = windows[record.trial]
        found = [
            row.meters["switch_seconds"]
            for before, row in itertools.pairwise(rows)
            if before.window.on != row.window.on and "switch_seconds" in row.meters
        ]
        return 1e3 * float(np.median(found)) if found else None

    return read
