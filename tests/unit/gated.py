"""Made-up rows, runs and verdicts; for tests of the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis import budgets, gates
from harness.analysis.gates import Measured
from harness.analysis.verdicts import Verdict
from harness.model import Comparison
from harness.report.gate import Gate

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "reports/published/quick"


def row(
    low: float,
    high: float,
    metric: str = "workload_cpu_percent",
    *,
    arm: str = "http",
    workload: str = "go",
    estimate: float | None = None,
    method: str = "Hodges-Lehmann",
    n: int = 50,
) -> Comparison:
    centre = (low + high) / 2 if estimate is None else estimate
    return Comparison(workload, arm, metric, "%", centre, low, high, n, 1.0, 100.0, method)


def measured(*rows: Comparison, **changes: Any) -> Measured:
    keys: dict[str, Any] = {
        "name": "run", "rows": {(r.workload, r.arm, r.metric): r for r in rows},
        "workloads": ("go",), "arms": ("http",), "missing": lambda *_: "The arm was skipped.",
        "started": "2026-01-01",
    }  # fmt: skip
    return Measured(**{**keys, **changes})


def one(low: float, high: float, metric: str = "workload_cpu_percent", **limits: float) -> Verdict:
    allowed = budgets.from_dict({"budget": [{"metric": metric, **limits}]})
    (verdict,) = gates.judge(measured(row(low, high, metric)), allowed)
    return verdict


def gate(*verdicts: Verdict, **changes: Any) -> Gate:
    return Gate(measured(), verdicts, "budget.toml", **changes)
