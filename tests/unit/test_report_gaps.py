"""What a report says of a run that lacks something, or in which something is amiss."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.summary import summarize
from harness.plan import experiment as experiments
from harness.report import headline, tiles, wording
from harness.report.table import lines as table_of
from harness.results.run import Run, TrialRecord
from tests.unit import synthetic
from tests.unit.costed import changeable
from tests.unit.test_report import ARMS, LOUD, TINY, html_of, partial


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


def test_why_an_arm_was_skipped_is_told_once_beside_the_first_sentences(tmp_path: Path) -> None:
    run = partial(tmp_path, 99)
    replace_trial(run, "all", status="skipped", reason="There is no such program.")
    run.note(skipped_arms=[{"arm": "all", "reason": "There is no such program."}])
    found = summarize(run)
    (said,) = [each for each in found.warnings if "no such program" in each]
    assert said == "Arm all was skipped: There is no such program."
    assert said in headline.notes(found)


def test_an_arm_that_was_measured_after_all_is_not_called_skipped(tmp_path: Path) -> None:
    run = partial(tmp_path, 99, skipped_arms=[{"arm": "all", "reason": "There was no program."}])
    assert not [each for each in summarize(run).warnings if "skipped" in each]


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
    (card,) = [each for each in tiles.tiles(found) if each.title == "Lowest coverage"]
    assert (card.figure, card.about) == ("not measured", found.missing("go", "http", row))


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
                changeable(row)["cpu.workload"] *= 1.5 if row.window.on else 1.0
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
                changeable(row)["cpu.workload"] *= 1.5 if is_more else 1.0
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
