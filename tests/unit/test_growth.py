"""Growth of an agent's memory: known slopes come back, wandering is not called growth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.analysis import budgets, gates, growth
from harness.analysis.compare import Array
from harness.analysis.summary import Summary, summarize
from harness.errors import StoreError
from harness.model import Arm
from harness.report import build, stored, terminal
from harness.results.run import MEMORY, Run
from tests.unit import synthetic

ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("flows", ("flows",)))
SHARED = (
    Arm("baseline", method="factorial"), Arm("http", ("http",), method="factorial"),
    Arm("flows", ("flows",), method="factorial"),
    Arm("all", ("http", "flows"), method="factorial"),
)  # fmt: skip
LEAK = 60.0  # MB an hour, of http
TIMES = np.arange(5.0, 3600.0, 5.0)
Noise = Callable[[np.random.Generator, int], Array]


def followed(path: Path, arms: tuple[Arm, ...], seconds: float = 3600.0) -> Run:
    """A run in which http leaks and flows does not, both warm after two minutes."""
    what = synthetic.experiment(
        workloads=("go",), arms=arms, switched_seconds=2.4, blocks=1, steady_seconds=seconds
    )
    run = synthetic.write(path, what)
    rng = np.random.default_rng(3)
    for record in run.records():
        names = what.arm(record.trial.arm).collectors
        if names and record.trial.kind == "switched":
            lines = [
                json.dumps({"seconds": float(at), "collector": name, **kinds(name, at, rng)})
                for at in TIMES
                for name in names
                if at < seconds
            ]
            (run.path / "trials" / record.trial.name / "memory.jsonl").write_text("\n".join(lines))
    return run


def kinds(name: str, at: float, rng: np.random.Generator) -> dict[str, float]:
    heap = 20e6 + 9e6 * min(1.0, at / 120) + 5e4 * rng.standard_normal()
    heap += 1e6 * LEAK * at / 3600 if name == "http" else 0.0
    return {"rss": heap + 12e6, "pss": heap + 4e6, "private_dirty": heap, "maps": 1.4e6}


def slope(summary: Summary, arm: str, kind: str = "") -> tuple[float, float, float]:
    row = summary.row("go", arm, f"agent_memory_slope_mb_h{kind}")
    assert row is not None
    return row.estimate, row.low, row.high


@pytest.mark.parametrize("arms", [ARMS, SHARED], ids=["alone", "shared"])
def test_a_leak_is_found_and_what_does_not_leak_is_not(
    arms: tuple[Arm, ...], tmp_path: Path
) -> None:
    summary = summarize(followed(tmp_path / "run", arms))
    for kind in ("", "[pss]", "[private_dirty]"):
        estimate, low, high = slope(summary, "http", kind)
        assert low <= LEAK <= high
        assert estimate == pytest.approx(LEAK, rel=0.02)
        estimate, low, high = slope(summary, "flows", kind)
        assert low <= 0 <= high
        assert abs(estimate) < 1
    assert slope(summary, "http", "[maps]") == (0, 0, 0)
    if arms is SHARED:
        estimate, low, high = slope(summary, "all")
        assert low <= LEAK <= high
    watched = summary.row("go", "http", "agent_memory_watched_min")
    assert watched is not None
    assert watched.estimate == pytest.approx(0.9 * 59.9, abs=0.2)
    assert summary.row("go", "baseline", "agent_memory_slope_mb_h") is None


def test_the_warm_up_is_left_out_by_the_clock() -> None:
    assert growth.warm_seconds(3600) == 360
    assert growth.warm_seconds(600) == 120
    value = np.where(TIMES < 300, 0.0, 5.0)  # all of the growth is within the first tenth
    kept = growth.warm_seconds(3600) <= TIMES
    assert growth.slope(TIMES[kept], value[kept]).estimate == 0


@pytest.mark.parametrize(("seconds", "is_told"), [(540.0, False), (620.0, True)])
def test_a_slope_is_told_of_ten_minutes_and_says_of_how_many(
    seconds: float, is_told: bool, tmp_path: Path
) -> None:
    built = build.build(followed(tmp_path / "run", ARMS, seconds))
    summary = built.summary
    assert (summary.row("go", "http", growth.SLOPE) is not None) == is_told
    why = summary.missing("go", "http", growth.SLOPE)
    assert f"stayed on for {seconds:g} s: a slope of their memory takes 10 minutes" in why
    tables = [title for title, _ in terminal.tables(summary)]
    assert tables == (["Growth of the agents' memory, MB an hour (go)"] if is_told else [])
    for text in (built.html.read_text(), built.markdown.read_text()):
        assert ("Growth of the agents" in text) == is_told
        assert ("7 stretches of 1.2 min under load, first 2.0 min left out" in text) == is_told


def test_the_long_table_has_the_readings(tmp_path: Path) -> None:
    run = followed(tmp_path / "run", ARMS, 620.0)
    found = [m for m in run.measurements() if "seconds" in m.labels]
    assert len(found) == 2 * len(MEMORY) * len(TIMES[TIMES < 620])
    assert {m.metric for m in found} == {f"agent_memory_{name}_bytes" for name in MEMORY}
    assert found[0].labels == {"collector": "http", "seconds": "5"}


def test_damaged_readings_are_told_in_words(tmp_path: Path) -> None:
    run = followed(tmp_path / "run", ARMS, 620.0)
    for path in run.path.glob("trials/*/memory.jsonl"):
        path.write_text("{")
    with pytest.raises(StoreError, match=r"memory\.jsonl is damaged"):
        summarize(run)


def autoregressive(by: float) -> Noise:
    def noise(rng: np.random.Generator, n: int) -> Array:
        found = rng.standard_normal(n)
        for i in range(1, n):
            found[i] += by * found[i - 1]
        return found

    return noise


def walk(rng: np.random.Generator, n: int) -> Array:
    return np.asarray(np.cumsum(rng.standard_normal(n)), dtype=float)


def sawtooth(rng: np.random.Generator, n: int) -> Array:
    """What an allocator of 1 MB pieces makes of a leak of 60 MB/h, less the leak."""
    exact = np.arange(n) * 5 / 60 + rng.random()
    return np.asarray(np.floor(exact) - exact, dtype=float)


@pytest.mark.parametrize(
    "noise",
    [autoregressive(0.0), autoregressive(0.9), autoregressive(0.99), walk, sawtooth],
    ids=["white", "0.9", "0.99", "walk", "sawtooth"],
)
@pytest.mark.parametrize("minutes", [8, 54])
def test_the_interval_holds_the_truth_however_memory_wanders(noise: Noise, minutes: int) -> None:
    rng, n = np.random.default_rng(11), 12 * minutes
    time = np.arange(n) * 5 / 3600
    held = 0
    for _ in range(300):
        found = growth.slope(time, 40.0 + LEAK * time + noise(rng, n))
        held += found.low <= LEAK <= found.high
    assert held >= 0.92 * 300


def test_a_straight_line_through_them_would_not() -> None:
    """What the stretches are for."""
    rng, n = np.random.default_rng(11), 12 * 54
    time, held = np.arange(n) * 5 / 3600, 0
    for _ in range(300):
        (by, _), covariance = np.polyfit(time, walk(rng, n), 1, cov=True)
        held += abs(by) < 1.96 * np.sqrt(covariance[0, 0])
    assert held < 0.4 * 300


@pytest.mark.parametrize(("most", "outcome"), [(100.0, "pass"), (10.0, "fail")])
def test_a_budget_can_limit_it(most: float, outcome: str, tmp_path: Path) -> None:
    summary = summarize(followed(tmp_path / "run", ARMS))
    table = {"metric": growth.SLOPE, "max": most, "arm": "http"}
    asked = budgets.from_dict({"budget": [table]})
    (verdict,) = gates.judge(stored.of_summary(summary), asked)
    assert verdict.outcome == outcome
