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
    latency_rows,
    metrics,
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
from harness.plan.experiment import Experiment, plan
from harness.results.about import About
from harness.results.check import check
from harness.results.run import Run, TrialRecord

METERED = (
    "bpf_us", "entry_us", "bill_us", "bill_percent", "bpf_difference_us",
    "idle_mcpu", "agent_driven_us", "runs_per_request", "events_per_request", "spans_per_request",
    "bpf_event_us", "bill_event_us",
    "per_second_mcpu", "per_request_us", "tenth_rate_us", "line_residual_mcpu",
)  # fmt: skip

CAPACITY = ("capacity_per_s", "capacity_percent")
COUNTED = ("instructions_", "cycles_", "cache_misses_")
SO_FAR = ("bill_us", "bill_percent")
PARTLY = "Only windows without the collectors to blame are sound, and it is told of all together."

OF_CLIENT = ("client_cpu_us", "context_cpu_us", "residual_us", "interaction_us")


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
        return _missing(self, workload, arm, metric)


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
    return Summary(
        run.path.name, about, experiment, tuple(rows), tuple(blocks), trials, tuple(programs),
        {(r.workload, r.arm): r.curve for r in routes if not r.suffix},
        (*(harm.sentence for harm in harmed), *check(run), *told),
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


def entry_ns(about: About) -> Mapping[str, Mapping[str, Any]]:
    """Calibrated cost of entering a program by type of hook; empty without a certificate."""
    found = about.instrument.get("entry_ns") or {}
    return {hook: cost for hook, cost in found.items() if isinstance(cost, Mapping)}


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


def _sound(
    judged: Judged, rows: tuple[WindowRow, ...], names: Sequence[str]
) -> tuple[TrialRecord, tuple[WindowRow, ...]]:
    """A chosen trial with its windows, as far as no collector made its requests fail."""
    if judged.usable:
        return judged.record, rows
    record, kept = blame.without(judged.record, rows, names, judged.blamed)
    return record, tuple(kept)


def _cells(
    about: About, experiment: Experiment, trials: Sequence[Judged], windows: Windows
) -> Iterator[Cell]:
    names = factorial.names(about, experiment)
    chosen = [_sound(each, windows[each.record.trial], names) for each in _chosen(trials)]
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
                workload, arm, switched, metered, least(experiment), entry_ns(about), view,
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


def _missing(summary: Summary, workload: str, arm: str, metric: str) -> str:
    for skipped in summary.about.skipped_arms:
        if skipped.get("arm") == arm:
            return f"The arm was skipped: {skipped.get('reason', 'no reason was given')}"
    kind = "metered" if metric in METERED else "saturated" if metric in CAPACITY else "switched"
    wanted = (workload, summary.experiment.trial_arm(arm), kind)
    if not any((t.workload, t.arm, t.kind) == wanted for t in plan(summary.experiment)):
        return "The plan has no trial that measures it."
    trials = [
        judged for judged in summary.trials
        if (judged.record.trial.workload, judged.record.trial.arm, judged.record.trial.kind)
        == wanted
    ]  # fmt: skip
    if not trials:
        return "The run ended before a trial that measures it."
    usable = [judged for judged in trials if judged.usable or judged.blamed]
    if not usable:
        return f"No usable trial ({trials[0].status}): {trials[0].reason}"
    view = factorial.view(summary.about, summary.experiment, summary.experiment.arm(arm))
    names = factorial.names(summary.about, summary.experiment)
    sound = [_sound(judged, (), names)[0] for judged in usable]
    if not any(view.has(record) for record in sound):
        left = sound[0].extra[factorial.LEFT_OUT]
        return f"It was left out: {next(left[name] for name in view.collectors if name in left)}"
    if not any(judged.usable for judged in usable):
        return f"{PARTLY} {' '.join(usable[0].blamed.values())}"
    return _unrecorded(summary, workload, arm, metric)


def _unrecorded(summary: Summary, workload: str, arm: str, metric: str) -> str:
    """Why usable trials do not tell it."""
    if metric in CAPACITY:
        mine = (s for s in summary.saturations if (s.workload, s.arm) == (workload, arm))
        return next((s.limit for s in mine if s.limit), "Too few windows were counted.")
    if metric.startswith("latency"):
        routes = (r for r in summary.routes if (r.workload, r.arm) == (workload, arm))
        told = (route.missing[metric] for route in routes if metric in route.missing)
        return next(told, "No request of this route was due in a window.")
    if metric.startswith("coverage_percent") and (silent := _signalless(summary, arm)):
        return f"{' and '.join(silent)} names no signal that could be counted."
    if metric.startswith("data_latency") and summary.experiment.stack == "full":
        return "Too few records were found while the backends were watched."
    if metric == "entry_us" and summary.row(workload, arm, "bpf_us"):
        if not entry_ns(summary.about):
            return "No certificate of this machine: `harness calibrate` measures what entry costs."
        return (
            "The cost of entry is not calibrated for a hook that ran, or hooks were not recorded."
        )
    if metric == "sink_us" and summary.experiment.arm(arm).method == FACTORIAL:
        return "The receiver took the telemetry of all collectors: no share of its CPU is one's."
    if summary.about.load_node and metric in OF_CLIENT:
        return "The load came from another machine, whose CPU is in no figure."
    if metric == "interaction_us" and len(summary.experiment.arm(arm).collectors) > 1:
        return "Not each of its collectors has an arm of its own, compared by the same method."
    if metric.startswith((growth.SLOPE, growth.WATCHED)):
        return (
            f"The collectors stayed on for {summary.experiment.steady_seconds:g} s: a slope of "
            f"their memory takes {growth.least_minutes():.0f} minutes (`harness evaluate hour`)."
        )
    if metric.startswith(COUNTED):
        return "The processor's counters were not read: `harness doctor` says what the machine has."
    if metric.endswith("_event_us") and summary.row(workload, arm, "runs_per_request"):
        if len(summary.experiment.arm(arm).collectors) > 1:
            return "Events of several collectors are of different kinds."
        return "The load made no events for its programs, or it does not count them."
    if metric.startswith("bill") and summary.row(workload, arm, "bpf_us"):
        return _missing(summary, workload, arm, "agent_us")
    if metric.startswith(("unexplained", "residual")) and summary.experiment.arm(arm).against:
        return "The arm compares two sets: its differences are not one set's."
    if metric.startswith("unexplained") and summary.row(workload, arm, "host_cpu_us"):
        if summary.row(workload, arm, "bpf_us") is None:
            return _missing(summary, workload, arm, "bpf_us")
        return "The host's extra CPU cannot be told from zero: there is no share of it."
    return "The trials did not record it."


def _signalless(summary: Summary, arm: str) -> list[str]:
    """The collectors of an arm by their names, if it is known that none tells what it sees."""
    specs = summary.experiment.arm(arm).collectors
    known = [summary.about.collectors.get(spec, {}) for spec in specs]
    names = [str(each["name"]) for each in known if "name" in each and not each.get("signal")]
    return names if len(names) == len(specs) else []
