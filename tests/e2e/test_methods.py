"""The three methods on real processes: each gives a known cost back, and none where none is."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import compare, hierarchy, pairs, ranks
from harness.analysis.compare import Quadruples
from harness.load import record
from harness.plan.trials import installed_first
from harness.results.check import check
from harness.results.run import Run, TrialRecord
from tests.e2e.evaluating import completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

BURN_US = 200.0  # more than twice what a request costs without it
METHODS = """
workloads = ["go"]
blocks = 2
warmup_seconds = 0.5
warmup_limit_seconds = 3.5
settle_seconds = 0.3
switched_seconds = 3.2
steady_seconds = 0.5
metered_seconds = 0
replacements = 0
calibration_seconds = 0.5
seed = 5
loads = { go = { rate = 400 } }
[[arms]]
name = "baseline"
[[arms]]
name = "switch"
collectors = ["inject:ns=200000"]
[[arms]]
name = "twin"
collectors = ["inject:ns=200000"]
method = "twin"
[[arms]]
name = "block"
collectors = ["inject:ns=200000"]
method = "block"
[[arms]]
name = "equal"
method = "twin"
[[arms]]
name = "idle-block"
method = "block"
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return completed(METHODS, tmp_path_factory.mktemp("methods"))


def _sample(run: Run, arm: str, meters: tuple[str, ...] = ("cpu.workload",)) -> Quadruples:
    method = run.experiment().arm(arm).method
    return compare.join(
        [
            pairs.pairs(run.windows(trial.trial), method, meters, block=trial.trial.block)
            for trial in _trials(run, arm)
        ]
    )


def _trials(run: Run, arm: str) -> list[TrialRecord]:
    return [r for r in run.records() if r.trial.arm == arm]


def _values(run: Run, arm: str) -> dict[str, list[float]]:
    found = defaultdict(list)
    for trial in _trials(run, arm):
        for value in trial.values:
            found[value.metric].append(value.value)
    return found


def _truth_us(run: Run, arm: str) -> float:
    """What was burnt a request, by the collector's own account."""
    values = _values(run, arm)
    return 1e6 * sum(values["injected_seconds"]) / sum(values["injected_requests"])


@pytest.mark.parametrize("arm", ["switch", "twin", "block"])
def test_every_method_gives_a_known_cost_back(measured: Run, arm: str) -> None:
    truth = _truth_us(measured, arm)
    assert truth == pytest.approx(BURN_US, rel=0.25)
    sample = _sample(measured, arm)
    found = float(np.median(sample.differences))
    assert 0.5 * truth < found < 2.0 * truth, sample.differences
    if arm != "block":  # two pairs have no interval
        interval = ranks.hodges_lehmann(sample.differences)
        assert interval.low > 0
        assert interval.low - 0.5 * truth < truth < interval.high + 0.5 * truth


def test_equal_twins_are_both_driven_and_hardly_differ(measured: Run) -> None:
    sample = _sample(measured, "equal")
    assert len(sample.on) >= 20
    assert (sample.on > 0).all()
    assert (sample.off > 0).all()
    assert sample.on_requests.sum() == pytest.approx(sample.off_requests.sum(), rel=0.1)
    found = hierarchy.combine(sample)
    # not that its interval holds zero: one in twenty does not, by its definition
    assert abs(found.estimate) < 0.25 * BURN_US
    assert found.high - found.low < np.median(sample.off)  # a hundred per cent would tell nothing
    for meter in ("cpu.client", "cpu.host"):
        both = _sample(measured, "equal", (meter,))
        assert (both.on_requests > 0).all()
        assert np.median(both.off) > 0


def test_the_windows_of_twins_follow_each_other_and_count_every_request(measured: Run) -> None:
    for trial in [*_trials(measured, "equal"), *_trials(measured, "twin")]:
        rows = measured.windows(trial.trial)
        assert len(rows) == 4 * measured.experiment().quadruples
        edges = [(row.window.start_ns, row.window.end_ns) for row in rows]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
        log = record.read(measured.path / "trials" / trial.trial.name / "requests.npz")
        for row in rows:  # whom a request went to is what the window says, without exception
            mine = (log.due_ns > row.window.start_ns) & (log.due_ns <= row.window.end_ns)
            assert mine.any()
            assert set(log.twin[mine]) == {not row.window.on}
        counted = sum(row.meters["requests"] + row.meters["requests.twin"] for row in rows)
        within = (log.end_ns > edges[0][0]) & (log.end_ns <= edges[-1][1]) & (log.status > 0)
        assert counted == pytest.approx(within.sum(), abs=8)


def test_the_roles_of_twins_swap(measured: Run) -> None:
    """The process in scope is the one that burns: the block's in even blocks, the twin in odd."""
    for trial in [*_trials(measured, "twin"), *_trials(measured, "equal")]:
        assert trial.extra["scope"] == ("workload", "twin")[trial.trial.block % 2]
        assert trial.extra["warmup"]["seconds"] > 0
    for trial in _trials(measured, "twin"):
        values = {value.metric: value.value for value in trial.values}
        assert values["injected_events"] == pytest.approx(values["injected_requests"], rel=0.1)
        assert values["twin_warmup_seconds"] > 0
    assert {trial.trial.block for trial in _trials(measured, "twin")} == {0, 1}
    assert len(measured.about().warmups) == 2 + 4  # each block's process, and four fresh twins


def test_a_run_holds_together_and_nothing_that_is_not_documented(measured: Run) -> None:
    assert check(measured) == []
    assert strangers(measured) == []


def test_parts_follow_each_other_in_both_orders(measured: Run) -> None:
    orders = set()
    assert len(_sample(measured, "idle-block").on) == 2  # nothing is installed, and it is a pair
    for trial in _trials(measured, "block"):
        rows = measured.windows(trial.trial)
        first = installed_first(measured.experiment().seed, trial.trial)
        assert [row.window.on for row in rows] == [first, not first, first, not first, first]
        assert all(a.window.end_ns < b.window.start_ns for a, b in itertools.pairwise(rows))
        seconds = [row.meters["seconds"] for row in rows]
        assert seconds == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.4], abs=0.2)
        orders.add(first)
    assert orders == {True, False}


def test_the_rest_of_the_trial_is_run_for_each_method(measured: Run) -> None:
    for arm in ("switch", "twin", "block"):
        values = _values(measured, arm)
        for metric in ("steady_requests", "agent_pss_bytes", "workload_pss_bytes", "steal_share"):
            assert len(values[metric]) == 2, (arm, metric)
            assert min(values[metric]) >= 0
        # the agent burns only what it was told to, and only once is an installation noted
        assert len(values["attach_seconds"]) == 2


def test_the_folder_holds_no_scratch_files(measured: Run) -> None:
    names = {path.name for path in Path(measured.path / "trials").glob("*/*")}
    assert "twin-warmup.npz" not in names
