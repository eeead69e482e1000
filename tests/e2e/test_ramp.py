"""`harness ramp` on the real stack: what was sent is counted, found again, and nothing stays."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import ramp as analysis
from harness.benchmarks import ramp
from harness.linux import mount, processes
from harness.node import machine
from harness.stack import config, ledger, lifecycle, readback
from harness.stack.config import Stack
from tests.e2e import stacked

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

HARNESS = [sys.executable, "-m", "harness"]
PAIR = ("prometheus", "otelcol")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Collector and Prometheus alone, up, with their files in a folder of the test's."""
    stacked.require(stacked.roles("metrics", "otelcol"))
    monkeypatch.setattr(lifecycle, "PROGRAMS", {name: config.PROGRAMS[name] for name in PAIR})
    monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "run" / "stack")
    monkeypatch.setattr(lifecycle, "GROUP", f"stack-test-{os.getpid()}")
    monkeypatch.setattr(readback, "prove", lambda stack: [])
    roles = stacked.roles("metrics", "otelcol")
    yield lifecycle.up(Stack(tmp_path / "stack"), roles, lambda _: None).stack
    lifecycle.down()


def test_points_are_counted_and_nothing_is_lost(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four small steps, whatever they say: the figures agree with each other."""
    rates = iter((1000.0, 2000.0, 4000.0, None))
    monkeypatch.setattr(analysis, "next_rate", lambda *_: next(rates))
    asked = ramp.Asked(("points",), step_seconds=5.0, command=("harness", "ramp"))
    path, told = tmp_path / "reports" / "r", list[str]()
    ramp.create(path, asked)
    found = ramp.ramp(path, asked, told.append)
    own = found["signals"]["points"]
    idle, *loaded = own["steps"]
    assert idle["sent"] == {}
    for step in loaded:
        sent = step["sent"]
        gone = ("refused", "rejected", "failed", "held", "starved")
        assert sent["due"] == sent["accepted"] + sum(sent[key] for key in gone)
        assert sent["due"] >= 5 * step["rate"]
        assert sent["accepted"] > 0
        assert step["counts"]["accepted"] >= sent["accepted"]
        assert len(step["lags"]) >= 3
        assert step["cpu"]["otelcol"] > 0
        assert step["cpu"]["generator"] > 0
        assert step["memory"]["prometheus"] > 20
    accepted = sum(step["sent"]["accepted"] for step in loaded)
    assert own["account"]["found"] == own["account"]["accepted"] == round(3.4 * accepted)
    assert len(told) == 5
    for name in ("ramp.md", "ramp.png", "ramp.svg", "steps.jsonl", "run.json"):
        assert (path / name).stat().st_size > 200
    _nothing_is_left(path.name)
    assert ledger.state() is not None  # it was up before, so it still is


def test_ctrl_c_ends_in_order(tmp_path: Path) -> None:
    stacked.require(stacked.roles())
    process = processes.spawn(
        [*HARNESS, "ramp", "--signal", "logs", "--reports", str(tmp_path), "--run", "c"],
        log=tmp_path / "log", env={"XDG_STATE_HOME": str(tmp_path / "state")},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "c" / "generator.jsonl").exists():
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    assert processes.ended(process, 60) == 130
    assert "What was started has been ended" in (tmp_path / "log").read_text()
    _nothing_is_left("c")
    assert ledger.state() is None
    assert not (tmp_path / "state" / "harness").exists()


def test_a_whole_ramp_of_spans(tmp_path: Path) -> None:
    stacked.require(stacked.roles())
    done = processes.run(
        [*HARNESS, "ramp", "--signal", "spans", "--start", "500", "--factor", "4", "--quiet",
         "--step-seconds", "4", "--reports", str(tmp_path), "--run", "r", "--json"],
        check=False, timeout=900, env={"XDG_STATE_HOME": str(tmp_path / "state")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    own = found["signals"]["spans"]
    assert "On " in own["verdict"]
    assert own["capacity"]["rate"] >= 500
    assert own["capacity"]["at_least"] or own["capacity"]["reasons"]
    assert own["account"]["whole"] == own["account"]["traces"] > 0
    assert own["account"]["found"] >= own["account"]["accepted"]
    _nothing_is_left("r")
    assert ledger.state() is None
    again = processes.run([*HARNESS, "ramp", "--report", str(tmp_path / "r")])
    assert own["verdict"][:40] in again.stdout


def _nothing_is_left(run: str) -> None:
    root = mount.find("cgroup2")
    assert root is not None
    assert not (root / "harness" / f"ramp-{run}").exists()
    assert machine.leftovers() == []
