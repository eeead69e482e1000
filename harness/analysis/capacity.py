"""What a service answers while a closed loop keeps it full, on - off; `summary` calls it.

Of saturated trials: a window's value is how many requests a second were answered well in it. The
estimate, its coins and its interval are those of CPU per request (`effects`, `cpu.estimated`).
A closed loop finds the limit of whatever is full first. Where that is not the service, there is no
figure, but a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis import cpu, effects, hierarchy, metrics, switched, value
from harness.analysis.cell import Cell
from harness.analysis.cpu import Difference
from harness.analysis.effects import Windows
from harness.analysis.metrics import CLIENT
from harness.analysis.validity import UNFILLED
from harness.model import Comparison, WindowRow
from harness.plan import saturation as plan
from harness.plan.experiment import Experiment
from harness.results.run import TrialRecord

PERCENT, PER_S = "capacity_percent", "capacity_per_s"
DRIVER_FULL = 0.85  # of a CPU for each of its threads, of which it has one; as at a rate
SERVICE_FULL = 0.85  # of all CPUs that it may use, what others and the hypervisor took added
SEEN = 0.05  # of the time: what others take below that is not worth a word
FULL = (
    "The load driver was full, not the service: it used {} at {} requests a second. Take a dearer "
    "request{}."
)


@dataclass(frozen=True)
class Saturation:
    """How full service and load driver were in an arm's saturated trials, and whose limit it was.

    `service_share`: CPU of the service over that of all `cpus` it may use, in the state (on, off,
    nothing on) in which that is least; `driver_share`: of the load driver's one CPU, in that in
    which it is most; with several load workers of all their CPUs, or of that of the busiest.
    `per_s`: requests answered well a second, on and off; `failed_share` of the requests were not.
    `service_on` and `load_on` are CPU numbers, as they are known. `limit`: why there is no figure,
    as a sentence; `doubt`: what is to be known of one.
    """

    workload: str
    arm: str
    connections: int
    cpus: int
    service_share: float
    driver_share: float
    per_s: float
    failed_share: float
    service_on: tuple[int, ...]
    load_on: tuple[int, ...]
    trials: int
    limit: str
    doubt: str


def saturation(cell: Cell, experiment: Experiment) -> Saturation | None:
    """Of the trials of a cell; None if it has none."""
    measured = [trial for trial in cell.saturated if trial[1]]
    records = [record for record, _ in measured or cell.saturated]
    rows = [row for _, found in measured for row in cell.states(found)]
    if not rows:
        return _unfilled(cell, records)
    told = Counted.of(records, _states(cell, rows))
    per_s = sum(_meter(row, "requests") for row in rows) / sum(_seconds(row) for row in rows)
    failed, made = (_sum(records, f"saturated_{name}") for name in ("errors", "requests"))
    where: Mapping[str, Sequence[int]] = records[-1].extra.get("saturated_on", {})
    return Saturation(
        cell.workload, cell.arm.name, told.connections, told.cpus, told.service, told.driver,
        per_s, failed / made if made else 0.0, tuple(where.get("service", ())),
        tuple(where.get("load", ())), len(records), _limit(cell.workload, told, per_s),
        " ".join(_doubts(told, per_s, plan.guard_seconds(experiment))),
    )  # fmt: skip


def _unfilled(cell: Cell, records: Sequence[TrialRecord]) -> Saturation | None:
    """Of trials that were given up because the load driver was full before the service."""
    found = [record.extra[UNFILLED] for record in records if UNFILLED in record.extra]
    if not found:
        return None
    share, per_s = (
        math.fsum(each[key] for each in found) / len(found) for key in ("driver_cpu_share", "per_s")
    )
    nan, limit = math.nan, FULL.format(f"{share:.0%} of its CPU", f"{per_s:,.0f}", "")
    return Saturation(
        cell.workload, cell.arm.name, 0, 0, nan, share, per_s, nan, (), (), len(found), limit, ""
    )


def rows(
    cells: Sequence[Cell], found: Sequence[Saturation], experiment: Experiment
) -> Iterator[Comparison]:
    """`capacity_percent` and `capacity_per_s` of the arms whose service was full."""
    full = {(each.workload, each.arm) for each in found if not each.limit}
    known = [
        _Known.of(c, plan.least(experiment)) for c in cells if (c.workload, c.arm.name) in full
    ]
    differences = [each.difference() for each in known]
    levels = {(each.cell.workload, each.cell.arm.name): each.level for each in known}
    for row in cpu.estimated([each for each in differences if each is not None]):
        yield row
        yield _per_s(row, levels[row.workload, row.arm])


def _per_s(row: Comparison, level: float) -> Comparison:
    """The same in requests a second of what is answered with the collectors off."""
    by = level / 100
    return replace(
        row, metric=PER_S, unit=metrics.metric(PER_S).unit, level=level, mde=row.mde * by,
        estimate=row.estimate * by, low=row.low * by, high=row.high * by, mean=row.mean * by,
    )  # fmt: skip


@dataclass(frozen=True)
class _Known:
    """Windows in percent of what each block answers with the collectors off, and the mean of that.

    A machine that is faster in one block than in another loses more requests to the same collector:
    in percent of their own level, blocks can be put together.
    """

    cell: Cell
    windows: Windows
    level: float

    @classmethod
    def of(cls, cell: Cell, least_seconds: float) -> _Known:
        parts, levels = [], []
        for record, found in cell.saturated:
            part = _windows(found, least_seconds, record.trial.block)
            level = effects.fit(part, [cell.contrast])[0].level
            if level > 0:
                parts.append(replace(part, value=100 * part.value / level))
                levels.append(level)
        windows = switched.join(parts or [_windows((), least_seconds, 0)])
        return cls(cell, windows, float(np.mean(levels)) if levels else math.nan)

    def difference(self) -> Difference | None:
        if not len(self.windows):
            return None
        (effect,) = effects.fit(self.windows, [self.cell.contrast])
        within, mean, down = hierarchy.of(effect), effect.mean, effect.down
        return Difference(self.cell, PERCENT, 100.0, cpu.WINDOWS, within, mean, down)


@dataclass(frozen=True)
class Counted:
    """What saturated trials were made with, and the shares of CPU that decide.

    `starved` and `driver_starved`: of the time, in which other programs kept them from running;
    `stolen`: of the machine, by the hypervisor.
    """

    connections: int
    cpus: int
    driver_cpus: int
    service: float
    driver: float
    starved: float
    driver_starved: float
    stolen: float

    @classmethod
    def of(cls, records: Sequence[TrialRecord], states: Sequence[Sequence[WindowRow]]) -> Counted:
        """Of these trials and their windows by state, at least one of each."""
        cpus = max(1, round(_mean(records, "saturated_cpus")))
        # load from another node has no cgroup here, but tells its own share
        driver_cpus = max(1, round(_mean(records, "saturated_driver_cpus")))
        driver = [share / driver_cpus for part in states if (share := _share(part, CLIENT))]
        if driver_cpus > 1:  # one of several workers may be full by itself
            driver.append(_mean(records, "driver_cpu_share"))
        return cls(
            round(_mean(records, "saturated_connections")),
            cpus,
            driver_cpus,
            min(_share(part, "cpu.workload") for part in states) / cpus,
            max(driver, default=_mean(records, "driver_cpu_share")),
            _mean(records, "service_starved_share"),
            _mean(records, "driver_starved_share"),
            _mean(records, "steal_share"),
        )


def _states(cell: Cell, rows: Sequence[WindowRow]) -> list[Sequence[WindowRow]]:
    """Windows with the arm's collectors on, with them off, and with none on at all.

    Where arms share a trial, another's collector may be what fills the service in half of the
    first two.
    """
    calm = [row for _, found in cell.saturated for row in found if not row.window.on]
    split = [[row for row in rows if row.window.on == on] for on in (False, True)]
    return [part for part in (*split, calm) if part]


def _limit(workload: str, told: Counted, per_s: float) -> str:
    """Why what was reached is not the service's capacity; empty if it is."""
    cpus = f"{told.cpus} CPUs" if told.cpus > 1 else "one CPU"
    service = f"the service {told.service:.0%} of its {cpus}"
    driver = "CPU" if told.driver_cpus == 1 else f"{told.driver_cpus} CPUs"
    fewer = ", or give the service fewer CPUs (service_cpus)" if told.cpus > 1 else ""
    if not per_s:
        return "The full service answered no request well."
    if told.driver + told.driver_starved > DRIVER_FULL:
        used = f"{told.driver:.0%} of its {driver}{_others(told.driver_starved)}, {service}"
        return FULL.format(used, f"{per_s:,.0f}", fewer)
    if told.service + told.starved + told.stolen < SERVICE_FULL:
        return (
            f"Neither was full: the load driver used {told.driver:.0%} of its {driver}, {service}, "
            f"at {per_s:,.0f} requests a second. {told.connections} connections, or a lock of the "
            f"service's own, were probably the limit. "
            f"Set loads.{workload}.connections higher{fewer}."
        )
    return ""


def _others(starved: float) -> str:
    return f" and waited for it in {starved:.0%} of the time" if starved > SEEN else ""


def _doubts(told: Counted, per_s: float, guard: float) -> Iterator[str]:
    """What is under way at a switch is finished after it: within the guard time, if that is long
    enough. How long it is under way in the mean is Little's law (1961, Operations Research 9)."""
    if told.starved > SEEN:
        yield (
            f"Others kept the service from its CPU in {told.starved:.0%} of the time: its capacity "
            "is that of what was left to it."
        )
    lasts = told.connections / per_s if per_s else 0.0
    if lasts > guard:
        yield (
            f"With {told.connections} connections a request is under way for {1e3 * lasts:.0f} ms "
            f"in the mean, and only {1e3 * guard:.0f} ms after each switch are left out: the "
            "difference is shown too small. Take fewer connections or a longer guard_seconds."
        )


def _windows(found: Sequence[WindowRow], least_seconds: float, block: int) -> Windows:
    """Requests a second of each window that lasted long enough; a window without any counts."""
    good = [
        row
        for row in found
        if "requests" in row.meters and _seconds(row) >= max(least_seconds, 1e-9)
    ]
    seconds = np.array([_seconds(row) for row in good], dtype=float)
    requests = np.array([row.meters["requests"] for row in good], dtype=float)
    states = np.array([switched.states_of(row.window) for row in good], dtype=bool)
    return Windows(
        requests / seconds,
        seconds,
        states.reshape(len(good), -1) if good else np.empty((0, 1), dtype=bool),
        np.array([row.window.quadruple for row in good], dtype=np.int64),
        np.full(len(good), block, dtype=np.int64),
        np.array([row.window.start_ns / 1e9 for row in good], dtype=float),
    )


def _share(rows: Sequence[WindowRow], meter: str) -> float:
    """Seconds of a meter over those that passed."""
    return sum(_meter(row, meter) for row in rows) / sum(_seconds(row) for row in rows)


def _meter(row: WindowRow, name: str) -> float:
    return row.meters.get(name, 0.0)


def _seconds(row: WindowRow) -> float:
    return (row.window.end_ns - row.window.start_ns) / 1e9


def _sum(records: Sequence[TrialRecord], metric: str) -> float:
    return math.fsum(value.total(record, metric) or 0.0 for record in records)


def _mean(records: Sequence[TrialRecord], metric: str) -> float:
    return _sum(records, metric) / len(records)
