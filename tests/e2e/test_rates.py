"""A collector metered at no request, at a share of the rate and at all of it, on real processes."""

from __future__ import annotations

import pytest

from harness.analysis import bill, rates, value
from harness.results.run import Run, TrialRecord
from tests.e2e.evaluating import completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

TEXT = """
workloads = ["plain"]
blocks = 1
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
settle_seconds = 0.3
switched_seconds = 0.8
steady_seconds = 0.5
metered_seconds = 0.5
idle_seconds = 1.0
low_rate_fraction = 0.25
replacements = 0
calibration_seconds = 0.5
seed = 3
loads = { plain = { rate = 200 } }
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http:interval=1"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return completed(TEXT, tmp_path_factory.mktemp("rates"))


@pytest.fixture(scope="module")
def metered(run: Run) -> TrialRecord:
    return next(r for r in run.records() if r.trial.kind == "metered")


def test_each_part_has_its_rate_and_lasts_whole_export_intervals(metered: TrialRecord) -> None:
    for part in ("idle", "low_rate", "full_rate"):
        assert (value.total(metered, f"{part}_seconds") or 0.0) >= 1.0
    low, full = (value.total(metered, f"{part}_requests") for part in ("low_rate", "full_rate"))
    assert low is not None
    assert full is not None
    assert 0 < 2 * low < full
    assert [point.rate == 0 for point in rates.points(metered)] == [True, False, False]


def test_programs_run_by_the_request_alone(metered: TrialRecord) -> None:
    """Without one they do not run at all, and so cost nothing by the second."""
    assert value.total(metered, "idle_bpf_seconds") == 0
    low, full = (value.total(metered, f"{part}_bpf_seconds") for part in ("low_rate", "full_rate"))
    assert low is not None
    assert full is not None
    assert 0 < low < full


def test_the_rows_are_those_of_the_line(run: Run, metered: TrialRecord) -> None:
    """Of every trial: how busy the machine was is not asked here."""
    found = rates.line(rates.points(metered))
    assert found is not None
    rows = dict(rates.split([bill.metered(metered, run.windows(metered.trial))]))
    told = {name: each.value.estimate for name, each in rows.items()}
    assert told["per_second_mcpu"] == pytest.approx(value.idle_mcpu(metered))
    assert told["per_request_us"] == found.us
    assert told["line_residual_mcpu"] == found.beside
    assert told["tenth_rate_us"] == pytest.approx(found.us + 1e4 * found.mcpu / found.rate)


def test_all_of_it_is_described(run: Run) -> None:
    assert strangers(run) == []
