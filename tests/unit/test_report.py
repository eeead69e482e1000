"""The report of a whole run: what stands in it, and what must not."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.account import PART, WITHIN
from harness.analysis.growth import SLOPE, WATCHED
from harness.analysis.harms import Harm
from harness.analysis.metrics import BRACKETS, COUNTED, IPC, METRICS
from harness.analysis.summary import summarize
from harness.analysis.value import ATTACHING
from harness.errors import StoreError
from harness.model import Arm, Comparison
from harness.report import build, headline, wording
from harness.report.build import BuiltReport
from harness.report.table import bill_is, difference
from harness.report.table import lines as table_of
from harness.results.run import Run
from tests.unit import synthetic
from tests.unit.synthetic import Truth

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/report-schema.md"
ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("all", ("http", "profile")))
SMALL = synthetic.experiment(
    workloads=("go", "java"),
    arms=(*ARMS, Arm("profile", ("profile",)), Arm("new", ("http",), ("flows",))),
    switched_seconds=8.5,
    idle_seconds=3.0,
    saturated_seconds=4.0,
    low_rate_fraction=0.25,
)
TINY = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=1.2)
LOUD = Truth({"http": 6.0, "profile": 0.0})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return synthetic.write(tmp_path_factory.mktemp("runs") / "small", SMALL, LOUD)


@pytest.fixture(scope="module")
def built(run: Run) -> BuiltReport:
    return build.build(run)


@pytest.fixture(scope="module")
def document(built: BuiltReport) -> dict[str, Any]:
    return json.loads(built.json.read_text())


def partial(path: Path, count: int, **about: Any) -> Run:
    return synthetic.write(path / "run", TINY, LOUD, only=range(count), **about)


def html_of(run: Run) -> str:
    return build.build(run).html.read_text()


def test_every_workload_and_arm_has_its_line(built: BuiltReport) -> None:
    page, markdown = built.html.read_text(), built.markdown.read_text()
    for workload in ("go", "java"):
        for arm in ("baseline", "http", "all"):
            assert f'data-row="{workload}/{arm}"' in page
        assert f"| {workload} | nothing (A/A) |" in markdown
        assert f"| {workload} | http |" in markdown


def test_a_large_effect_is_the_verdict(built: BuiltReport) -> None:
    first = headline.verdict(built.summary)
    assert "the 2 collectors together cost the go service" in first
    assert first in built.markdown.read_text()
    row = built.summary.row("go", "http", "workload_cpu_us")
    assert row is not None
    assert row.low < 6.0 < row.high
    assert row.low > 0


def test_another_machine_is_named_where_it_was_measured(tmp_path: Path) -> None:
    built = build.build(partial(tmp_path, 100, target="ssh:me@box"))
    assert headline.verdict(built.summary).startswith("On me@box ")
    assert ", ssh:me@box, " in built.markdown.read_text()
    assert "On this machine" not in built.markdown.read_text()


def test_claims_stand_beside_figures_with_their_source(built: BuiltReport) -> None:
    page = built.html.read_text()
    for collector, text, source in synthetic.CLAIMS:
        assert source.replace("'", "&#39;") in page
        if collector in ("http", "profile"):
            assert text.replace("<", "&lt;") in page
        else:
            assert text.replace("<", "&lt;") not in page


def test_the_page_needs_nothing_but_itself(built: BuiltReport) -> None:
    page = built.html.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", page)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert len(page) < 5_000_000


def test_drawings_keep_text_and_take_the_colours_of_the_page(built: BuiltReport) -> None:
    page = built.html.read_text()
    assert "nothing (A/A)</text>" in page
    assert "var(--arm1)" in page
    assert "#010101" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_report_is_a_function_of_the_run_directory(run: Run, built: BuiltReport) -> None:
    paths = (built.html, built.markdown, built.json)
    before = [path.read_bytes() for path in paths]
    build.build(Run.open(run.path))
    assert [path.read_bytes() for path in paths] == before


def table(heading: str) -> dict[str, list[str]]:
    """First cells in backticks of the first table below a heading of the schema document."""
    text = DOCUMENT.read_text().split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_the_document_names_the_fields_that_are_written(document: dict[str, Any]) -> None:
    assert set(table("Document")) == set(document)
    for heading in ("Rows", "Blocks", "Programs", "Trials"):
        assert document[heading.lower()]
        for row in document[heading.lower()]:
            assert set(table(heading)) == set(row)
    assert set(table("Rows")) == {field.name for field in dataclasses.fields(Comparison)}
    assert set(table("Harms")) == {field.name for field in dataclasses.fields(Harm)}


def test_the_document_names_every_metric(document: dict[str, Any]) -> None:
    told = {name: (cells[0], cells[1]) for name, cells in table("Metrics").items()}
    kinds = {True: "difference", False: "value"}
    assert told == {name: (m.unit, kinds[m.difference]) for name, m in METRICS.items()}
    assert set(table("Names in brackets")) == set(BRACKETS)
    written = {row["metric"].partition("[")[0] for row in document["rows"]}
    counted = {*COUNTED, IPC, "instructions_percent"}  # test_counters has them
    grown = {"agent_first_peak_memory_mb", SLOPE, WATCHED}  # test_growth
    memory = {f"{which}_{kind}_mb" for which in ("service", "plain") for kind in ("rss", "heap")}
    within = {"startup_s", "startup_plain_s", *memory, *ATTACHING}  # test_subjects, test_attached
    assert written | counted | grown | within == set(
        METRICS
    )  # the synthetic run holds every other one


def test_rows_hold_together(document: dict[str, Any]) -> None:
    for row in document["rows"]:
        if row["low"] is not None:
            assert row["low"] <= row["estimate"] <= row["high"]
        difference = METRICS[row["metric"].partition("[")[0]].difference
        assert (row["mde"] is not None) == (difference and row["low"] is not None)
        assert row["n"] >= 1
        assert row["method"]


def test_brackets_say_what_they_are(built: BuiltReport) -> None:
    page, markdown = built.html.read_text(), built.markdown.read_text()
    assert "range of 2 trials" in page
    assert "95 %, 2 trials" in page
    assert "calibrated cost of entering them" in markdown
    assert "(driver at 73 % of its CPU)" in page
    assert "when pressed" not in page


def test_few_samples_and_probes_are_counts(tmp_path: Path) -> None:
    arms = (Arm("baseline"), *(Arm(c, (c,)) for c in ("http", "flows", "profile")))
    what = dataclasses.replace(TINY, arms=arms)
    summary = summarize(synthetic.write(tmp_path / "run", what))
    seen = {line.arm: (line.coverage.text, line.coverage.detail) for line in table_of(summary)}
    assert seen["flows"] == ("20 of 20 probes", "for connections\n0 % of events lost")
    told = "too few for a percentage\n0 % of events lost"
    assert seen["profile"] == ("32 of about 34 samples", told)
    assert seen["http"][0] == "100 %"
    assert seen["http"][1].startswith("of 10,000 requests\n[99.9")


@pytest.mark.parametrize("level", [0.0, float("nan"), 30.0])
@pytest.mark.parametrize("mde", [float("nan"), 0.5])
def test_the_verdict_bears_levels_that_do_not_exist(
    built: BuiltReport, level: float, mde: float
) -> None:
    rows = tuple(
        dataclasses.replace(row, level=level, mde=mde, low=low, high=high, p_holm=math.nan)
        for row in built.summary.rows if row.metric == "workload_cpu_us"
        for low, high in ((row.estimate - 50, row.estimate + 50), (float("nan"), float("nan")))
    )  # fmt: skip
    summary = dataclasses.replace(built.summary, rows=rows)
    assert "could be told from zero" in headline.verdict(summary)
    assert len(headline.sentences(summary)) == 2


def test_the_verdict_says_that_it_is_the_largest(built: BuiltReport) -> None:
    assert "the largest of 2 such costs that were resolved" in headline.verdict(built.summary)


def test_names_from_outside_cannot_break_the_page(tmp_path: Path) -> None:
    odd = dataclasses.replace(TINY, name="<b>x</b>")
    run = synthetic.write(
        tmp_path / "run", odd, LOUD, warnings=["<script>alert(1)</script>"],
        claims=[{"collector": "http", "text": "<i>&|", "source": "<i>&|"}],
    )  # fmt: skip
    report = build.build(run)
    page = report.html.read_text()
    assert "<script>alert" not in page
    assert "<i>&|" not in page
    assert "\\|" in report.markdown.read_text()


def test_no_effect_is_never_called_zero(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", TINY, Truth({}), seed=5)
    first = headline.verdict(summarize(run))
    assert "could be told from zero" in first
    assert "would have been seen" in first


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0297, "0.030"), (0.66, "0.66"), (5.31, "5.3"), (32.4, "32"), (1234.5, "1,234")],
)
def test_two_significant_digits(value: float, text: str) -> None:
    assert wording.plain(value) == text


def test_a_bound_never_looks_like_zero() -> None:
    row = Comparison("go", "http", "latency_p50_us", "us", 0.11, 0.004, 0.23, 50, 0.2, 9.0, "")
    assert wording.interval(row) == "[+0.004, +0.230]"


def test_a_rounded_zero_has_no_sign() -> None:
    assert wording.number(-0.001, 2, signed=True) == "0.00"
    assert wording.number(-1.5, 1) == f"{wording.MINUS}1.5"
    assert wording.number(1.5, 1, signed=True) == "+1.5"


def test_a_published_run_keeps_its_report(tmp_path: Path) -> None:
    run = partial(tmp_path, 0)
    shutil.rmtree(run.path / "trials")
    (run.path / "report.md").write_text("kept")
    with pytest.raises(StoreError, match="no trials"):
        build.build(run)
    assert (run.path / "report.md").read_text() == "kept"


def test_a_cost_in_these_processes_alone_is_told_so(built: BuiltReport) -> None:
    """p says that it is there, and the interval that its mean over processes may be nothing."""
    found = built.summary.row("go", "all", "workload_cpu_us")
    assert found is not None
    row = dataclasses.replace(found, low=-0.5, p_holm=0.01)
    assert wording.resolved(row)
    assert wording.only_here(row)
    assert not wording.only_here(found)
    assert not wording.resolved(dataclasses.replace(found, p_holm=0.06))
    told = headline.verdict(dataclasses.replace(built.summary, rows=(row,)))
    assert "in the processes measured" in told
    assert "in these processes" in difference(row).detail


def test_a_bill_says_what_it_is_made_of(run: Run) -> None:
    summary = summarize(run)

    def by(*methods: str) -> str:
        rows = [r for r in summary.rows if r.metric != "bill_us"]
        bill = next(r for r in summary.rows if r.metric == "bill_us")
        made = [dataclasses.replace(bill, method=each) for each in methods]
        return bill_is(dataclasses.replace(summary, rows=(*rows, *made)))

    assert by("sum").startswith("time in BPF programs")
    assert by(PART) == "what service, load and agent take more together, of a part of an agent"
    both = by("sum", WITHIN)
    assert both.startswith("time in BPF programs")
    assert both.endswith("; what the service takes more, of what runs in it")
