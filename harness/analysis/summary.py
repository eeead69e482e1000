"""Everything that a report says about a run, computed from its directory; `report` calls it."""

from __future__ import annotations

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis import bill, compare, latency, metrics, validity
from harness.analysis.bill import ProgramCost
from harness.analysis.compare import Estimate
from harness.analysis.latency import Curve, Histograms, Requests
from harness.analysis.metrics import PERCENTILES, SWITCHED_CPU
from harness.analysis.validity import Judged
from harness.experiment import Experiment, plan
from harness.model import Comparison
from harness.store import Run, TrialRecord, WindowRow

UNLIKELY = 0.01  # blocks that differ more than this probability allows are warned about

HL = "Hodges-Lehmann over quadruples, signed-rank interval"
BOOTSTRAP = "pooled quantiles, bootstrap over quadruples within blocks"
RANGE = "mean and range over trials"
ONE = "one trial"


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
class Summary:
    """A run's estimates, its judged trials, and what there is to warn about."""

    name: str
    about: Mapping[str, Any]
    experiment: Experiment
    rows: tuple[Comparison, ...]
    blocks: tuple[BlockRow, ...]
    trials: tuple[Judged, ...]
    programs: tuple[ProgramCost, ...]
    curves: Mapping[tuple[str, str], Curve]
    warnings: tuple[str, ...]

    def row(self, workload: str, arm: str, metric: str) -> Comparison | None:
        """The row of this name; None if it was not measured (`missing` says why)."""
        wanted = (workload, arm, metric)
        return next((r for r in self.rows if (r.workload, r.arm, r.metric) == wanted), None)

    def missing(self, workload: str, arm: str, metric: str) -> str:
        """Why there is no such row, as a sentence."""
        return _missing(self, workload, arm, metric)


@dataclass(frozen=True)
class _Cell:
    """The usable trials of one workload and arm, with the windows of those that switch."""

    workload: str
    arm: str
    switched: tuple[tuple[TrialRecord, tuple[WindowRow, ...]], ...]
    metered: tuple[TrialRecord, ...]

    def row(self, metric: str, value: Estimate, level: float, method: str) -> Comparison:
        kind = metrics.metric(metric)
        return Comparison(
            self.workload, self.arm, metric, kind.unit, value.estimate, value.low, value.high,
            value.n, value.mde if kind.difference else math.nan, level, method,
        )  # fmt: skip


def summarize(run: Run) -> Summary:
    """Judge every trial and estimate every metric; a pure function of the run directory."""
    about, experiment = run.about(), run.experiment()
    windows = {record.trial: tuple(_windows(run, record)) for record in run.records()}
    trials = tuple(
        validity.judge(record, windows[record.trial], experiment.quadruples)
        for record in run.records()
    )
    rows: list[Comparison] = []
    blocks: list[BlockRow] = []
    curves: dict[tuple[str, str], Curve] = {}
    for cell in _cells(experiment, trials, windows):
        rows += _cpu_rows(cell)
        blocks += _block_rows(cell)
        rows += _latency_rows(run, cell, about, experiment.seed, curves)
        rows += _value_rows(cell, about)
    return Summary(
        run.path.name, about, experiment, tuple(rows), tuple(blocks), trials,
        tuple(p for t in trials if t.usable for p in bill.programs(t.record)), curves,
        tuple(_warnings(about, trials, rows, blocks)),
    )  # fmt: skip


def _windows(run: Run, record: TrialRecord) -> Sequence[WindowRow]:
    try:
        return run.windows(record.trial)
    except FileNotFoundError:
        return ()


def _cells(
    experiment: Experiment,
    trials: Sequence[Judged],
    windows: Mapping[Any, tuple[WindowRow, ...]],
) -> Iterator[_Cell]:
    for workload in experiment.workloads:
        for arm in experiment.arms:
            mine = [
                judged.record
                for judged in trials
                if judged.usable
                and (judged.record.trial.workload, judged.record.trial.arm) == (workload, arm.name)
            ]
            yield _Cell(
                workload,
                arm.name,
                tuple((r, windows[r.trial]) for r in mine if r.trial.kind == "switched"),
                tuple(r for r in mine if r.trial.kind == "metered"),
            )


def _cpu_rows(cell: _Cell) -> Iterator[Comparison]:
    meters = {metric: (meter,) for meter, metric in SWITCHED_CPU.items()}
    for metric, parts in {**meters, "context_cpu_us": ("cpu.workload", "cpu.client")}.items():
        sample = compare.join([compare.quadruples(rows, parts) for _, rows in cell.switched])
        if not len(sample.on):
            continue
        value, level = compare.hodges_lehmann(sample.differences), float(np.median(sample.off))
        yield cell.row(metric, value, level, HL)
        if metric == "workload_cpu_us" and level > 0:
            yield cell.row("workload_cpu_percent", value.scaled(100 / level), 100.0, HL)


def _block_rows(cell: _Cell) -> Iterator[BlockRow]:
    metric = "workload_cpu_us"
    for record, rows in cell.switched:
        sample = compare.quadruples(rows, ("cpu.workload",))
        if len(sample.on):
            e = compare.hodges_lehmann(sample.differences)
            yield BlockRow(
                cell.workload, cell.arm, metric, record.trial.block, e.estimate, e.low, e.high, e.n
            )


def _latency_rows(
    run: Run,
    cell: _Cell,
    about: Mapping[str, Any],
    seed: int,
    curves: dict[tuple[str, str], Curve],
) -> Iterator[Comparison]:
    """The primary route under the metric's own name, another route as `metric[route]`."""
    loaded = list(_requests(run, cell))
    counts = Counter(str(name) for _, requests, _ in loaded for name in requests.route)
    routes = [name for name, _ in counts.most_common()]
    primary = about.get("primary_routes", {}).get(cell.workload, routes[0] if routes else "")
    for route in routes:
        sample = latency.join(
            [
                latency.histograms(requests.of(route), rows, record.trial.block)
                for record, requests, rows in loaded
            ]
        )
        if route == primary:
            curves[cell.workload, cell.arm] = latency.curve(sample)
        yield from _shift_rows(cell, sample, "" if route == primary else f"[{route}]", seed)


def _requests(
    run: Run, cell: _Cell
) -> Iterator[tuple[TrialRecord, Requests, tuple[WindowRow, ...]]]:
    for record, rows in cell.switched:
        path = run.path / "trials" / record.trial.name / "requests.npz"
        if path.exists() and rows:
            yield record, Requests.load(path), rows


def _shift_rows(cell: _Cell, sample: Histograms, suffix: str, seed: int) -> Iterator[Comparison]:
    key = zlib.crc32(f"{seed}/{cell.workload}/{cell.arm}/{suffix}".encode())
    found = latency.shifts(sample, list(PERCENTILES.values()), key)
    for name, (value, level) in zip(PERCENTILES, found, strict=True):
        if not math.isnan(value.estimate):
            yield cell.row(f"latency_{name}_us{suffix}", value, level, BOOTSTRAP)


def _value_rows(cell: _Cell, about: Mapping[str, Any]) -> Iterator[Comparison]:
    switched = [record for record, _ in cell.switched]
    values = {m: bill.over_trials(switched, read) for m, read in bill.SWITCHED.items()}
    values |= {m: bill.over_trials(cell.metered, read) for m, read in bill.METERED.items()}
    values["switch_ms"] = bill.over_trials(switched, _switch_reader(cell))
    values |= _coverage(switched)
    values["bill_us"] = bill.whole(values["bpf_us"], values["agent_us"])
    rate = about.get("calibration", {}).get(cell.workload, {}).get("rate")
    rate = values["rate_per_s"].estimate if rate is None else float(rate)
    cpus = bill.cpu_count(about.get("facts", {}))
    if cpus and rate > 0:
        factor = bill.machine_percent_factor(rate, cpus)
        values["bill_percent"] = values["bill_us"].scaled(factor)
    for metric, value in values.items():
        if not math.isnan(value.estimate):
            yield cell.row(metric, value, math.nan, ONE if math.isnan(value.low) else RANGE)


def _coverage(records: Sequence[TrialRecord]) -> dict[str, Estimate]:
    signals = sorted({signal for record in records for signal in bill.coverage(record)})

    def reader(signal: str) -> bill.Reader:
        return lambda record: bill.coverage(record).get(signal)

    return {f"coverage_percent[{s}]": bill.over_trials(records, reader(s)) for s in signals}


def _switch_reader(cell: _Cell) -> bill.Reader:
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


def _warnings(
    about: Mapping[str, Any],
    trials: Sequence[Judged],
    rows: Sequence[Comparison],
    blocks: Sequence[BlockRow],
) -> Iterator[str]:
    yield from about.get("warnings", ())
    if not about.get("complete", False):
        yield "The run did not end: what follows rests on the trials that were finished."
    for row in rows:
        if row.arm == "baseline" and row.metric == "workload_cpu_us" and row.low * row.high > 0:
            yield (
                f"{row.workload}: with nothing installed the difference is not zero "
                f"({row.estimate:+.2f} us [{row.low:+.2f}, {row.high:+.2f}]): "
                "effects of that size or smaller are not to be believed."
            )
    for workload, arm in sorted({(b.workload, b.arm) for b in blocks}):
        mine = [b for b in blocks if (b.workload, b.arm) == (workload, arm)]
        estimates = [Estimate(b.estimate, b.low, b.high, b.n) for b in mine]
        if compare.disagreement(estimates) < UNLIKELY:
            each = ", ".join(f"{b.estimate:+.2f}" for b in mine)
            yield (
                f"{workload}, {arm}: the blocks disagree beyond their intervals ({each} us): "
                "the true uncertainty is larger than the interval shown."
            )
    for judged in trials:
        for text in judged.record.extra.get("warnings", ()):
            yield f"{judged.record.trial.name}: {text}"


def _missing(summary: Summary, workload: str, arm: str, metric: str) -> str:
    for skipped in summary.about.get("skipped_arms", ()):
        if skipped.get("arm") == arm:
            return f"The arm was skipped: {skipped.get('reason', 'no reason was given')}"
    kind = "metered" if metric in ("bpf_us", "bill_us", "bill_percent") else "switched"
    planned = any(
        (t.workload, t.arm, t.kind) == (workload, arm, kind) for t in plan(summary.experiment)
    )
    if not planned:
        return "The plan has no trial that measures it."
    trials = [
        judged for judged in summary.trials
        if (judged.record.trial.workload, judged.record.trial.arm, judged.record.trial.kind)
        == (workload, arm, kind)
    ]  # fmt: skip
    if not trials:
        return "The run ended before a trial that measures it."
    if not any(judged.usable for judged in trials):
        return f"No usable trial: {trials[0].status}, {trials[0].reason}"
    if metric.startswith("latency"):
        return "Too few requests for this percentile."
    if metric.startswith("bill") and summary.row(workload, arm, "bpf_us"):
        return _missing(summary, workload, arm, "agent_us")
    return "The trials did not record it."
