"""Collectors that do the same job stand side by side, each with what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.summary import Summary, summarize
from harness.collectors import REGISTRY, resolve, subject
from harness.collectors.definition import JOBS
from harness.errors import InputError
from harness.model import Comparison
from harness.plan import definitions
from harness.report import html, markdown, peers
from harness.results.run import Run
from tests.unit import synthetic

KIND = {"kind": "in-process", "language": "Python"}
# flows stands for an agent in the service that does the same job as http
PEERS: dict[str, Mapping[str, Any]] = {
    "http": {"name": "http", "job": "tracing", "agent": "http"},
    "flows": {"name": "flows", "job": "tracing", "subject": KIND},
    "profile": {"name": "profile", "job": "profiling", "hooks": ["perf_event"]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    what = synthetic.experiment(workloads=("go",))
    return synthetic.write(tmp_path_factory.mktemp("runs") / "run", what)


@pytest.fixture(scope="module")
def shipped(run: Run) -> Summary:
    """What the run is as it was: each collector does a job of its own."""
    kept = {name: definitions.to_dict(each) for name, each in REGISTRY.items()}
    found = summarize(run)
    return replace(found, about=replace(found.about, collectors=kept))


@pytest.fixture
def beside(shipped: Summary) -> Summary:
    return replace(shipped, about=replace(shipped.about, collectors=PEERS))


def _billed(summary: Summary, **bills: tuple[float, float]) -> Summary:
    """With these intervals of the whole bill, by arm."""

    def changed(row: Comparison) -> Comparison:
        if row.metric != "bill_us" or row.arm not in bills:
            return row
        low, high = bills[row.arm]
        return replace(row, estimate=(low + high) / 2, low=low, high=high)

    return replace(summary, rows=tuple(map(changed, summary.rows)))


def test_collectors_of_different_jobs_are_not_compared(shipped: Summary) -> None:
    assert peers.told(shipped, "go") == []


def test_two_of_one_job_are(beside: Summary) -> None:
    ((sheet, _),) = peers.told(beside, "go")
    assert "Who traces requests" in sheet.caption
    assert [arm for arm, _, _ in sheet.rows] == ["http", "flows"]
    told = [dict(zip(sheet.columns, cells, strict=True)) for _, _, cells in sheet.rows]
    assert [(each["runs"].text, each["runs"].detail) for each in told] == [
        ("beside the service", "by eBPF"), ("in the service", "with its process"),
    ]  # fmt: skip
    first, second = (each["where nobody prepared the service"] for each in told)
    assert first.text == told[0]["seen"].text
    assert (second.text, "Python alone" in second.detail) == ("none", True)
    for figure in ("CPU cost a request", "whole bill", "memory", "latency, p99"):
        assert all(each[figure].text != "not measured" for each in told)


def test_the_smaller_bill_is_named_where_it_is_known(beside: Summary) -> None:
    def said(**bills: tuple[float, float]) -> str:
        ((_, text),) = peers.told(_billed(beside, **bills), "go")
        return text

    apart = said(http=(1.0, 2.0), flows=(12.0, 14.0))
    assert apart == "The whole bill of flows is above that of http, by 10 to 13 µs a request."
    meet = said(http=(1.0, 2.0), flows=(1.5, 14.0))
    assert meet == "The whole bills of http and flows cannot be told apart: their intervals meet."
    alone = said(http=(float("nan"), float("nan")), flows=(1.5, 14.0))
    assert "one has no interval" in alone


def test_one_that_saw_too_little_is_not_the_cheaper_one(beside: Summary) -> None:
    rows = tuple(
        replace(row, estimate=0.0, low=0.0, high=0.1)
        if (row.arm, row.metric) == ("http", "coverage_percent[requests]") else row
        for row in beside.rows
    )  # fmt: skip
    ((_, said),) = peers.told(replace(beside, rows=rows), "go")
    assert said == "http saw too little to be compared."


def _without(summary: Summary, *left_out: tuple[str, str]) -> Summary:
    """The same without rows of these arms whose metric begins so."""
    rows = tuple(
        row for row in summary.rows
        if not any(row.arm == arm and row.metric.startswith(base) for arm, base in left_out)
    )  # fmt: skip
    return replace(summary, rows=rows)


def test_a_bill_without_entry_is_not_ranked_below_a_whole_one(beside: Summary) -> None:
    def said(summary: Summary) -> str:
        ((_, text),) = peers.told(summary, "go")
        return text

    billed = _billed(beside, http=(1.0, 2.0), flows=(12.0, 14.0))
    low = _without(billed, ("http", "entry_us"))
    assert said(low) == "The bills of http and flows are not compared: http's is without entry."
    high = _without(billed, ("flows", "entry_us"))
    assert said(high).endswith("is above that of http, by at least 10 µs a request.")
    of_neither = _without(low, ("http", "bpf_us"))  # it has no programs
    assert "by 10 to 13 µs" in said(of_neither)
    ((sheet, _),) = peers.told(low, "go")
    details = {arm: dict(zip(sheet.columns, cells, strict=True))["whole bill"].detail
               for arm, _, cells in sheet.rows}  # fmt: skip
    assert "without entry" in details["http"]
    assert "without entry" not in details["flows"]


def test_who_counts_by_expectation_may_have_seen_too_little_too(beside: Summary) -> None:
    def said(percent: float, high: float) -> str:
        rows = tuple(
            replace(row, metric="coverage_percent[samples]", estimate=percent, low=5.0, high=high)
            if row.arm == "flows" and row.metric.startswith("coverage_percent") else row
            for row in beside.rows
        )  # fmt: skip
        ((_, text),) = peers.told(replace(beside, rows=rows), "go")
        return text

    assert "flows saw too little to be compared." in said(30.0, 45.0)
    assert "too little" not in said(87.0, 94.0)  # fewer samples than CPU time makes are in order


def test_what_was_seen_may_be_unknown_and_that_is_said(beside: Summary) -> None:
    billed = _billed(beside, http=(1.0, 2.0), flows=(12.0, 14.0))
    ((_, said),) = peers.told(_without(billed, ("flows", "coverage_percent")), "go")
    assert "above that of http" in said
    assert said.endswith("What flows saw of what there was is not known.")


def test_two_options_of_one_collector_are_no_peers(beside: Summary) -> None:
    same = {**PEERS, "flows": {**PEERS["flows"], "name": "http"}}
    summary = replace(beside, about=replace(beside.about, collectors=same))
    assert peers.told(summary, "go") == []


def test_both_reports_show_them(run: Run, beside: Summary) -> None:
    title = "Who traces requests, side by side"
    assert title in markdown.text(beside)
    page = html.page(run, beside)
    assert title in page
    assert "Side by side</h3>" in page


def test_those_that_people_compare_do_the_same_job() -> None:
    for job, names in {
        "tracing": ("http", "beyla", "obi", "pixie", "otel-python", "ddtrace", "otel-java",
                    "elastic", "otel-node", "newrelic"),
        "security": ("guard", "tetragon", "falco"),
        "profiling": ("profile", "parca-agent", "alloy-pyroscope", "pyroscope-io"),
        "network": ("flows", "hubble"),
    }.items():  # fmt: skip
        assert {resolve(name).job for name in names} == {job}
    assert {resolve(name).job for name in subject.names()} <= {*JOBS, ""}
    assert set(peers.TITLES) == set(JOBS)


def test_a_job_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    text = (subject.FOLDER / "bpftrace.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("kind =", 'job = "magic"\nkind ='))
    with pytest.raises(InputError, match="job is one of tracing, security, profiling, network"):
        resolve(str(tmp_path / "mine.toml"))


def test_one_that_lost_much_is_never_called_the_cheaper_one(beside: Summary) -> None:
    billed = _billed(beside, http=(1.0, 2.0), flows=(3.0, 4.0))
    rows = [
        replace(row, estimate=72.0, low=70.0)
        if (row.arm, row.metric) == ("http", "lost_percent") else row
        for row in billed.rows
    ]  # fmt: skip
    (found,) = peers.told(replace(billed, rows=tuple(rows)), "go")
    assert "http saw too little to be compared." in found[1]
    assert "is above that of http" not in found[1]
