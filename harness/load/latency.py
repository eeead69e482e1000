"""Latency distributions as HDR histograms: three digits from 1 us to 60 s; used by the meters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

LOWEST_NS, HIGHEST_NS, DIGITS = 1_000, 60_000_000_000, 3
PERCENTILES: Mapping[str, float] = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
_NS_PER_MS = 1e6


def histogram(latencies_ns: npt.NDArray[np.int64]) -> HdrHistogram:
    """A histogram of latencies in ns; what lies outside 1 us to 60 s counts as the nearest."""
    counted = HdrHistogram(1, HIGHEST_NS, DIGITS)
    values, counts = np.unique(np.clip(latencies_ns, LOWEST_NS, HIGHEST_NS), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        counted.record_value(value, count)
    return counted


def percentiles(latencies: npt.NDArray[np.int64] | HdrHistogram) -> dict[str, float]:
    """p50, p90, p99 and p99_9 in ms, of latencies in ns or of a histogram; NaN of nothing."""
    counted = latencies if isinstance(latencies, HdrHistogram) else histogram(latencies)
    if not counted.get_total_count():
        return dict.fromkeys(PERCENTILES, float("nan"))
    return {
        name: counted.get_value_at_percentile(percent) / _NS_PER_MS
        for name, percent in PERCENTILES.items()
    }


def encode(counted: HdrHistogram) -> str:
    """As text (HdrHistogram V2, base64), a few kilobytes at most."""
    return str(counted.encode().decode("ascii"))


def decode(text: str) -> HdrHistogram:
    """What `encode` made."""
    return HdrHistogram.decode(text)
