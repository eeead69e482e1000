"""Instructions a request: scaled counts, estimates of known effects, and what a report says."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.summary import summarize
from harness.meters import counters
from harness.model import Arm, WindowRow
from harness.report import build, conditions, terminal
from harness.results.run import Run
from tests.unit import synthetic
from tests.unit.synthetic import Truth

PER_REQUEST, MORE, CYCLES = 60_000.0, 900.0, 2.0
ARMS = (Arm("baseline"), Arm("http", ("http",)))
OTHERS = (Arm("baseline"), Arm("twin", ("http",), (), "twin"), Arm("block", ("http",), (), "block"))
THERE = {"hardware_counters": "there"}


def counted(path: Path, arms: tuple[Arm, ...], share: float = 1.0, **keys: Any) -> Run:
    """A run whose service needs MORE instructions a request in on windows, at CYCLES each."""
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=6.0, **keys)
    run = synthetic.write(path, what, Truth())
    for record in run.records():
        if record.trial.kind == "switched":
            has = bool(what.arm(record.trial.arm).collectors)
            rows = [_with(row, has, share) for row in run.windows(record.trial)]
            run.append(record, rows)
    run.note(facts={**run.about().facts, **THERE})
    return run


def _with(row: WindowRow, has: bool, share: float) -> WindowRow:
    m, more = row.meters, {}
    for suffix in ("", ".twin") if "cpu.twin" in m else ("",):
        requests, on = m[f"requests{suffix}"], has and row.window.on
        instructions = round(requests * (PER_REQUEST + MORE * on + row.window.index % 7))
        more[f"instructions{suffix}"] = float(instructions)
        more[f"cycles{suffix}"] = CYCLES * instructions
        more[f"counters.enabled{suffix}"] = 0.04
        more[f"counters.running{suffix}"] = 0.04 * share
    return replace(row, meters={**m, **more})


@pytest.mark.parametrize(("arms", "arm"), [(ARMS, "http"), (OTHERS, "twin"), (OTHERS, "block")])
def test_a_known_number_of_instructions_comes_back(
    arms: tuple[Arm, ...], arm: str, tmp_path: Path
) -> None:
    summary = summarize(counted(tmp_path / "run", arms, blocks=6))
    for metric, times in (("instructions_per_request", 1.0), ("cycles_per_request", CYCLES)):
        row = summary.row("go", arm, metric)
        assert row is not None
        assert row.estimate == pytest.approx(times * MORE, rel=0.02)
        assert row.low <= times * MORE + 5
        assert row.high >= times * MORE - 5
        assert row.level == pytest.approx(times * PER_REQUEST, rel=0.01)
    percent = summary.row("go", arm, "instructions_percent")
    assert percent is not None
    assert percent.estimate == pytest.approx(100 * MORE / PER_REQUEST, rel=0.02)
    ipc = summary.row("go", arm, "instructions_per_cycle")
    assert ipc is not None
    assert ipc.level == pytest.approx(1 / CYCLES)
    assert ipc.estimate == pytest.approx(0, abs=1e-9)
    assert summary.row("go", arm, "cache_misses_per_request") is None  # it had none


def test_instructions_with_more_cycles_are_fewer_a_cycle(tmp_path: Path) -> None:
    run = counted(tmp_path / "run", ARMS)
    for record in run.records():
        if record.trial.arm == "http" and record.trial.kind == "switched":
            rows = [
                replace(r, meters={**r.meters, "cycles": r.meters["cycles"] * (1 + r.window.on)})
                for r in run.windows(record.trial)
            ]
            run.append(record, rows)
    row = summarize(run).row("go", "http", "instructions_per_cycle")
    assert row is not None
    assert row.estimate == pytest.approx(-1 / CYCLES / 2, rel=0.01)


def test_every_form_of_the_report_tells_them(tmp_path: Path) -> None:
    built = build.build(counted(tmp_path / "run", ARMS))
    ((title, _),) = terminal.tables(built.summary)
    assert title.startswith("What the processor")
    for text in (built.html.read_text(), built.markdown.read_text()):
        assert "What the processor counted" in text
        assert "instr." in text
        assert "counted by the processor, all of the time" in text
    metrics = {row["metric"] for row in json.loads(built.json.read_text())["rows"]}
    assert {"instructions_per_request", "instructions_per_cycle"} <= metrics


def test_what_others_had_the_counters_for_is_said(tmp_path: Path) -> None:
    summary = summarize(counted(tmp_path / "run", ARMS, share=0.5))
    assert dict(conditions.measuring(summary))["instructions"] == (
        "counted by the processor in 50 % of the time, as others use its counters too, "
        "and scaled up"
    )


@pytest.mark.parametrize(
    ("facts", "keys", "said"),
    [
        ({"hardware_counters": "none (No such file or directory)"}, {},
         "not counted: the machine has no hardware counters (No such file or directory)"),
        (THERE, {"count_instructions": False}, "not counted: the experiment says so"),
        (THERE, {}, "not counted: the kernel has counters, but gave none for the service"),
    ],
)  # fmt: skip
def test_a_run_without_them_says_why_in_one_line(
    facts: dict[str, str], keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    what = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=1.2, **keys)
    run = synthetic.write(tmp_path / "run", what)
    run.note(facts={**run.about().facts, **facts})
    built = build.build(run)
    assert dict(conditions.measuring(built.summary))["instructions"] == said
    assert f"Instructions {said}." in built.markdown.read_text()
    assert terminal.tables(built.summary) == []
    why = built.summary.missing("go", "http", "instructions_per_request")
    assert "counters were not read" in why


def test_a_run_of_an_earlier_version_says_nothing_of_it(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=1.2)
    summary = summarize(synthetic.write(tmp_path / "run", what))
    assert "instructions" not in dict(conditions.measuring(summary))


def test_a_count_is_scaled_to_the_time_in_which_it_was_to_count() -> None:
    reader, writer = os.pipe()
    count = counters._Count(reader)
    told = []
    for reading in ((100, 10, 10), (200, 30, 15), (200, 40, 15), (260, 50, 25)):
        os.write(writer, struct.pack("=QQQ", *reading))
        told.append(count.read())
    os.close(reader)
    os.close(writer)
    # then 100 in 5 of 20; then none at all; then 60 in 10 of the 20 since
    assert told == [100, 500, 500, 620]
    assert (count.enabled, count.running) == pytest.approx((50e-9, 25e-9))
