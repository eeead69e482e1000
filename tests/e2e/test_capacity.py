"""Capacity on a real service: a known cost makes it answer fewer requests when it is full."""

from __future__ import annotations

import pytest

from harness.analysis.summary import Summary, summarize
from harness.report import saturation
from harness.results.check import check
from harness.results.run import Run
from tests.e2e.evaluating import completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

# both sets burn, so that the service is what is full in every window, not the load driver
MORE_NS, LESS_NS = 1_000_000, 400_000
TEXT = f"""
workloads = ["plain"]
blocks = 1
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
settle_seconds = 0.3
switched_seconds = 0.8
steady_seconds = 0.5
metered_seconds = 0
replacements = 0
calibration_seconds = 0.5
saturated_seconds = 4.0
seed = 3
loads = {{ plain = {{ rate = 100, connections = 4 }} }}
[[arms]]
name = "baseline"
[[arms]]
name = "dearer"
collectors = ["inject:ns={MORE_NS}"]
against = ["inject:ns={LESS_NS}"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return completed(TEXT, tmp_path_factory.mktemp("capacity"))


@pytest.fixture(scope="module")
def summary(run: Run) -> Summary:
    return summarize(run)


def test_a_known_cost_takes_its_share_of_the_capacity(summary: Summary) -> None:
    """Others on its CPU leave less of it, to both sets alike."""
    share, each = (summary.row("plain", "dearer", f"capacity_{u}") for u in ("percent", "per_s"))
    assert share is not None, summary.missing("plain", "dearer", "capacity_percent")
    assert each is not None
    truth = 100 * (LESS_NS / MORE_NS - 1)  # and a little less: a request takes CPU of its own
    assert share.estimate < 0.5 * truth
    assert share.high < 0
    assert share.p < 0.05
    assert 0 < each.level < 1e9 / LESS_NS
    full = next(s for s in summary.saturations if s.arm == "dearer")
    assert (full.limit, full.connections, full.failed_share) == ("", 4, 0.0)
    assert len(full.service_on) == full.cpus > 0


def test_the_trial_is_the_last_and_all_of_it_is_documented(run: Run, summary: Summary) -> None:
    kinds = [record.trial.kind for record in run.records()]
    assert kinds == ["switched", "switched", "saturated", "saturated"]
    assert check(run) == []
    assert strangers(run) == []
    assert "capacity: when full it answers" in saturation.sentences(summary)[0]
