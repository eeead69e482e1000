"""report.json, the run's estimates for machines: docs/report-schema.md; `build` writes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.analysis import STATISTICS
from harness.analysis.quality import Quality
from harness.analysis.summary import Summary
from harness.results.documents import finite

SCHEMA_VERSION = 1
ABOUT = (
    "started", "ended", "complete", "command", "facts", "placement", "calibration", "claims",
    "idle_poll", "instrument", "warmups", "ended_early", "components",
    "load_node",
)  # fmt: skip


def document(summary: Summary) -> dict[str, Any]:
    """report.json as a dictionary; what is not known is None."""
    about = summary.about
    return {
        "schema_version": SCHEMA_VERSION,
        "statistics": STATISTICS,
        "run": summary.name,
        "version": about.version,
        "experiment": summary.experiment.name,
        "stack": summary.experiment.stack,
        "seed": summary.experiment.seed,
        **{key: getattr(about, key) for key in ABOUT},
        "window_seconds": summary.experiment.window_seconds,
        "guard_seconds": summary.experiment.guard_seconds,
        "arms": [asdict(arm) for arm in summary.experiment.arms],
        "harms": [finite(asdict(harm)) for harm in summary.harms],
        "rows": [finite(asdict(row)) for row in summary.rows],
        "blocks": [finite(asdict(row)) for row in summary.blocks],
        "programs": [finite(asdict(program)) for program in summary.programs],
        "quality": [finite(_judged(one)) for one in summary.qualities],
        "upkeep": [finite(asdict(one)) for one in summary.upkeeps],
        **_saturation(summary),
        "trials": [
            {
                "trial": judged.record.trial.name,
                "workload": judged.record.trial.workload,
                "arm": judged.record.trial.arm,
                "block": judged.record.trial.block,
                "kind": judged.record.trial.kind,
                "attempt": judged.record.trial.attempt,
                "status": judged.status,
                "reason": judged.reason,
            }
            for judged in summary.trials
        ],
        "without_events": [
            {"workload": workload, "arm": arm} for workload, arm in sorted(summary.idle)
        ],
        "skipped_arms": about.skipped_arms,
        "warnings": list(summary.warnings),
    }


def _saturation(summary: Summary) -> dict[str, Any]:
    """Whose limit a closed loop met, in runs that had one."""
    found = [finite(asdict(each)) for each in summary.saturations]
    return {"saturation": found} if found else {}


def _judged(one: Quality) -> dict[str, Any]:
    """With what is wanted: whether it is met, None if that is not known."""
    return {**asdict(one), "covered": one.covered, "quick": one.quick, "at_goal": one.at_goal}
