"""A pilot on real processes: it decides, and what it gave is what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.summary import summarize
from harness.model import FACTORIAL
from harness.report import conditions
from harness.results.check import check
from tests.e2e.evaluating import ended

pytestmark = pytest.mark.e2e

TINY = """
workloads = ["plain", "go"]
pilot_blocks = 2
metered_blocks = 3
budget_seconds = 90
warmup_seconds = 0.5
warmup_limit_seconds = 2.0
settle_seconds = 0.3
switched_seconds = 3.2
steady_seconds = 0.5
metered_seconds = 0.5
replacements = 0
calibration_seconds = 0.5
seed = 5
loads = { plain = { rate = 200 }, go = { rate = 200 } }
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
[[arms]]
name = "flows"
collectors = ["flows"]
"""


def test_what_the_pilot_gave_is_what_was_measured(tmp_path: Path) -> None:
    run = ended(TINY, tmp_path).run
    kept, decided = run.about().pilot, run.experiment()
    assert kept["workloads"].keys() == {"plain", "go"}
    beside = sum(each["overhead_seconds"] for each in kept["workloads"].values())
    more = [each.blocks > 2 for each in decided.allotted.values()]
    assert all(more) or (not any(more) and kept["left_seconds"] < beside + 2 * 3.2)
    for workload, given in decided.allotted.items():
        measured = [
            r for r in run.records()
            if (r.trial.workload, r.trial.kind, r.status) == (workload, "switched", "ok")
        ]  # fmt: skip
        early = run.about().ended_early.get(workload)  # by the clock, on a busy machine
        assert len(measured) == (early["blocks"] if early else given.blocks)
        for record in measured:
            rows = run.windows(record.trial)
            after = record.trial.block >= 2
            seconds = given.seconds[FACTORIAL] if after else decided.switched_seconds
            assert len(rows) == 8 * (int(seconds / 0.05 + 1e-9) // 8)
            steady = any(v.metric == "steady_requests" for v in record.values)
            assert steady == (record.trial.block < 3)
    assert not list(check(run))
    told = dict(conditions.measuring(summarize(run)))
    assert "by variances alone" in told["pilot"]
