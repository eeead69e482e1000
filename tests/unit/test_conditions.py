"""What a report makes and tells of spoiled trials, of conditions, and of runs from before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.summary import summarize
from harness.model import Arm
from harness.plan.experiment import plan
from harness.report import build, conditions
from harness.results.run import Run, TrialRecord
from tests.unit import synthetic
from tests.unit.costed import LOUD, bpf_truth, experiment, row


def spoil(run: Run, **extra: Any) -> TrialRecord:
    """Make the first trial of `http` one that broke a rule."""
    first = next(r for r in run.records() if r.trial.arm == "http" and r.trial.kind == "switched")
    spoiled = dataclasses.replace(first, extra={"saturated": "it fell behind", **extra})
    run.append(spoiled, run.windows(first.trial))
    return first


def test_a_spoiled_trial_is_shown_and_its_repetition_used(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    first = spoil(run)
    assert row(summarize(run), "http", "workload_cpu_us").n == 4 * what.quadruples
    again = dataclasses.replace(first.trial, attempt=1)
    synthetic.add(run, what, again, LOUD, np.random.default_rng(9))
    summary = summarize(run)
    assert row(summary, "http", "workload_cpu_us").n == 8 * what.quadruples
    page = build.build(run).html.read_text()
    assert "It fell behind." in page
    assert f"replaced by {again.name}" in page


def test_a_repetition_is_no_second_chance_for_a_result(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    before = row(summarize(run), "http", "workload_cpu_us")
    first = next(r for r in run.records() if r.trial.arm == "http" and r.trial.kind == "switched")
    again = dataclasses.replace(first.trial, attempt=1)
    synthetic.add(run, what, again, LOUD, np.random.default_rng(9))
    assert row(summarize(run), "http", "workload_cpu_us") == before


def test_conditions_are_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    warm = [{"workload": "go", "block": 0, "seconds": 30.0, "steady": False}]
    early = {"go": {"blocks": 1, "reason": "Every interval was narrow enough."}}
    run = synthetic.write(tmp_path / "run", what, LOUD, warmups=warm, ended_early=early)
    page = build.build(run).html.read_text()
    assert "50 ms, from the machine&#39;s certificate" in page
    assert "6 ms, the default: no certificate" in page
    assert "polled instead of halting" in page
    assert "had not become steady after 30 s" in page
    assert "after 1 of 2 blocks. Every interval was narrow enough." in page


def test_the_service_s_cpus_and_settings_that_disturb_are_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2, service_cpus=2)
    found = {
        "cpus_usable": list(range(8)),
        "knobs": {"boost": "on", "swap": "none", "idle CPUs": "they halt"},
        "knobs_to_set": ["boost", "idle CPUs"],
    }
    place = {"workload": [0, 1], "load": [6], "collector": [7], "orchestrator": [7], "idle": []}
    run = synthetic.write(tmp_path / "run", what, LOUD, facts=found, placement=place)
    told = dict(conditions.measuring(summarize(run)))
    assert told["service's CPUs"] == "2 of 8 (CPUs 0-1), 2 at most were asked for"
    assert told["settings that disturb"] == "boost: on"


def test_several_load_workers_are_told_and_one_is_not_worth_a_word(tmp_path: Path) -> None:
    for workers in (1, 2):
        what = experiment(Arm("http", ("http",)), switched_seconds=1.2, load_workers=workers)
        run = synthetic.write(tmp_path / f"run{workers}", what, LOUD)
        told, page = dict(conditions.measuring(summarize(run))), build.build(run).html.read_text()
        several = "2 processes, each with its share of the arrivals"
        assert told.get("load workers") == (several if workers == 2 else None)
        assert ("(driver at 73 % of its CPU)" in page) == (workers == 1)
        assert ("(busiest of 2 load workers at 73 % of its CPU)" in page) == (workers == 2)


def test_where_the_load_came_from_and_how_well_its_clock_was_known_are_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    node = {"target": "ssh:far", "url": "http://192.0.2.7/", "facts": {}}
    run = synthetic.write(tmp_path / "run", what, LOUD, load_node=node)
    clocks = [(7.2e12, 40_000, -1_000), (7.2e12, 110_000, 20_000)]
    for path, clock in zip(sorted(run.path.glob("trials/*/trial.json")), clocks, strict=False):
        trial = json.loads(path.read_text())
        names = ("ahead_ns", "uncertainty_ns", "parted_ns")
        trial["extra"]["clock"] = dict(zip(names, clock, strict=True))
        path.write_text(json.dumps(trial))
    page = build.build(run).html.read_text()
    assert "The load comes from another machine, whose CPU is in no figure." in page
    assert "over loopback: a service" not in page
    told = dict(conditions.measuring(summarize(run)))
    assert told["load"].startswith("from ssh:far, which reached the service at http://192.0.2.7/;")
    assert told["clock of the load"] == (
        "+7,200.000 s from the service's, known to 0.11 ms at worst (0.6 ms are allowed, a tenth "
        "of the guard); at most 0.02 ms further apart after a trial than before it, which is taken "
        "into account"
    )


def test_a_client_on_another_machine_has_no_row(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    assert row(summarize(run), "http", "client_cpu_us").n > 0
    for record in run.records():
        if record.trial.kind == "switched":
            rows = run.windows(record.trial)
            far = [dataclasses.replace(r, meters={**r.meters, "cpu.client": 0.0}) for r in rows]
            run.append(record, far)
    found = summarize(run)
    assert row(found, "http", "workload_cpu_us").n > 0
    told = {each.metric for each in found.rows}
    assert not told & {"client_cpu_us", "context_cpu_us", "residual_us"}


def test_of_load_from_beside_the_service_nothing_is_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    told = dict(conditions.measuring(summarize(synthetic.write(tmp_path / "run", what, LOUD))))
    assert told
    assert not {"load", "clock of the load"} & told.keys()


def test_the_page_s_limits_do_not_deny_what_its_method_says(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    page = build.build(synthetic.write(tmp_path / "run", what, LOUD)).html.read_text()
    method = page.partition('<section id="method">')[2]
    assert "over those of its other routes" in method
    assert "latency and the rest are not corrected" not in method
    assert "The load comes from this machine over loopback" in method


def test_what_was_refused_is_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    found = {"capacity": 300.0, "driver_cpu_share": 0.2, "rate": 120, "refused": 1420.0,
             "failures": {"429 Too Many Requests": 2840}}  # fmt: skip
    run = synthetic.write(tmp_path / "run", what, LOUD, calibration={"go": found})
    built = build.build(run)
    page, told = built.html.read_text(), " ".join(summarize(run).warnings)
    assert "reached 300 a second in a closed loop, beside 1,420 a second not answered well" in page
    assert "go: pressed with all connections it answered 300 requests a second well" in told
    assert "and 1,420 a second not (2,840 x 429 Too Many Requests)" in told


def test_how_requests_failed_is_told(tmp_path: Path) -> None:
    """Few are told beside the figures; many spoil the trial, and its reason says what they were."""
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    few, many, *_ = [r for r in run.records() if r.trial.kind == "switched"]
    for record, lost in ((few, 1), (many, 500)):
        values = tuple(
            dataclasses.replace(v, value=float(lost)) if v.metric == "errors_total" else v
            for v in record.values
        )
        kinds = {"connection closed without a whole answer": lost}
        extra = {**record.extra, "failures": kinds, "first_failed": "GET /api"}
        spoiled = dataclasses.replace(record, values=values, extra=extra)
        run.append(spoiled, run.windows(record.trial))
    summary = summarize(run)
    assert (
        "go: 1 of the requests in trials that are used failed: 1 x connection closed without a "
        "whole answer." in summary.warnings
    )
    (bad,) = [judged for judged in summary.trials if not judged.usable]
    assert bad.reason.endswith(
        "How they failed: 500 x connection closed without a whole answer, first GET /api."
    )


def test_requests_beside_the_measured_port_are_told(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    covered = row(summarize(run), "http", "coverage_percent[requests]")
    first = next(r for r in run.records() if r.trial.arm == "http" and r.trial.kind == "switched")
    seen = next(v for v in first.values if v.metric == "signal_seen")
    beside = dataclasses.replace(
        seen, metric="signal_beside", value=1800.0, labels={**seen.labels, "port": "8081"}
    )
    more = dataclasses.replace(first, values=(*first.values, beside))
    run.append(more, run.windows(first.trial))
    summary = summarize(run)
    assert row(summary, "http", "coverage_percent[requests]") == covered
    (told,) = [text for text in summary.warnings if "port 8081" in text]
    assert told.startswith("go: http also told of 1,800 requests at port 8081")


def test_a_run_from_before_all_this_still_has_a_report(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    new = ("idle_poll", "instrument", "warmups", "ended_early")
    known = json.loads((run.path / "run.json").read_text())
    about = {key: each for key, each in known.items() if key not in new}
    for key in ("idle_poll", "min_blocks", "replacements", "warmup_limit_seconds"):
        del about["experiment"][key]
    (run.path / "run.json").write_text(json.dumps(about))
    for each in run.records():
        values = tuple(
            dataclasses.replace(v, labels={k: x for k, x in v.labels.items() if k != "hook"})
            for v in each.values if v.metric != "steady_sink_cpu_seconds"
        )  # fmt: skip
        rows = run.windows(each.trial) if each.trial.kind == "switched" else ()
        run.append(dataclasses.replace(each, values=values), rows)
    summary = summarize(run)
    assert row(summary, "http", "bpf_us").estimate == pytest.approx(bpf_truth("http"))
    assert summary.row("go", "http", "entry_us") is None
    assert "No certificate of this machine" in summary.missing("go", "http", "entry_us")
    page = build.build(run).html.read_text()
    assert "not recorded: they halted, as far as is known" in page
    assert "entry to a program is not in it" in page


def first_of(run: Run) -> TrialRecord:
    return next(r for r in run.records() if r.trial.arm == "http" and r.trial.kind == "switched")


def test_why_a_trial_was_not_measured_is_told_of_a_run_that_was_interrupted(tmp_path: Path) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD, complete=False, warnings=["Of the run."])
    record = first_of(run)
    run.append(dataclasses.replace(record, status="failed", reason="It died."))
    warnings = summarize(run).warnings
    assert warnings[:2] == (f"{record.trial.name}: It died.", "Of the run.")


def test_a_trial_that_was_measured_again_is_not_reported_as_failed(tmp_path: Path) -> None:
    """Also where an earlier version noted why with the run."""
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "run", what, LOUD)
    record = first_of(run)
    rows, told = run.windows(record.trial), f"{record.trial.name}: It died."
    run.append(dataclasses.replace(record, status="failed", reason="It died."))
    run.note(warnings=[told])
    assert summarize(run).warnings.count(told) == 1
    run.set_aside(record.trial)
    run.append(record, rows)
    assert told not in summarize(run).warnings


def test_a_block_that_an_error_ended_is_told_until_the_rest_of_it_is_measured(
    tmp_path: Path,
) -> None:
    what = experiment(Arm("http", ("http",)), switched_seconds=1.2)
    broken = [{"workload": "go", "block": 1, "reason": "It died."}]
    run = synthetic.write(tmp_path / "run", what, LOUD, only=range(4), broken_blocks=broken)
    told = "go, block 2 ended early: It died."
    assert told in summarize(run).warnings
    for trial in plan(what)[4:]:
        synthetic.add(run, what, trial, LOUD, np.random.default_rng(trial.index))
    assert told not in summarize(run).warnings
