"""Everything that a report says about a run, computed from its directory; `report` calls it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.analysis import (
    account,
    bill,
    blame,
    capacity,
    caution,
    cpu,
    events,
    factorial,
    family,
    growth,
    harms,
    hour,
    latency_rows,
    metrics,
    missing,
    quality,
    tallies,
    upkeep,
    validity,
)
from harness.analysis import cell as cells
from harness.analysis.bill import ProgramCost
from harness.analysis.capacity import Saturation
from harness.analysis.cell import Cell, Trial
from harness.analysis.cpu import BlockRow
from harness.analysis.factorial import View
from harness.analysis.harms import Harm
from harness.analysis.latency import Curve
from harness.analysis.latency_rows import Route
from harness.analysis.quality import Quality
from harness.analysis.upkeep import Upkeep
from harness.analysis.validity import Judged
from harness.analysis.validity import least as least
from harness.analysis.value import CANDIDATE, REFERENCE
from harness.model import BASELINE, FACTORIAL, Arm, Comparison, WindowRow
from harness.plan.experiment import Experiment
from harness.results.about import About
from harness.results.check import check
from harness.results.run import Run, TrialRecord

SO_FAR = ("bill_us", "bill_percent")


@dataclass(frozen=True)
class Summary:
    """A run's estimates, its judged trials, and what there is to warn about."""

    name: str
    about: About
    experiment: Experiment
    rows: tuple[Comparison, ...]
    blocks: tuple[BlockRow, ...]
    trials: tuple[Judged, ...]
    programs: tuple[ProgramCost, ...]
    curves: Mapping[tuple[str, str], Curve]
    warnings: tuple[str, ...]
    qualities: tuple[Quality, ...] = ()
    upkeeps: tuple[Upkeep, ...] = ()
    harms: tuple[Harm, ...] = ()
    routes: tuple[Route, ...] = ()
    idle: frozenset[tuple[str, str]] = frozenset()  # workload and arm without events
    saturations: tuple[Saturation, ...] = ()
    counted_share: float | None = None  # of the time, by the processor's counters; None: not read

    def row(self, workload: str, arm: str, metric: str) -> Comparison | None:
        """The row of this name; None if it was not measured (`missing` says why)."""
        wanted = (workload, arm, metric)
        return next((r for r in self.rows if (r.workload, r.arm, r.metric) == wanted), None)

    @property
    def usable(self) -> tuple[Judged, ...]:
        """The trials that the estimates rest on, some only in part."""
        return tuple(_chosen(self.trials))

    def missing(self, workload: str, arm: str, metric: str) -> str:
        """Why there is no such row, as a sentence."""
        return missing.why(self, workload, arm, metric)


def summarize(run: Run) -> Summary:
    """Judge every trial and estimate every metric; a pure function of the run directory."""
    about, experiment, trials, windows = _read(run)
    rows: list[Comparison] = []
    blocks: list[BlockRow] = []
    programs: list[ProgramCost] = []
    routes: list[Route] = []
    found = list(_cells(about, experiment, trials, windows))
    of_cpu = cpu.rows(found, experiment.seed)
    full = [each for cell in found if (each := capacity.saturation(cell, experiment)) is not None]
    rows += capacity.rows(found, full, experiment)
    for cell in found:
        mine = [*of_cpu.get((cell.workload, cell.arm.name), ())]
        blocks += cpu.block_rows(cell)
        primary = about.primary_routes.get(cell.workload, "")
        its_routes = latency_rows.routes(run, cell, primary)
        mine += (row for route in its_routes for row in route.rows)
        routes += its_routes
        mine += cells.value_rows(cell)
        mine += growth.rows(run, cell)
        mine += account.bill_rows(cell, mine, about.facts)
        mine += account.against_rows(cell)
        mine += cells.coverage_rows(cell)
        rows += mine
        programs += _programs(cell)
    counted = tallies.counted(run, about, experiment, trials, windows)
    alone = counted
    if experiment.has_shared:
        alone = tallies.counted(run, about, experiment, trials, windows, alone=True)
    rows += tallies.rows(experiment, alone)
    rows = family.completed(experiment, rows)
    harmed = tuple(harms.found(experiment, counted, run.records(set_aside=True)))
    told = caution.warnings(about, experiment, trials, rows, blocks, routes)
    unlike = hour.unlike(about, experiment, hour.met(about, experiment, trials, windows))
    return Summary(
        run.path.name, about, experiment, tuple(rows), tuple(blocks), trials, tuple(programs),
        {(r.workload, r.arm): r.curve for r in routes if not r.suffix},
        (*(harm.sentence for harm in harmed), *check(run), *told, *unlike),
        tuple(each for cell in found for each in quality.qualities(cell)), tuple(_upkeeps(found)),
        harmed, tuple(routes),
        frozenset((c.workload, c.arm.name) for c in found if _is_idle(c)), tuple(full),
        metrics.counted_share(row.meters for each in windows.values() for row in each),
    )  # fmt: skip


def cpu_only(run: Run) -> list[Comparison]:
    """Only the rows of workload_cpu_percent: those of `summarize` but for noise, Holm and mde."""
    return cpu.percent_rows(cells_of(run), run.experiment().seed)


def cells_of(run: Run) -> list[Cell]:
    """The usable trials of each workload and arm so far."""
    about, experiment, trials, windows = _read(run)
    return list(_cells(about, experiment, trials, windows))


def so_far(run: Run, workload: str) -> list[Comparison]:
    """What is known of a service's CPU and of its bills while its run lasts.

    The rows of `workload_cpu_us` and of the bill, as `summarize` would have them now; no p is
    corrected, since what is told in between is no verdict. Of other services nothing is read.
    """
    about, experiment, trials, windows = _read(run, workload)
    only = replace(experiment, workloads=(workload,), loads={})
    found = list(_cells(about, only, trials, windows))
    rows = cpu.service_rows(found, experiment.seed)
    for cell in found:
        mine = list(cells.value_rows(cell))
        rows += [r for r in account.bill_rows(cell, mine, about.facts) if r.metric in SO_FAR]
    return rows


Windows = Mapping[Any, tuple[WindowRow, ...]]


def _read(run: Run, workload: str = "") -> tuple[About, Experiment, tuple[Judged, ...], Windows]:
    about, experiment = run.about(), run.experiment()
    every = (r for r in run.records() if workload in ("", r.trial.workload))
    records = sorted(every, key=lambda r: (r.trial.index, r.trial.attempt))
    windows = {record.trial: tuple(_windows(run, record)) for record in records}
    judged = (validity.judge_of(experiment, r, windows[r.trial]) for r in records)
    names = factorial.names(about, experiment)
    trials = tuple(_blaming(run, each, windows[each.record.trial], names) for each in judged)
    return about, experiment, trials, windows


def _blaming(run: Run, judged: Judged, rows: Sequence[WindowRow], names: Sequence[str]) -> Judged:
    """With the collectors of a shared trial that its failed requests go with, if there are any."""
    trial = judged.record.trial
    if not judged.only_errors or (trial.arm, trial.kind) != (FACTORIAL, "switched"):
        return judged
    blamed = blame.of_trial(run.path / "trials" / trial.name, rows, names)
    return replace(judged, blamed=blamed)


def _windows(run: Run, record: TrialRecord) -> Sequence[WindowRow]:
    try:
        return run.windows(record.trial)
    except FileNotFoundError:
        return ()


def _chosen(trials: Iterable[Judged]) -> Iterator[Judged]:
    """The first usable attempt of each trial: later ones are no second chance for its result.

    Where there is none, the first of which a part is sound.
    """
    trials, seen = tuple(trials), set()
    for judged in (*(t for t in trials if t.usable), *(t for t in trials if t.blamed)):
        if judged.record.trial.index not in seen:
            seen.add(judged.record.trial.index)
            yield judged


def _cells(
    about: About, experiment: Experiment, trials: Sequence[Judged], windows: Windows
) -> Iterator[Cell]:
    names = factorial.names(about, experiment)
    chosen = [blame.sound(each, windows[each.record.trial], names) for each in _chosen(trials)]
    chosen.sort(key=lambda each: each[0].trial.index)

    def of(workload: str, arm: Arm, kind: str, view: View) -> tuple[Trial, ...]:
        wanted = (workload, experiment.trial_arm(arm.name), kind)
        mine = [
            (r, rows)
            for r, rows in chosen
            if (r.trial.workload, r.trial.arm, r.trial.kind) == wanted
        ]
        if not view:
            return tuple(mine)
        return tuple((view.record(r), rows) for r, rows in mine if view.has(r))

    for workload in experiment.workloads:
        for arm in experiment.arms:
            view = factorial.view(about, experiment, arm)
            switched = of(workload, arm, "switched", view)
            metered = of(workload, arm, "metered", view) if arm.collectors else ()
            yield Cell(
                workload, arm, switched, metered, least(experiment), about.entry_ns, view,
                of(workload, arm, "saturated", view),
            )  # fmt: skip


def _upkeeps(found: Sequence[Cell]) -> Iterator[Upkeep]:
    """What the stack costs beside each cell, and beyond idling, which baselines show."""
    idle = {cell.workload: cell.records() for cell in found if cell.arm.name == BASELINE}
    for cell in found:
        yield from upkeep.upkeeps(cell, idle.get(cell.workload, ()))


def _is_idle(cell: Cell) -> bool:
    """Whether the load made no events for the collectors, nor for those that they are against."""
    roles = (CANDIDATE, REFERENCE) if cell.arm.against else (CANDIDATE,)
    return all(events.is_idle(cell.metering(role)) for role in roles)


def _programs(cell: Cell) -> Iterator[ProgramCost]:
    roles = (CANDIDATE, REFERENCE) if cell.arm.against else ("",)
    for role in roles:
        for trial in cell.metering(role or CANDIDATE):
            yield from bill.programs(trial, cell.arm.name, cell.entry, role)
