"""Several load drivers that are one load: what is shared out, and what is put together again."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load import merging, record
from harness.load.record import Record
from harness.load.schedule import Schedule, Share, scheduled
from harness.model import Arrivals
from harness.node.load_driver import Capacity, LoadSummary
from harness.node.load_workers import joint_capacity, joint_summary, own
from harness.wire import failures

KINDS: tuple[Arrivals, ...] = ("periodic", "poisson")
WORKERS = st.integers(1, 9)


def due(schedule: Schedule, until_ns: int) -> list[int]:
    return schedule.take(until_ns)


@pytest.mark.parametrize("arrivals", KINDS)
@given(st.floats(1, 20_000), WORKERS, st.integers(0, 3))
def test_the_arrivals_of_all_workers_are_those_of_one(
    arrivals: Arrivals, rate: float, workers: int, seed: int
) -> None:
    until_ns = round(200 / rate * 1e9)
    one = due(scheduled(arrivals, rate, None, f"{seed}/1"), until_ns)
    parts = [
        due(scheduled(arrivals, rate, None, f"{seed}/1", Share(i, workers)), until_ns)
        for i in range(workers)
    ]
    assert sorted(itertools.chain(*parts)) == one
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("arrivals", KINDS)
@given(st.integers(0, 50), WORKERS)
def test_a_number_of_requests_is_made_by_all_together(
    arrivals: Arrivals, count: int, workers: int
) -> None:
    schedules = [
        scheduled(arrivals, 1_000.0, count, "7/1", Share(i, workers)) for i in range(workers)
    ]
    assert sum(len(due(each, 10**15)) for each in schedules) == count
    assert all(each.exhausted for each in schedules)


@given(st.integers(0, 100), WORKERS)
def test_shares_are_the_whole_and_nearly_alike(count: int, workers: int) -> None:
    parts = [Share(i, workers).of(count) for i in range(workers)]
    assert sum(parts) == count
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize("arrivals", KINDS)
def test_nothing_is_due_after_the_end_and_the_rates_are_that_of_all(arrivals: Arrivals) -> None:
    schedules = [scheduled(arrivals, 300.0, None, "7/1", Share(i, 3)) for i in range(3)]
    for each in schedules:
        each.until_ns = 10_000_000_000
    made = [due(each, 10**12) for each in schedules]
    assert 9_900_000_000 < max(itertools.chain(*made)) <= 10_000_000_000
    assert all(each.next_ns is None for each in schedules)
    one = scheduled(arrivals, 300.0, None, "7/1")
    one.take(10_000_000_000)
    assert sum(each.drawn_rate for each in schedules) == pytest.approx(one.drawn_rate, rel=0.005)


def filled(path: Path, *rows: tuple[int, str, bool]) -> Path:
    """A record of requests that ended at these moments, 5 ns after they were due."""
    made = Record()
    for end_ns, name, failed in rows:
        made.add(end_ns - 5, end_ns - 3, end_ns, 500 if failed else 200, failed, name, end_ns)
    made.write(path)
    return path


def test_every_request_of_every_worker_is_kept_in_time_order_under_its_own_name(
    tmp_path: Path,
) -> None:
    one = filled(tmp_path / "1", (10, "/", False), (30, "/b", True), (50, "/", False))
    two = filled(tmp_path / "2", (20, "/c", True), (40, "/b", False))
    none = filled(tmp_path / "3")
    merging.merge([one, two, none], tmp_path / "all.npz")
    read = record.read(tmp_path / "all.npz")
    assert read.end_ns.tolist() == [10, 20, 30, 40, 50]
    assert read.latency_ns.tolist() == [5] * 5
    assert (read.end_ns - read.start_ns).tolist() == [3] * 5
    assert [read.route_names[i] for i in read.route] == ["/", "/c", "/b", "/b", "/"]
    assert read.failed.tolist() == [False, True, True, False, False]
    assert read.status.tolist() == [200, 500, 500, 200, 200]
    assert read.size.tolist() == [10, 20, 30, 40, 50]


def test_a_merged_record_has_the_columns_and_types_of_one(tmp_path: Path) -> None:
    alone = filled(tmp_path / "1", (10, "/", False), (20, "/b", True))
    parts = [filled(tmp_path / "2", (10, "/", False)), filled(tmp_path / "3", (20, "/b", True))]
    merging.merge(parts, tmp_path / "all")
    with np.load(alone) as wanted, np.load(tmp_path / "all") as found:
        assert set(found) == set(wanted)
        for name in wanted:
            assert found[name].dtype == wanted[name].dtype, name
            assert found[name].tolist() == wanted[name].tolist(), name


def test_routes_beyond_the_index_share_a_name(tmp_path: Path) -> None:
    parts = [
        filled(tmp_path / str(i), *((n, f"/{i}/{n}", False) for n in range(200))) for i in range(2)
    ]
    merging.merge(parts, tmp_path / "all")
    read = record.read(tmp_path / "all")
    named = Counter(read.route_names[i] for i in read.route)
    assert len(read.end_ns) == 400
    assert (named["/0/0"], named["/1/54"], named["(other)"]) == (1, 1, 145)


def told(**changes: object) -> LoadSummary:
    plain = {
        "requests": 100, "errors": 0, "late_p99_ms": 1.0, "cpu_share": 0.5, "saturated": False,
        "reason": "", "due_per_second": 50.0,
    }  # fmt: skip
    return LoadSummary(**{**plain, **changes})  # type: ignore[arg-type]


def test_a_phase_is_the_sum_of_its_workers_with_the_worst_of_their_lateness() -> None:
    found = joint_summary(
        [
            told(errors=2, failures={"timed out": 2}),
            told(
                requests=99,
                late_p99_ms=7.0,
                cpu_share=0.7,
                errors=1,
                failures={"timed out": 1},
                first_failed="GET /slow",
            ),
        ],
        [4, 5],
    )
    assert (found.requests, found.errors, found.late_p99_ms) == (199, 3, 7.0)
    assert (found.failures, found.due_per_second) == ({"timed out": 3}, 100.0)
    assert found.first_failed == "GET /slow"
    assert (found.cpu_share, found.saturated, found.reason) == (0.7, False, "")
    assert [each["requests"] for each in found.workers] == [100, 99]


def test_a_worker_that_fell_behind_spoils_the_phase_and_is_named() -> None:
    found = joint_summary([told(), told(saturated=True, reason="the load driver was late")], [4, 5])
    assert found.saturated
    assert found.reason == "load worker 2 of 2: the load driver was late"


def test_a_limit_of_a_worker_is_told_before_a_service_that_is_too_slow() -> None:
    slow = told(saturated=True, reason=f"only 3 of 9 could be sent: all 8 {failures.WAITING}")
    late = told(saturated=True, reason="the load driver was late: 30.0 ms")
    assert "was late" in joint_summary([slow, late], [4, 5]).reason
    assert failures.WAITING in joint_summary([slow, told()], [4, 5]).reason


def test_workers_on_fewer_cpus_are_full_when_these_are() -> None:
    """None of them used much of a CPU, because there was none."""
    parts = [told(cpu_share=0.47), told(cpu_share=0.47)]
    alone, apart = joint_summary(parts, [4]), joint_summary(parts, [4, 5])
    assert alone.cpu_share == pytest.approx(0.94)
    assert alone.reason == "the 2 load workers used 94% of CPU 4"
    assert (apart.cpu_share, apart.saturated) == (0.47, False)


def test_a_capacity_is_what_all_reached() -> None:
    parts = [
        Capacity(300.0, 0.9, redirects=1.0),
        Capacity(50.0, 0.2, refused=50.0, failures={"429": 9}, redirects=0.0),
    ]
    found = joint_capacity(parts, [4, 5])
    assert (found.rate, found.refused, found.failures) == (350.0, 50.0, {"429": 9})
    assert found.cpu_share == 0.9
    assert found.redirects == pytest.approx(0.75)


def test_each_has_its_own_files_and_one_alone_those_of_ever() -> None:
    names = [own(Path("/x/go-b0-load.log"), Share(i, 3)).name for i in range(3)]
    assert names == ["go-b0-load.log", "go-b0-load-2.log", "go-b0-load-3.log"]
