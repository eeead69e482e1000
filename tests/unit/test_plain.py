"""The first screen's lines: what a manager reads says what the tables say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.summary import Summary, summarize
from harness.model import Comparison
from harness.report import plain, wording
from tests.cases import golden
from tests.unit import synthetic


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return summarize(golden.small(tmp_path_factory.mktemp("runs") / "r"))


def _with(summary: Summary, metric: str, arm: str = "http", **changes: Any) -> Summary:
    """The summary with one row of the Go service changed."""
    rows = [
        dataclasses.replace(r, **changes)
        if (r.workload, r.arm, r.metric) == ("go", arm, metric) else r
        for r in summary.rows
    ]  # fmt: skip
    return dataclasses.replace(summary, rows=tuple(rows))


def _line(summary: Summary, arm: str = "http") -> plain.Plain:
    found = next(p for p in plain.lines(summary) if (p.workload, p.arm) == ("go", arm))
    cost, seen = (text.replace("\N{NO-BREAK SPACE}", " ") for text in (found.cost, found.seen))
    return dataclasses.replace(found, cost=cost, seen=seen)


def test_each_collector_of_each_service_has_a_line(summary: Summary) -> None:
    told = [(p.workload, p.arm) for p in plain.lines(summary)]
    assert told == [(w, arm) for w in ("go", "java") for arm in ("http", "profile", "all")]


def test_a_cost_is_told_with_its_interval_and_share(summary: Summary) -> None:
    row = summary.row("go", "http", "workload_cpu_us")
    assert row is not None
    said = _line(summary).cost
    assert said.startswith(f"Costs {wording.change(row).lstrip('+').split()[0]} µs of CPU")
    assert "%), between " in said
    assert "% of the machine and 27 MB in all." in said


def test_what_could_not_be_told_says_what_would_have_been_seen(summary: Summary) -> None:
    said = _line(summary, "profile").cost
    assert said.startswith("No cost to the service could be told; one of ")
    assert " would have been; takes " in said


@pytest.mark.parametrize("word", ["Holm", "A/A", "resolved", "PSS", "p ", "seen from"])
def test_no_word_of_the_statistics_is_in_it(summary: Summary, word: str) -> None:
    assert not any(word in p.cost + p.seen for p in plain.lines(summary))


def test_an_effect_in_these_processes_alone_is_told_as_that(summary: Summary) -> None:
    said = _line(_with(summary, "workload_cpu_us", low=-1.0, p_holm=0.001)).cost
    assert "in the processes measured; of others that is open" in said
    assert "between" not in said


def test_a_collector_that_speeds_a_service_up_is_doubted(summary: Summary) -> None:
    changed = _with(summary, "workload_cpu_us", estimate=-3.0, low=-4.0, high=-2.0, p_holm=0.001)
    words = "Makes a request cheaper, which no collector should (look below), by 3.0 µs"
    assert words in _line(changed).cost
    assert "between 2.0 and 4.0" in _line(changed).cost
    some = _with(summary, "workload_cpu_us", estimate=-3.0, low=-7.0, high=1.0, p_holm=0.001)
    assert words in _line(some).cost
    assert "in the processes measured; of others that is open" in _line(some).cost


def test_who_saw_nothing_is_shown_as_bad_and_asked_for_tls(summary: Summary) -> None:
    blind = _with(summary, "coverage_percent[requests]", estimate=0.0, low=0.0, high=0.1)
    line = _line(blind)
    assert line.bad
    assert line.seen.startswith("saw none of ")
    assert "encrypted" in line.seen
    assert not _line(summary).bad


def test_a_profiler_is_bad_that_took_less_than_a_third_of_its_samples(summary: Summary) -> None:
    """They are an expectation: a thread is on a CPU without what is sampled, too."""
    (seen,) = [r for r in summary.rows if r.metric == "coverage_percent[samples]"][:1]
    for estimate, high, bad in ((88.0, 99.0, False), (30.0, 34.0, False), (5.0, 7.0, True)):
        row = dataclasses.replace(seen, estimate=estimate, low=4.0, high=high, n=3000)
        rows = tuple(row if r is seen else r for r in summary.rows)
        found = [
            line
            for line in plain.lines(dataclasses.replace(summary, rows=rows))
            if (line.workload, line.arm) == (seen.workload, seen.arm)
        ]
        assert [line.bad for line in found] == [bad]


def test_an_idle_row_is_no_cost(summary: Summary) -> None:
    idle = dataclasses.replace(summary, idle=frozenset({("go", "http")}))
    assert _line(idle).cost.startswith("No events under this load")


def test_what_was_not_measured_says_why(summary: Summary) -> None:
    rows = tuple(r for r in summary.rows if (r.workload, r.arm) != ("go", "http"))
    said = _line(dataclasses.replace(summary, rows=rows)).cost
    assert said.startswith("Not measured. ")


def test_a_difference_of_two_sets_is_told_as_that(tmp_path: Path) -> None:
    (line,) = plain.lines(summarize(golden.against(tmp_path / "r")))
    assert line.cost.startswith("Instead of flows: a request is dearer by ")
    assert line.picture is None


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("Beyla: < 0.5 % CPU, 50 MB; 500 ns a request", (0.0, 0.5)),
        ("Beyla in the field: +43 % CPU in the traced Go service", (43.0, 43.0)),
        ("Hubble: 1-15 %", (1.0, 15.0)),
        ("OTel eBPF profiler: <= 1 % CPU, <= 250 MB", (0.0, 1.0)),
        ("Cilium: 50 MB", None),
    ],
)
def test_a_claim_is_placed_by_the_percentage_that_it_names(
    text: str, span: tuple[float, float] | None
) -> None:
    assert plain._span(text) == span


def test_the_picture_has_what_was_measured_beside_what_was_published(summary: Summary) -> None:
    picture = str(_line(summary).picture)
    assert picture.count('<path class="told"') == 2
    assert picture.count('class="here"') >= 3  # the bill, the cost and its interval
    assert "Beyla" in picture
    places = [float(x) for x in re.findall(r'c?x[12]?="([\d.]+)"', picture)]
    assert all(0 <= x <= 200 for x in places)


def _row(**changes: Any) -> Comparison:
    row = Comparison(
        "go", "http", "workload_cpu_us", "us/request", 1.08, 0.003, 2.163, 9, 1, 50, ""
    )
    return dataclasses.replace(row, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "[+0.0, +2.2]"),
        (
            {"estimate": -1.08, "low": -2.163, "high": -0.003},
            "[\N{MINUS SIGN}2.2, \N{MINUS SIGN}0.0]",
        ),
        ({"low": 0.03}, "[+0.03, +2.16]"),
        ({"low": 0.4}, "[+0.40, +2.16]"),
        ({"low": 0.0}, "[0.0, +2.2]"),
    ],
)
def test_an_interval_has_no_false_digits(changes: dict[str, float], said: str) -> None:
    assert wording.interval(_row(**changes)) == said


def test_an_estimate_without_an_interval_has_two_digits() -> None:
    row = _row(estimate=5.6612, low=float("nan"), high=float("nan"), level=31.0)
    assert (wording.change(row), wording.relative(row)) == ("+5.7 µs", "+18 %")


def test_made_up_runs_have_lines_without_digits_that_nothing_supports(tmp_path: Path) -> None:
    for name in ("small", "partial", "factorial"):
        for line in plain.lines(summarize(golden.RUNS[name](tmp_path / name))):
            for number in re.findall(r"\d+\.\d+", line.cost):
                assert len(number.replace(".", "").lstrip("0")) <= 4, line.cost


def test_the_page_shows_them_before_anything_else(tmp_path: Path) -> None:
    from harness.report import html

    run = synthetic.write(tmp_path / "r", synthetic.experiment(workloads=("go",)))
    page = html.page(run, summarize(run))
    assert page.index('class="plain"') < page.index('class="tiles"') < page.index('id="cost"')


def test_probes_are_told_with_what_they_were_for(tmp_path: Path) -> None:
    """A line of several collectors has several of them."""
    found = _line(summarize(golden.factorial(tmp_path / "r")), "all")
    assert found.seen == "saw 20 of 20 probes for connections, 100 % of requests"


def test_who_has_no_signal_tells_what_it_counted(summary: Summary) -> None:
    rows = [r for r in summary.rows if not r.metric.startswith("coverage_percent")]
    blind = dataclasses.replace(summary, rows=tuple(rows))
    counted = _with(blind, "events_per_request", estimate=0.157)
    assert _line(counted).seen == "told 0.16 events a request; how many there were is not known"
    none = dataclasses.replace(
        blind, rows=tuple(r for r in rows if r.metric != "events_per_request")
    )
    assert _line(none).seen == "what it saw was not counted"
