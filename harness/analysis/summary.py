"""Everything that a report says about a run, computed from its directory; `report` calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis import bill, compare, latency, validity
from harness.analysis import cell as cells
from harness.analysis.bill import ProgramCost
from harness.analysis.cell import BlockRow, Cell
from harness.analysis.compare import Estimate
from harness.analysis.latency import Curve
from harness.analysis.validity import Judged
from harness.experiment import Experiment, plan
from harness.model import Comparison
from harness.store import Run, TrialRecord, WindowRow

UNLIKELY = 0.01  # blocks that differ more than this probability allows are warned about


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


def summarize(run: Run) -> Summary:
    """Judge every trial and estimate every metric; a pure function of the run directory."""
    about, experiment = run.about(), run.experiment()
    windows = {record.trial: tuple(_windows(run, record)) for record in run.records()}
    trials = tuple(
        validity.judge(record, windows[record.trial], experiment.quadruples, least(experiment))
        for record in run.records()
    )
    rows: list[Comparison] = []
    blocks: list[BlockRow] = []
    curves: dict[tuple[str, str], Curve] = {}
    for cell in _cells(experiment, trials, windows):
        rows += cells.cpu_rows(cell, experiment.seed)
        blocks += cells.block_rows(cell)
        primary = about.get("primary_routes", {}).get(cell.workload, "")
        samples = cells.latency_samples(run, cell, primary)
        rows += cells.latency_rows(cell, samples, experiment.seed)
        if samples:
            curves[cell.workload, cell.arm] = latency.curve(samples[""])
        rows += cells.value_rows(cell, about)
        rows += cells.coverage_rows(cell)
    return Summary(
        run.path.name, about, experiment, tuple(rows), tuple(blocks), trials,
        tuple(p for t in trials if t.usable for p in bill.programs(t.record)), curves,
        tuple(_warnings(about, trials, rows, blocks, experiment.window_seconds)),
    )  # fmt: skip


def least(experiment: Experiment) -> float:
    """Seconds that a window must have lasted: nearly half of what it was to.

    A window that a slow switch delayed lasts half by design, and clocks are read a little late.
    """
    return 0.45 * (experiment.window_seconds - experiment.guard_seconds)


def _windows(run: Run, record: TrialRecord) -> Sequence[WindowRow]:
    try:
        return run.windows(record.trial)
    except FileNotFoundError:
        return ()


def _cells(
    experiment: Experiment,
    trials: Sequence[Judged],
    windows: Mapping[Any, tuple[WindowRow, ...]],
) -> Iterator[Cell]:
    for workload in experiment.workloads:
        for arm in experiment.arms:
            mine = [
                judged.record
                for judged in trials
                if judged.usable
                and (judged.record.trial.workload, judged.record.trial.arm) == (workload, arm.name)
            ]
            yield Cell(
                workload,
                arm.name,
                tuple((r, windows[r.trial]) for r in mine if r.trial.kind == "switched"),
                tuple(r for r in mine if r.trial.kind == "metered"),
                least(experiment),
            )


def _warnings(
    about: Mapping[str, Any],
    trials: Sequence[Judged],
    rows: Sequence[Comparison],
    blocks: Sequence[BlockRow],
    window_seconds: float,
) -> Iterator[str]:
    slow_us = 1e6 * window_seconds / 4
    yield from about.get("warnings", ())
    if not about.get("complete", False):
        yield (
            f"The run did not end. {about.get('stopped_by', '')} "
            f"The figures rest on the {len(trials)} trials that were finished."
        ).replace("  ", " ")
    for row in rows:
        if row.arm == "baseline" and row.metric == "latency_p50_us" and row.level > slow_us:
            yield (
                f"{row.workload}: requests take {row.level / 1000:.0f} ms, which is long beside a "
                "window: what a collector does at their end may fall outside. Longer windows "
                "(window_seconds) show it."
            )
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
        return f"No usable trial ({trials[0].status}): {trials[0].reason}"
    if metric.startswith("latency"):
        return "Too few requests for this percentile."
    if metric.startswith("bill") and summary.row(workload, arm, "bpf_us"):
        return _missing(summary, workload, arm, "agent_us")
    return "The trials did not record it."
