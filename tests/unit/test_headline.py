"""The first sentences and the cards of a report say nothing that its rows refute."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.analysis import account, events, metrics, sight, unseen
from harness.analysis.summary import Summary, summarize
from harness.model import Arm, Comparison
from harness.report import headline, table, tiles, wording
from tests.unit import synthetic
from tests.unit.synthetic import Truth

COSTS = (Arm("baseline"), Arm("http", ("http",)), Arm("profile", ("profile",)))
VERSIONS = (Arm("baseline"), Arm("new", ("http",), ("flows",)))
DENIED = "could be told from zero"
Drawn = Callable[[Comparison], Comparison]


@cache
def summary(arms: tuple[Arm, ...]) -> Summary:
    what = synthetic.experiment(workloads=("go", "java"), arms=arms, switched_seconds=1.5)
    with TemporaryDirectory() as folder:
        return summarize(synthetic.write(Path(folder) / "run", what, Truth({})))


def shifted(found: Summary, signs: list[int]) -> Summary:
    """The run with each difference below zero (-1), above (1) or not told from it (0), in turn."""
    rows = []
    for i, row in enumerate(found.rows):
        sign = signs[i % len(signs)]
        if not metrics.metric(row.metric).difference or wording.is_null(found, row.arm):
            rows.append(row)
            continue
        centre, p = 3.0 * sign, 0.001 if sign else 0.5
        moved = dataclasses.replace(
            row, estimate=centre, low=centre - 1, high=centre + 1, mde=1.4, p=p,
            p_holm=p if math.isfinite(row.p_holm) else row.p_holm,
        )  # fmt: skip
        rows.append(moved)
    return dataclasses.replace(found, rows=tuple(rows))


WEAK = [-1, 0, 0, -1, 0, -1, 0, -1, -1, 0, 0]  # each p holds in its own question, none in all

signs = st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=11, max_size=67)


@settings(max_examples=60)
@example(WEAK, (*COSTS, VERSIONS[1]))
@given(signs, st.sampled_from([COSTS, VERSIONS, (*COSTS, VERSIONS[1])]))
def test_the_first_sentence_denies_nothing_that_a_table_shows(
    drawn: list[int], arms: tuple[Arm, ...]
) -> None:
    found = shifted(summary(arms), drawn)
    said = headline.verdict(found)
    resolved = [
        row for row in found.rows
        if not wording.is_null(found, row.arm) and metrics.metric(row.metric).difference
        and wording.resolved(row)
    ]  # fmt: skip
    cpu = [row for row in resolved if row.metric == "workload_cpu_us"]
    if DENIED in said:
        assert not cpu
        assert "a service's own CPU" in said or "a service's CPU" in said
    else:
        assert cpu
    others = [row for row in resolved if row.metric not in ("workload_cpu_us", *headline.SAME)]
    if DENIED in said and others and "resolved in the tables" in said:  # none holds among all
        assert f"{len(others)} other difference" in said
    elif DENIED in said and others:
        assert "resolved: " in said
        told = re.search(r"; (\d+) more\.", said)
        named = min(headline.TOLD, len(others))
        assert len(others) == (int(told[1]) if told else 0) + named or not any(
            row.metric in headline.NAMES for row in others
        )
    if all(arm.against or not arm.collectors for arm in arms):
        assert "collector's cost" not in said
        assert " costs the " not in said


@settings(max_examples=40)
@given(signs)
def test_what_the_first_sentence_names_stands_in_a_row_that_is_resolved(drawn: list[int]) -> None:
    found = shifted(summary(COSTS), drawn)
    said = headline.cpu_verdict(found)
    if DENIED in said or "dearer" in said:
        return
    (row,) = [
        row for row in found.rows
        if row.metric == "workload_cpu_us" and f"`{row.arm}` costs the {row.workload} " in said
    ]  # fmt: skip
    assert wording.resolved(row)
    assert wording.change(row) in said


def test_versions_that_do_not_differ_are_no_cost_that_was_not_seen() -> None:
    said = headline.verdict(shifted(summary(VERSIONS), [0]))
    assert "no difference of a service's CPU between two sets of collectors" in said
    assert "`new` instead of `flows`" in said
    assert "a difference of " in said


def test_what_is_known_beside_the_cpu_is_named() -> None:
    found = summary(COSTS)
    rows = tuple(
        dataclasses.replace(row, estimate=1.9, low=1.1, high=2.7, p=1e-5, p_holm=1e-3)
        if (row.workload, row.arm, row.metric) == ("go", "http", "latency_p50_us")
        else row
        for row in shifted(found, [0]).rows
    )
    said = headline.verdict(dataclasses.replace(found, rows=rows))
    assert "Other difference was resolved: `http` +1.90 µs of median latency in the go" in said
    assert re.search(
        r"Metered directly: `\w+` takes [\d.]+ µs \[[\d.]+, [\d.]+\] a request of the \w+ service",
        said,
    )


def test_what_chance_makes_in_so_many_questions_is_counted_and_not_named() -> None:
    """One in a hundred rows resolved by its own question's correction, none by that over all."""
    found = summary(COSTS)
    first = next(row for row in shifted(found, [0]).rows if row.metric == "latency_p50_us")
    routes = tuple(
        dataclasses.replace(first, metric=f"latency_p50_us[/{i}]", p=0.5, p_holm=1.0, low=-1.0,
                            high=1.0, estimate=0.0)
        for i in range(100)
    )  # fmt: skip
    rows = tuple(
        dataclasses.replace(row, estimate=1.9, low=0.1, high=3.7, p=0.004, p_holm=0.03)
        if (row.workload, row.arm, row.metric) == ("go", "http", "latency_p50_us")
        else row
        for row in shifted(found, [0]).rows
    )
    said = headline.verdict(dataclasses.replace(found, rows=(*rows, *routes)))
    assert "median latency" not in said
    assert "1 other difference was resolved in the tables" in said


def test_a_smaller_cost_is_not_called_none() -> None:
    said = headline.verdict(shifted(summary(COSTS), [-1]))
    assert DENIED not in said
    assert "made it cheaper" in said


def tile(found: Summary, title: str) -> tiles.Tile:
    return next(each for each in tiles.tiles(found) if each.title == title)


def with_coverage(found: Summary, metric: str, percent: float, n: int) -> Summary:
    rows = [r for r in found.rows if not r.metric.startswith("coverage_percent")]
    row = Comparison(
        "go", "http", metric, "%", percent, percent, percent, n, math.nan, math.nan, "exact"
    )
    return dataclasses.replace(found, rows=(*rows, row))


@pytest.mark.parametrize(
    ("signal", "n", "figure", "of"),
    [
        ("requests", 622, "89.4 %", "of requests: "),
        ("samples", 622, "89.4 %", "of samples: "),
        ("connections", 622, "556 of 622 probes", ""),
        ("samples", 14, "13 of about 14 samples", ""),
    ],
)
def test_the_card_of_coverage_is_that_of_the_table(
    signal: str, n: int, figure: str, of: str
) -> None:
    found = with_coverage(summary(COSTS), f"coverage_percent[{signal}]", 89.4, n)
    card = tile(found, "Lowest coverage")
    assert (card.figure, card.about) == (figure, f"{of}http, go service")
    assert table.coverage(found, "go", "http").text == figure


def test_the_card_of_what_would_have_been_seen_is_what_the_sentence_says() -> None:
    found = shifted(summary(COSTS), [0])
    figure = tile(found, "Would have been seen anywhere").figure
    assert f"({figure}) a request would have been seen" in headline.verdict(found)


def row_of(metric: str, low: float, high: float, n: int, method: str) -> Comparison:
    return Comparison("go", "http", metric, "%", 0.0, low, high, n, math.nan, math.nan, method)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (row_of("bill_us", math.nan, math.nan, 1, "one trial"), "one trial"),
        (row_of("bill_us", math.nan, math.nan, 2, "mean over trials"), "no interval, 2 trials"),
        (row_of("lost_percent", 0, 0.011, 32481, "exact"), "[0, 0.011], 95 %, 32,481 events"),
        (row_of("error_percent", 0, 0.011, 900, "exact"), "[0, 0.011], 95 %, 900 requests"),
        (row_of("agent_memory_mb", 30, 31, 2, "mean and range"), "[30, 31], range of 2 trials"),
        (row_of("bill_us", 288, 316, 480, account.WITHIN), "[288, 316], 95 %"),
        (row_of("bill_event_us", 38, 44, 960, events.RATIO), "[38, 44], 95 %"),
        (row_of("bpf_us", 0, 0.0031, 48, unseen.METHOD.format(12e3, 10)), "[0, 0.0031], 95 %"),
    ],
)
def test_brackets_count_what_stands_behind_them(row: Comparison, words: str) -> None:
    assert wording.spread(row) == words


def test_trials_that_broke_a_rule_are_told_of(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=COSTS, switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what)
    for record in run.records():
        if record.trial.arm == "http" and record.trial.block == 0:
            told = {"saturated": "the load driver used 97% of its CPU"}
            run.append(dataclasses.replace(record, extra=told), run.windows(record.trial))
    found = summarize(run)
    (said,) = headline.notes(found)
    assert said == (
        "1 of 10 trials broke a rule and are not used, the first because: The load driver used "
        "97% of its CPU. Not measured for that: go, http, block 1 (switched)."
    )
    assert said in found.warnings


def test_a_collector_that_saw_nothing_is_told_of() -> None:
    found = with_coverage(summary(COSTS), "coverage_percent[requests]", 0.0, 10_000)
    said = headline.verdict(found)
    assert said.startswith("`http` saw none of 10,000 requests of the go service (is it encrypted")
    assert any("http told of none of 10,000 requests" in text for text in sight.unseen(found.rows))
    assert "saw none" not in headline.verdict(with_coverage(found, "coverage_percent[x]", 0.1, 9))


def with_lost(found: Summary, percent: float, low: float, n: int = 4_000) -> Summary:
    """The run in which each collector says that it lost so much."""
    rows = [
        dataclasses.replace(row, estimate=percent, low=low, n=n)
        if row.metric == "lost_percent" else row
        for row in found.rows
    ]  # fmt: skip
    return dataclasses.replace(found, rows=tuple(rows))


def test_a_collector_that_lost_much_of_what_it_saw_is_told_of() -> None:
    found = summary(COSTS)
    said = headline.verdict(with_lost(found, 72.0, 70.0))
    assert "lost 72 % of 4,000 events, by its own count, beside the" in said
    assert "service: what is told of it is the cost of telling no more" in said
    assert "by its own count" not in headline.verdict(with_lost(found, 5.5, 4.9))
    assert "by its own count" not in headline.verdict(found)


def test_no_sentence_calls_a_difference_by_the_name_of_its_key() -> None:
    differences = {name for name, each in metrics.METRICS.items() if each.difference}
    assert differences <= {*headline.NAMES, *headline.SAME}
