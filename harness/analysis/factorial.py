"""A trial that factorial arms share, as one of them sees it; for `cell` and `summary`.

Every arm's figures come from all windows: the others' collectors are on in half of those with its
own, and in half of those without. docs/method.md, *Factorial trials*, says what that means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.model import FACTORIAL, Arm, Trial, WindowRow
from harness.plan import definitions, design
from harness.plan.experiment import Experiment
from harness.results.about import About
from harness.results.run import TrialRecord

LEFT_OUT = "left_out"  # of a trial's extra: collectors that it went on without, and why
OF_ALL = ("steady_sink_cpu_seconds",)  # metrics of all collectors together, which no share is of


@dataclass(frozen=True)
class View:
    """What of a shared trial is an arm's: the `contrast` of the factors, its collectors' names.

    `whole` says that it has all collectors. The view of an arm that shares no trial is NONE.
    """

    contrast: tuple[float, ...] = (1.0,)
    collectors: frozenset[str] = frozenset()
    whole: bool = False
    shared: bool = False

    def __bool__(self) -> bool:
        return self.shared

    def has(self, record: TrialRecord) -> bool:
        """Whether none of the arm's collectors was left out of the trial."""
        return not self.collectors & record.extra.get(LEFT_OUT, {}).keys()

    def record(self, record: TrialRecord) -> TrialRecord:
        """The trial with the values of the arm's collectors, and those that are nobody's."""
        kept = tuple(
            v
            for v in record.values
            if v.labels.get("collector", "") in self.collectors
            or ("collector" not in v.labels and (self.whole or v.metric not in OF_ALL))
        )
        return replace(record, values=kept)

    def states(self, rows: Sequence[WindowRow]) -> Sequence[WindowRow]:
        """Windows whose `on` is the state of the arm's collectors."""
        return self.windows(rows) if self.shared else rows

    def windows(self, rows: Iterable[WindowRow]) -> tuple[WindowRow, ...]:
        """The windows in which the arm's collectors were all on or all off, and which."""
        found = []
        for row in rows:
            states = {on for on, of in zip(row.window.states, self.contrast, strict=True) if of}
            if len(states) == 1:
                found.append(replace(row, window=replace(row.window, on=states.pop())))
        return tuple(found)

    def alone(self, rows: Sequence[WindowRow]) -> Sequence[WindowRow]:
        """Windows with the arm's collectors on and no other: what happens in them is its own."""
        if not self.shared:
            return rows
        return tuple(row for row in self.windows(rows) if row.window.on and self._is_alone(row))

    def _is_alone(self, row: WindowRow) -> bool:
        others = zip(row.window.states[:-1], self.contrast[:-1], strict=True)  # but the null factor
        return not any(on for on, of in others if not of)

    def slices(self, rows: Iterable[WindowRow]) -> tuple[WindowRow, ...]:
        """Slices of a metered trial with the time and the runs of the arm's own programs."""
        return tuple(replace(row, meters={**row.meters, **self._ran(row.meters)}) for row in rows)

    def _ran(self, meters: Mapping[str, float]) -> dict[str, float]:
        return {
            meter: sum(meters.get(f"{meter}[{name}]", 0.0) for name in sorted(self.collectors))
            for meter in ("bpf.run", "bpf.runs")
            if meter in meters
        }


NONE = View()


def view(about: About, experiment: Experiment, arm: Arm) -> View:
    """How this arm sees the trials that it shares."""
    if arm.method != FACTORIAL:
        return NONE
    factors = design.factors(experiment)
    names = frozenset(_name(about, spec) for spec in arm.collectors)
    columns = design.columns(arm, factors)
    contrast = tuple(float(place in columns) for place in range(len(factors)))
    return View(contrast, names, len(arm.collectors) == len(factors) - 1, shared=True)


def views(about: About, experiment: Experiment, trial: Trial) -> list[tuple[Arm, View]]:
    """The arms whose figures a trial gives, and how each sees it."""
    return [(arm, view(about, experiment, arm)) for arm in experiment.arms_of(trial)]


def names(about: About, experiment: Experiment) -> tuple[str, ...]:
    """What the factors are called: as the run calls its collectors, and the null factor's last."""
    factors = design.factors(experiment)
    return (*(_name(about, spec) for spec in factors[:-1]), *factors[-1:])


def _name(about: About, spec: str) -> str:
    """What the run calls a collector in its values."""
    kept = about.collectors or {}
    if spec in kept:
        return definitions.from_dict(kept[spec]).slug
    return definitions.resolve(spec).slug


def whole(rows: Iterable[WindowRow], meters: Sequence[str], least_seconds: float) -> int:
    """How many windows can be compared."""
    return sum(_is_usable(row, meters, least_seconds) for row in rows)


def _is_usable(row: WindowRow, meters: Sequence[str], least_seconds: float) -> bool:
    return (
        all(meter in row.meters for meter in meters)
        and row.meters.get("requests", 0.0) > 0
        and row.window.end_ns - row.window.start_ns >= 1e9 * least_seconds
    )
