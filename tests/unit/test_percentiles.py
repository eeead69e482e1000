"""Intervals of percentiles against simulated truth; fixed seeds, so each test has one outcome.

docs/adr/0010-statistics.md has the table of coverage of which these tests repeat a part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.analysis import latency, percentiles
from harness.analysis.latency import Sample
from harness.analysis.percentiles import Shift
from tests.unit import loaded
from tests.unit.loaded import Service

STALLING = Service(stalls=2.0, stall_s=0.01)
RARELY = Service(stalls=0.5, stall_s=0.02)
BURSTS = replace(STALLING, bursts=3.0)


def told(sample: Sample, q: float) -> Shift | None:
    part = latency.within(sample, q)
    return None if part.too_long else percentiles.shift(part.sample, q)


def covered(found: list[Shift | None], truth_us: float) -> float:
    """The share of those that are told whose interval has the truth."""
    known = [each.value for each in found if each is not None]
    assert len(known) >= 30
    return float(np.mean([each.low <= truth_us <= each.high for each in known]))


@pytest.mark.parametrize("service", [STALLING, BURSTS], ids=["stalls", "stalls in bursts"])
def test_intervals_of_p99_cover_no_effect_though_stalls_come_in_clusters(service: Service) -> None:
    found = [told(loaded.sample(service, seed), 0.99) for seed in range(60)]
    assert covered(found, 0.0) >= 0.88  # of 60; of 300 about 95 %


def test_intervals_of_p50_cover_an_effect() -> None:
    def paid(taken: loaded.Array, on: np.ndarray) -> loaded.Array:
        return taken + 8e-6 * on

    found = [told(loaded.sample(STALLING, seed, paid, seconds=4.0), 0.5) for seed in range(60)]
    assert covered(found, 8.0) >= 0.88


def test_intervals_of_p99_cover_longer_stalls() -> None:
    """What takes longer than 1 ms takes 2 ms more, so the 99th percentile grows by as much."""

    def paid(taken: loaded.Array, on: np.ndarray) -> loaded.Array:
        return taken + 2e-3 * (on & (taken > 1e-3))

    found = [told(loaded.sample(STALLING, seed, paid, seconds=18.0), 0.99) for seed in range(40)]
    assert covered(found, 2000.0) >= 0.85


def test_p_and_interval_never_contradict_each_other() -> None:
    for seed in range(40):
        for q in (0.5, 0.9, 0.99):
            found = told(loaded.sample(STALLING, seed, seconds=4.0), q)
            if found is not None and np.isfinite(found.value.low):
                excludes = not found.value.low <= 0 <= found.value.high
                assert excludes == (found.p < 0.05) or abs(found.p - 0.05) < 0.005


def test_a_large_effect_has_a_small_p() -> None:
    def paid(taken: loaded.Array, on: np.ndarray) -> loaded.Array:
        return taken + 30e-6 * on

    found = told(loaded.sample(STALLING, 1, paid), 0.5)
    assert found is not None
    assert found.p < 1e-6
    assert found.value.low > 20


def test_a_percentile_of_few_stalls_is_not_told() -> None:
    """Nine seconds with one stall in two: hundreds of slow requests, but of five stalls."""
    sample = loaded.sample(RARELY, 2, blocks=1)
    slow = sample.latency_ns > 5e6
    assert slow.sum() > 100
    assert told(sample, 0.99) is None
    assert told(sample, 0.5) is not None
    assert told(loaded.sample(RARELY, 2, seconds=60.0, blocks=1), 0.99) is not None


def test_a_percentile_of_few_requests_is_not_told() -> None:
    sample = loaded.sample(Service(rate=100.0), 2, blocks=1, seconds=4.0)
    assert told(sample, 0.99) is None
    assert told(sample, 0.5) is not None


def test_fewer_than_six_groups_have_no_interval() -> None:
    found = told(loaded.sample(Service(), 2, blocks=1, seconds=1.0), 0.5)
    assert found is not None
    assert np.isnan([found.value.low, found.value.high]).all()
    assert found.p >= 2 / 2**5


def test_exchanging_all_states_mirrors_the_interval() -> None:
    sample = loaded.sample(STALLING, 4)
    for q in (0.5, 0.99):
        one, other = told(sample, q), told(replace(sample, on=~sample.on), q)
        assert one is not None
        assert other is not None
        assert other.value.estimate == pytest.approx(-one.value.estimate)
        assert (other.value.low, other.value.high) == pytest.approx(
            (-one.value.high, -one.value.low), rel=0.05, abs=0.05
        )
        assert other.p == pytest.approx(one.p)


def test_the_centre_is_the_difference_of_the_quantiles() -> None:
    sample = loaded.sample(Service(), 4, seconds=2.0)
    found = percentiles.shift(sample, 0.9)
    assert found is not None
    on, off = (np.quantile(sample.latency_ns[sample.on == s], 0.9) / 1e3 for s in (True, False))
    assert (found.value.estimate, found.level) == pytest.approx((on - off, off))


def test_requests_that_were_never_answered_are_beyond_every_percentile() -> None:
    sample = loaded.sample(Service(), 3, seconds=4.0)
    lost = sample.on & (np.random.default_rng(1).random(len(sample.on)) < 0.3)
    found = percentiles.shift(
        replace(sample, latency_ns=np.where(lost, latency.NEVER_NS, sample.latency_ns)), 0.5
    )
    assert found is not None
    assert 5 < found.value.low < found.value.estimate < found.value.high < 100
    assert percentiles.shift(replace(sample, latency_ns=0 * lost + latency.NEVER_NS), 0.5) is None
