"""What only several arms together tell: noise, Holm's correction, interaction; for `summary`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.analysis import bill, compare, metrics, multiple
from harness.analysis.compare import Estimate
from harness.model import FACTORIAL, Arm, Comparison
from harness.plan.experiment import Experiment

TOGETHER = "context_cpu_us less those of {}; intervals in quadrature"
LATENCY = "latency_"  # how its metrics begin

Key = tuple[str, str, str]
Family = tuple[str, str]
"""What is asked, and of which service; of no one where a sentence chooses among all."""


def completed(experiment: Experiment, rows: Sequence[Comparison]) -> list[Comparison]:
    """The rows with their A/A noise and corrected probabilities, and those of interaction."""
    every = [*rows, *interactions(experiment, rows)]
    return corrected(experiment, [_with_noise(experiment, every, row) for row in every])


def null_arm(experiment: Experiment, arm: str) -> Arm | None:
    """The arm without collectors that is compared in the same way; None if there is none."""
    method = experiment.arm(arm).method
    return next((a for a in experiment.arms if not a.collectors and a.method == method), None)


def _with_noise(experiment: Experiment, rows: Sequence[Comparison], row: Comparison) -> Comparison:
    null = null_arm(experiment, row.arm)
    if null is None or not metrics.metric(row.metric).difference:
        return row
    found = _find(rows, row.workload, null.name, row.metric)
    return row if found is None else replace(row, noise=(found.high - found.low) / 2)


def corrected(experiment: Experiment, rows: Sequence[Comparison]) -> list[Comparison]:
    """Fill in `p_holm` of every row with a p, and the effect that is seen where it has to hold.

    A family is one question, and holds what a reader chooses among when it is answered. Of a metric
    of CPU: the arms with collectors of all services, since the report's first sentence chooses
    among them all. Of latency: all percentiles and arms of a service's main route, and another with
    those of its other routes.
    """
    families: dict[Family, dict[Key, float]] = defaultdict(dict)
    for row in rows:
        if not math.isnan(row.p) and experiment.arm(row.arm).collectors:
            families[_family(row)][_key(row)] = row.p
    held = {name: multiple.holm(ps) for name, ps in families.items()}
    return [_held(row, held[_family(row)]) if _family(row) in held else row for row in rows]


def together(rows: Sequence[Comparison]) -> dict[Key, float]:
    """The p of rows of all families, corrected as one, by workload, arm and metric.

    For a sentence that chooses among all of them.
    """
    return multiple.holm({_key(row): row.p for row in rows})


def _family(row: Comparison) -> Family:
    if not row.metric.startswith(LATENCY):
        return row.metric, ""
    return ("latency of other routes" if "[" in row.metric else "latency"), row.workload


def _key(row: Comparison) -> Key:
    return row.workload, row.arm, row.metric


def _held(row: Comparison, family: Mapping[Key, float]) -> Comparison:
    """An A/A arm is not in the family; what would be seen beside it is held to the same level."""
    stricter = compare.z_detect(len(family)) / compare.Z_DETECT
    return replace(row, p_holm=family.get(_key(row), math.nan), mde=row.mde * stricter)


def interactions(experiment: Experiment, rows: Sequence[Comparison]) -> Iterator[Comparison]:
    """For arms whose collectors have each an arm of their own: together less the sum of each.

    Arms whose collectors share their windows have such a row already (`cpu.interactions`).
    """
    metric = "context_cpu_us"
    for workload in experiment.workloads:
        for arm in experiment.arms:
            together = _find(rows, workload, arm.name, metric)
            alone = [_find(rows, workload, name, metric) for name in singles(experiment, arm)]
            each = [row for row in alone if row is not None]
            has_row = _find(rows, workload, arm.name, "interaction_us") is not None
            if has_row or together is None or not each or len(each) < len(alone):
                continue
            value = bill.combined(
                [(1.0, Estimate.of(together)), *((-1.0, Estimate.of(row)) for row in each)]
            )
            names = ", ".join(row.arm for row in each)
            yield Comparison(
                workload, arm.name, "interaction_us", together.unit, value.estimate, value.low,
                value.high, value.n, value.mde, together.level, TOGETHER.format(names),
            )  # fmt: skip


def singles(experiment: Experiment, arm: Arm) -> list[str]:
    """The arms that have one collector of this arm each; none if one of them has no such arm.

    A factorial arm needs none: `cpu.interactions` asks the windows themselves.
    """
    if len(arm.collectors) < 2 or arm.against or arm.method == FACTORIAL:
        return []
    alone = {
        a.collectors[0]: a.name
        for a in experiment.arms
        if len(a.collectors) == 1 and not a.against and a.method == arm.method
    }
    names = [alone.get(collector, "") for collector in arm.collectors]
    return names if all(names) else []


def _find(rows: Sequence[Comparison], workload: str, arm: str, metric: str) -> Comparison | None:
    wanted = (workload, arm, metric)
    return next((r for r in rows if (r.workload, r.arm, r.metric) == wanted), None)
