"""What a report says of the full stack: coverage and data latency by signal, and what it costs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.summary import Summary
from harness.report import build, quality, terminal
from harness.report.build import BuiltReport
from tests.unit import stacked, synthetic
from tests.unit.stacked import FULL, IDLE, SCATTER
from tests.unit.synthetic import Truth
from tests.unit.test_report import table


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltReport:
    return build.build(stacked.write(tmp_path_factory.mktemp("runs") / "full"))


@pytest.fixture(scope="module")
def summary(built: BuiltReport) -> Summary:
    return built.summary


@pytest.fixture(scope="module")
def document(built: BuiltReport) -> dict[str, Any]:
    return json.loads(built.json.read_text())


def test_each_signal_has_its_coverage_and_its_data_latency(summary: Summary) -> None:
    found = {(one.arm, one.signal): one for one in summary.qualities}
    assert set(found) == {("http", "requests"), ("http", "spans"), ("guard", "executions")}
    spans, requests = found["http", "spans"], found["http", "requests"]
    assert (spans.kind, requests.kind) == ("spans", "metrics")
    assert (spans.made, spans.records) == (2200, 300)
    assert spans.coverage_percent == pytest.approx(100 * 2196 / 2200)
    assert (spans.covered, spans.certain, spans.quick, spans.at_goal) == (True, True, True, True)
    assert spans.data_latency_p99_s == pytest.approx(3.3)  # the mean over both trials
    assert (requests.quick, requests.at_goal) == (True, False)
    assert spans.resolution_s == 0.21


def test_too_few_records_make_no_percentile(summary: Summary, built: BuiltReport) -> None:
    (executions,) = [one for one in summary.qualities if one.signal == "executions"]
    assert executions.records == 6
    assert (executions.quick, executions.at_goal) == (None, None)
    assert "too few records" in built.html.read_text()
    assert summary.row("go", "guard", "data_latency_p99_s") is None
    why = summary.missing("go", "guard", "data_latency_p99_s")
    assert why == "Too few records were found while the backends were watched."


def test_a_share_of_few_is_not_beyond_doubt(summary: Summary, built: BuiltReport) -> None:
    (executions,) = [one for one in summary.qualities if one.signal == "executions"]
    assert executions.made == 20  # 18 of them were found: 90 %, from 68 to 99
    assert (executions.covered, executions.certain) == (False, False)
    assert "| 18 of 20 " in built.markdown.read_text()
    assert "not beyond doubt" in built.markdown.read_text()


def test_what_a_record_costs_is_what_the_idle_stack_does_not_use(summary: Summary) -> None:
    costs = {(one.arm, one.component): one for one in summary.upkeeps}
    assert len(costs) == 3 * 3
    tempo = costs["http", "tempo"]
    assert tempo.records == 2200
    assert tempo.ms_per_1000 == pytest.approx(1000)  # 1 ms a span, whatever it idles
    assert tempo.ms_low <= tempo.ms_per_1000 <= tempo.ms_high
    assert costs["baseline", "tempo"].cpu_percent == pytest.approx(2.0)
    assert costs["http", "tempo"].cpu_percent > 2.0
    assert costs["http", "tempo"].memory_mb == 80
    assert costs["http", "loki"].ms_per_1000 != costs["http", "loki"].ms_per_1000  # 24 lines: NaN
    requests = synthetic.RATE["go"] * FULL.steady_seconds
    idle = 1e6 * IDLE["loki"] * FULL.steady_seconds / requests
    assert costs["guard", "loki"].us_per_request == pytest.approx(idle)
    assert costs["baseline", "loki"].us_per_request == pytest.approx(idle)
    added = 1e6 * 1.1 / requests  # all of it, however long the backend had for it
    assert tempo.us_per_request == pytest.approx(2 * idle + added)


def test_a_baseline_that_scatters_is_in_the_interval(summary: Summary) -> None:
    collector = next(o for o in summary.upkeeps if (o.arm, o.component) == ("http", "otelcol"))
    assert collector.ms_per_1000 == pytest.approx(-1e6 * SCATTER / 1200 / 2)
    assert collector.ms_low < 0 < collector.ms_high


def test_the_schema_names_what_is_written(document: dict[str, Any]) -> None:
    assert (document["stack"], document["components"]) == ("full", {"tempo": "2.8.0"})
    for heading in ("Quality", "Upkeep"):
        for row in document[heading.lower()]:
            assert set(table(heading)) == set(row)
        assert document[heading.lower()]
    assert "NaN" not in json.dumps(document)


def test_every_form_of_the_report_tells_it(built: BuiltReport) -> None:
    page, markdown = built.html.read_text(), built.markdown.read_text()
    for text in (page, markdown):
        assert "Trace quality" in text
        assert "What the stack costs" in text
        assert "queries were 0.21 s apart" in text
    (_, (columns, *rows)), (_, (_, *costs)) = terminal.tables(built.summary)
    assert columns[0] == "collector"
    assert len(rows) == 3
    assert len(costs) == 9
    assert all(len(row) == len(columns) for row in rows)


def test_what_was_not_asked_for_is_found_nowhere(summary: Summary) -> None:
    """Neither in Tempo nor in Loki, which need not have been there."""
    few = [one for one in summary.qualities if one.signal == "requests"]
    some = dataclasses.replace(summary, qualities=tuple(few))
    assert "a query finds: metrics in Prometheus. Data latency" in quality.note(some)
    none = dataclasses.replace(summary, qualities=())
    assert quality.note(none).startswith("Found is what a query finds. Data latency")


def test_a_run_with_the_small_sink_says_nothing_of_it(tmp_path: Path) -> None:
    what = dataclasses.replace(FULL, stack="sink")
    small = build.build(synthetic.write(tmp_path / "small", what, Truth()))
    assert (small.summary.qualities, small.summary.upkeeps) == ((), ())
    assert terminal.tables(small.summary) == []
    assert "Trace quality" not in small.html.read_text()
    assert json.loads(small.json.read_text())["stack"] == "sink"
