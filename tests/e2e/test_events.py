"""A shipped service under its load: every included collector has something to see of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.analysis import account
from harness.analysis import cell as cells
from harness.analysis.cell import Cell
from harness.model import Comparison
from harness.results.run import Run
from tests.e2e.evaluating import completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

Rows = Mapping[tuple[str, str], Comparison]
MORE = {"profile": "profile:frequency=499"}  # at 19 Hz a few seconds may hold no sample at all
COLLECTORS = ("http", "flows", "profile", "guard", "sham")
EVENTS = """
workloads = ["go"]
blocks = 1
warmup_seconds = 0.5
warmup_limit_seconds = 2.0
switched_seconds = 1.2
steady_seconds = 1.0
metered_seconds = 3.0
idle_seconds = 3.0
replacements = 0
calibration_seconds = 0.5
seed = 5
loads = { go = { rate = 1000 } }
[[arms]]
name = "baseline"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    arms = [
        f'[[arms]]\nname = "{name}"\ncollectors = ["{MORE.get(name, name)}"]\nmethod = "switch"\n'
        for name in COLLECTORS
    ]
    return completed(EVENTS + "".join(arms), tmp_path_factory.mktemp("events"))


@pytest.fixture(scope="module")
def rows(run: Run) -> Rows:
    """By arm and metric, of every trial: how busy the machine was is not asked here."""
    found: dict[tuple[str, str], Comparison] = {}
    for arm in run.experiment().arms:
        trials = {
            kind: tuple(
                (each, tuple(run.windows(each.trial)))
                for each in run.records()
                if (each.trial.arm, each.trial.kind) == (arm.name, kind)
            )
            for kind in ("switched", "metered")
        }
        cell = Cell("go", arm, trials["switched"], trials["metered"])
        told = [*cells.value_rows(cell), *cells.coverage_rows(cell)]
        told += account.bill_rows(cell, told, {})
        found |= {(arm.name, row.metric): row for row in told}
    return found


def test_the_load_runs_the_programs_of_every_collector(rows: Rows) -> None:
    for arm in COLLECTORS:
        least = 0 if arm == "profile" else 0.01  # which the clock runs
        assert rows[arm, "runs_per_request"].estimate > least, arm


def test_each_collector_counts_what_the_load_does(rows: Rows) -> None:
    """Of 1,000 requests 15 close and 20 have an upstream, whose connection has two ends."""
    assert rows["http", "events_per_request"].estimate == pytest.approx(1, abs=0.05)
    opened_and_closed = 2 * (0.015 + 2 * 0.020)
    assert rows["flows", "events_per_request"].estimate == pytest.approx(opened_and_closed, rel=0.2)
    # opened files that fanotify tells are merged while they wait
    executed_and_connected, opened = 0.002 + 0.020, 0.010
    guarded = rows["guard", "events_per_request"].estimate
    assert 0.8 * executed_and_connected < guarded < 1.2 * (executed_and_connected + opened)
    assert rows["profile", "events_per_request"].estimate > 0
    assert rows["sham", "events_per_request"].estimate == 0


def test_an_event_has_a_cost_where_there_were_some(rows: Rows) -> None:
    for arm in ("http", "flows", "guard"):
        each = rows[arm, "bpf_event_us"].estimate
        assert 0 < each < rows[arm, "bill_event_us"].estimate
    assert ("sham", "bill_event_us") not in rows


def test_what_comes_beside_the_probes_changes_no_coverage(rows: Rows) -> None:
    wanted = {"http": "requests", "flows": "connections", "guard": "executions"}
    for arm, signal in wanted.items():
        assert rows[arm, f"coverage_percent[{signal}]"].estimate == 100, arm


def test_nothing_is_told_of_another_port(run: Run) -> None:
    """The upstream speaks no HTTP."""
    assert {v.metric for record in run.records() for v in record.values} >= {"signal_seen"}
    assert not [v for r in run.records() for v in r.values if v.metric == "signal_beside"]


def test_idling_costs_less_than_work(rows: Rows) -> None:
    for arm in COLLECTORS:
        assert 0 < rows[arm, "idle_mcpu"].estimate < 500
    idle_us = 1e3 * rows["http", "idle_mcpu"].estimate / rows["http", "rate_per_s"].estimate
    left = rows["http", "agent_us"].estimate - idle_us
    assert rows["http", "agent_driven_us"].estimate == pytest.approx(left, abs=0.5)


def test_maps_are_larger_on_many_cpus(rows: Rows) -> None:
    for arm in ("http", "flows", "profile", "guard"):
        assert rows[arm, "map_memory_96_mb"].estimate >= rows[arm, "map_memory_mb"].estimate
    assert 28 < rows["http", "map_memory_96_mb"].estimate < 40
    assert rows["profile", "map_memory_96_mb"].estimate > 10


def test_all_that_a_run_holds_is_described(run: Run) -> None:
    assert strangers(run) == []
