"""The report of whole, partial and damaged runs: what stands in it, and what must not."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.growth import SLOPE, WATCHED
from harness.analysis.harms import Harm
from harness.analysis.metrics import BRACKETS, COUNTED, IPC, METRICS
from harness.analysis.summary import summarize
from harness.analysis.value import ATTACHING
from harness.errors import StoreError
from harness.model import Arm, Comparison
from harness.plan import experiment as experiments
from harness.report import build, headline, wording
from harness.report.build import BuiltReport
from harness.report.table import difference
from harness.report.table import lines as table_of
from harness.results.run import Run, TrialRecord
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


def test_an_interrupted_run_says_so_and_shows_what_it_has(tmp_path: Path) -> None:
    run = partial(tmp_path, 3, complete=False, stopped_by="The workload died.", ended=None)
    page = html_of(run)
    assert "The run did not end. The workload died." in page
    assert "The run ended before a trial that measures it." in page
    assert 'data-row="go/http"' in page


def test_a_run_without_any_trial_still_has_a_report(tmp_path: Path) -> None:
    run = partial(tmp_path, 0, complete=False, calibration={}, facts={}, placement={})
    page = html_of(run)
    assert "No collector&#39;s cost was measured in this run." in page
    assert "not measured" in page
    assert json.loads((run.path / "report.json").read_text())["rows"] == []


def replace_trial(run: Run, arm: str, **changes: Any) -> None:
    """Rewrite how every trial of one arm ended."""
    for record in run.records():
        if record.trial.arm == arm:
            changed = dataclasses.replace(record, **changes)
            run.append(changed, () if changed.status != "ok" else run.windows(record.trial))


def test_a_failed_arm_is_listed_with_its_reason_and_not_estimated(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    replace_trial(run, "http", status="failed", reason="The agent did not attach: no BTF.")
    page = html_of(run)
    assert "No usable trial (failed): The agent did not attach: no BTF." in page
    assert summarize(run).row("go", "http", "workload_cpu_us") is None
    assert summarize(run).row("go", "all", "workload_cpu_us") is not None


def test_a_skipped_arm_is_named(tmp_path: Path) -> None:
    reason = "The kernel lacks perf events."
    run = synthetic.write(
        tmp_path / "run", TINY, LOUD,
        only=[t.index for t in experiments.plan(TINY) if t.arm != "all"],
        skipped_arms=[{"arm": "all", "reason": reason}],
    )  # fmt: skip
    page = html_of(run)
    assert page.count(reason) >= 2
    assert "The arm was skipped: " in page


def without(record: TrialRecord, metric: str) -> Mapping[str, Any]:
    return {"values": tuple(v for v in record.values if v.metric != metric)}


@pytest.mark.parametrize(
    ("metric", "row"),
    [
        ("agent_pss_bytes", "agent_memory_mb"),
        ("signal_made", "coverage_percent[requests]"),
        ("bpf_run_time_seconds", "bill_us"),
        ("steady_agent_cpu_seconds", "bill_us"),
    ],
)
def test_a_metric_that_is_absent_is_called_not_measured(
    tmp_path: Path, metric: str, row: str
) -> None:
    run = partial(tmp_path, 99)
    for record in run.records():
        changed = dataclasses.replace(record, **without(record, metric))
        switched = record.trial.kind == "switched"  # without slices, as runs once were
        run.append(changed, run.windows(record.trial) if switched else ())
    summary = summarize(run)
    assert summary.row("go", "http", row) is None
    assert summary.missing("go", "http", row) == "The trials did not record it."
    line = next(line for line in table_of(summary) if line.arm == "http")
    assert "not measured" in [cell.text for cell in line.cells]


def test_a_collector_that_names_no_signal_is_not_blamed_on_the_trials(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    for record in run.records():
        changed = dataclasses.replace(record, **without(record, "signal_made"))
        run.append(changed, run.windows(record.trial))
    run.note(collectors={"http": {"name": "mine", "signal": None}})
    found = summarize(run)
    row = "coverage_percent[requests]"
    assert found.missing("go", "http", row) == "mine names no signal that could be counted."
    assert found.missing("go", "all", row) == "The trials did not record it."


def test_programs_that_were_not_told_are_not_called_free(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    said = "go: http told of no BPF programs. If it has some, their time is missing from its bill."
    assert said not in summarize(run).warnings
    for record in run.records():
        if record.trial.kind == "metered":
            told = tuple(
                v
                for v in record.values
                if v.metric != "bpf_run_count" or v.labels["collector"] != "http"
            )
            run.append(dataclasses.replace(record, values=told), run.windows(record.trial))
    assert summarize(run).warnings.count(said) == 1


def test_an_invalid_trial_is_left_out_by_its_rule(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    for record in run.records():
        if record.trial.arm == "http" and record.trial.block == 0:
            told = {"saturated": "the load driver used 97% of its CPU"}
            run.append(dataclasses.replace(record, extra=told), run.windows(record.trial))
    summary = summarize(run)
    refused = [judged for judged in summary.trials if not judged.usable]
    assert len(refused) == 1
    row = summary.row("go", "http", "workload_cpu_us")
    assert row is not None
    assert row.n == 4 * TINY.quadruples
    assert "The load driver used 97% of its CPU." in html_of(run)


def test_a_baseline_that_shows_an_effect_is_warned_about(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    for record in run.records():
        if record.trial.arm == "baseline":
            rows = run.windows(record.trial)
            for row in rows:
                row.meters["cpu.workload"] *= 1.5 if row.window.on else 1.0
            run.append(record, rows)
    warnings = " ".join(summarize(run).warnings)
    shown = (
        rf"[+{wording.MINUS}]\d+\.\d\d"  # as everywhere on the page: no hyphen for a minus, no us
    )
    assert re.search(
        rf"with nothing installed the difference is not zero \({shown} µs \[{shown}, ", warnings
    )


def test_what_several_trials_warn_of_is_told_once(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    records = run.records()
    for record in records[:3]:
        extra = {**record.extra, "warnings": ["Another program was loaded."]}
        run.append(dataclasses.replace(record, extra=extra), run.windows(record.trial))
    (said,) = (text for text in summarize(run).warnings if "was loaded" in text)
    assert said == f"{records[0].trial.name} and 2 more: Another program was loaded."


def test_what_several_trials_warn_of_with_other_numbers_is_told_once(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    records = run.records()
    for i, record in enumerate(records[:3]):
        said = [f"Program {i} of {record.trial.name} was loaded.", f"Program {i} {i} was unloaded."]
        extra = {**record.extra, "warnings": said}
        run.append(dataclasses.replace(record, extra=extra), run.windows(record.trial))
    third = records[2].trial.name  # whose number is the largest
    told = [text for text in summarize(run).warnings if "loaded." in text]
    assert told == [
        f"{third} and 2 more: Program 2 of {third} was loaded. 2 more of the kind.",
        f"{third} and 2 more: Program 2 2 was unloaded. 2 more of the kind.",
    ]


def test_blocks_that_disagree_are_warned_about(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=ARMS[:2], switched_seconds=4.0)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    for record in run.records():
        if record.trial.arm == "baseline":
            rows = run.windows(record.trial)
            for row in rows:
                is_more = row.window.on == bool(record.trial.block)  # off in the first, then on
                row.meters["cpu.workload"] *= 1.5 if is_more else 1.0
            run.append(record, rows)
    (said,) = (text for text in summarize(run).warnings if "the blocks disagree" in text)
    assert re.search(rf"own intervals \({wording.MINUS}\d+\.\d\d, \+\d+\.\d\d µs\)", said), said


@pytest.mark.parametrize(("each", "drawn"), [(4, False), (24, False), (25, True)])
def test_a_few_samples_are_no_flame_graph(tmp_path: Path, each: int, drawn: bool) -> None:
    run = partial(tmp_path, 99)
    found = list(run.path.glob("trials/*/pprof/profile.folded"))
    assert len(found) == 2  # of which one graph is made
    for path in found:
        path.write_text(f"main;work {each}\n")
    assert ("CPU profile of go" in html_of(run)) == drawn


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
