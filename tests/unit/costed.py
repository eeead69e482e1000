"""Made-up runs of known cost, and what their rows should say; for tests of the bill."""

from __future__ import annotations

from typing import Any

from harness.analysis.summary import Summary
from harness.model import Arm, Comparison, WindowRow
from harness.plan import experiment as experiments
from tests.unit import synthetic
from tests.unit.synthetic import Truth

COSTS = {"http": 6.0, "flows": 2.0, "profile": 0.0}
LOUD = Truth(COSTS, noise=0.01, outliers=0.0)


def experiment(*arms: Arm, **changes: Any) -> experiments.Experiment:
    keys: dict[str, Any] = {"workloads": ("go",), "switched_seconds": 3.0, **changes}
    return synthetic.experiment(arms=(Arm("baseline"), *arms), **keys)


def row(summary: Summary, arm: str, metric: str) -> Comparison:
    found = summary.row("go", arm, metric)
    assert found is not None, summary.missing("go", arm, metric)
    return found


def changeable(window: WindowRow) -> dict[str, float]:
    """Its meters."""
    assert isinstance(window.meters, dict)
    return window.meters


def bpf_truth(*collectors: str) -> float:
    return sum(n * ns for c in collectors for _, n, ns in synthetic.PROGRAMS[c]) / 1e3
