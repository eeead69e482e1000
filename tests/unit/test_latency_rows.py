"""What a report says of latency: rows, shares, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import family, noise
from harness.analysis.noise import Noise
from harness.analysis.summary import Summary, summarize
from harness.model import Arm, Comparison
from harness.report import sheets, wording
from tests.unit import synthetic

HTTP = (Arm("baseline"), Arm("http", ("http",)))
SLOW = "[/api/users/<id>]"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """Windows of 20 ms for a service with a route that takes 20 ms."""
    what = synthetic.experiment(
        workloads=("go",), arms=HTTP, switched_seconds=4.0, window_seconds=0.02
    )
    run = synthetic.write(tmp_path_factory.mktemp("short") / "run", what)
    for record in run.records():
        path = run.folder(record.trial) / "requests.npz"
        if path.exists():
            with np.load(path) as found:
                columns = dict(found)
            columns["end_ns"] += np.where(columns["route"] == 1, 20_000_000, 0)
            np.savez(path, **columns)
    return summarize(run)


def test_a_route_that_windows_are_too_short_for_says_so_instead_of_a_figure(
    short: Summary,
) -> None:
    assert short.row("go", "http", "latency_p50_us") is not None
    assert short.row("go", "http", f"latency_p50_us{SLOW}") is None
    told = short.missing("go", "http", f"latency_p50_us{SLOW}")
    assert told.startswith("Windows are too short for it: it is 23")
    assert "metered for 46" in told


def test_such_a_route_is_warned_of_by_its_p90_and_p99(short: Summary) -> None:
    (told,) = [text for text in short.warnings if "long beside windows" in text]
    assert told.startswith("go, /api/users/<id>: requests take 23 ms (p90) and ")
    assert "p50, p90 of their latency cannot be told" in told


def test_such_a_route_has_its_sheet_with_the_reasons(short: Summary) -> None:
    primary, slow = sheets.latencies(short, "go")
    assert "/api/users/<id>" in slow.caption
    assert all(cell.state == "missing" for _, _, cells in slow.rows for cell in cells[:4])
    assert primary.notes[0].startswith("of ")
    assert slow.notes[0] == "not told"


def test_a_row_says_what_share_of_the_requests_it_rests_on(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=HTTP, switched_seconds=4.0)
    found = summarize(synthetic.write(tmp_path / "run", what))
    row = found.row("go", "http", "latency_p50_us")
    assert row is not None
    assert "of 99.0 % of the requests, those due 0.265 ms or more" in row.method
    (kept,) = {route.kept[row.metric] for route in found.routes
               if route.arm == "http" and not route.suffix}  # fmt: skip
    assert kept == pytest.approx(0.99, abs=0.001)


def _row(arm: str, metric: str, p: float, low: float = 1.0) -> Comparison:
    return Comparison("go", arm, metric, "us", 2.0, low, 3.0, 90, 1.0, 50.0, "", p)


def test_latency_of_the_main_route_is_one_family_and_that_of_the_others_another() -> None:
    metrics = [f"latency_{p}_us{route}" for p in ("p50", "p99") for route in ("", SLOW)]
    rows = [
        _row("http", metric, p) for metric, p in zip(metrics, (0.01, 0.02, 0.2, 0.6), strict=True)
    ]
    rows += [_row("baseline", "latency_p50_us", 1e-9), _row("http", "workload_cpu_us", 0.04)]
    found = family.corrected(synthetic.experiment(workloads=("go",), arms=HTTP), rows)
    held = [row.p_holm for row in found]
    assert held[:4] == pytest.approx([0.02, 0.04, 0.2, 0.6])
    assert np.isnan(held[4])
    assert held[5] == pytest.approx(0.04)
    assert [wording.resolved(row) for row in found] == [True, True, False, False, False, True]


def test_latency_is_not_called_resolved_without_correction() -> None:
    alone = _row("http", "latency_p50_us", 1e-9)
    assert wording.apart(alone)
    assert not wording.resolved(alone)
    assert wording.resolved(replace(alone, p_holm=0.01))
    assert not wording.resolved(replace(alone, p_holm=0.01, low=-1.0))


def _noises(errors: Sequence[tuple[float, float]]) -> list[Noise]:
    return [
        Noise(seconds, 0.001, 500, 50.0, error, 1.0, 1.0, 0.0, error) for seconds, error in errors
    ]


def test_a_window_too_short_for_slow_requests_is_not_chosen_for_its_little_noise() -> None:
    found = _noises([(0.02, 0.3), (0.04, 0.4), (0.05, 0.5), (0.1, 0.9)])
    assert noise.choose(found).window_seconds == 0.02
    assert noise.choose(found, 0.0131).window_seconds == 0.04
    assert noise.choose(found, 0.02).window_seconds == 0.05
    assert noise.choose(found, 0.2).window_seconds == 0.1  # none is long enough: the longest


def test_what_windows_are_chosen_for_takes_its_guard_at_least() -> None:
    (found,) = _noises([(0.05, 0.5)])
    assert noise.metered_seconds(found) == pytest.approx(0.044)
    assert noise.metered_seconds(replace(found, guard_seconds=0.01)) == pytest.approx(0.04)
