import math

import numpy as np
import pytest

from harness.load import latency


def test_percentiles_are_within_three_digits() -> None:
    values = np.sort(np.random.default_rng(1).lognormal(12.0, 1.0, 20_000).astype(np.int64))
    found = latency.percentiles(values)
    for name, percent in latency.PERCENTILES.items():
        rank = round(percent / 100 * len(values))  # definitions differ by one rank
        low, high = values[rank - 2] / 1e6, values[rank] / 1e6
        assert low * 0.999 <= found[name] <= high * 1.001


def test_a_stored_histogram_says_the_same() -> None:
    counted = latency.histogram(np.arange(1_000, 9_000_000, 1_777))
    assert latency.percentiles(latency.decode(latency.encode(counted))) == latency.percentiles(
        counted
    )


def test_what_lies_outside_counts_as_the_nearest() -> None:
    assert latency.percentiles(np.array([1]))["p50"] == pytest.approx(0.001, rel=1e-3)
    assert latency.percentiles(np.array([10**12]))["p50"] == pytest.approx(60_000, rel=1e-3)


def test_nothing_has_no_percentiles() -> None:
    found = latency.percentiles(np.array([], dtype=np.int64))
    assert all(math.isnan(value) for value in found.values())
