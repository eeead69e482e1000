"""What the methods make of edges and blocks, without a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.load.record import Record, read
from harness.model import Trial
from harness.node import twin
from harness.node.twin import _Edge
from harness.plan.experiment import pattern
from harness.plan.trials import installed_first
from harness.wire.spec import WindowState

MS = 1_000_000


def _trial(block: int, arm: str = "http") -> Trial:
    return Trial(0, "go", block, arm, "switched", seed=1)


def test_every_other_block_begins_with_the_collectors() -> None:
    for seed in range(20):
        firsts = [installed_first(seed, _trial(block)) for block in range(6)]
        assert firsts == [firsts[0], not firsts[0]] * 3
    assert {installed_first(seed, _trial(0)) for seed in range(20)} == {True, False}
    assert {installed_first(1, _trial(0, f"arm{i}")) for i in range(20)} == {True, False}


def test_windows_of_twins_count_by_reading_and_last_from_aim_to_aim(tmp_path: Path) -> None:
    """Requests a ms apart, each answered 0.5 ms after it was due; meters are read 0.2 ms late."""
    quadruples, seed, window = 4, 7, 10
    states = pattern(quadruples, seed)
    log = Record()
    for k in range(window * len(states)):
        due = k * MS + 1
        plain = not states[k // window]
        log.add(due, due, due + MS // 2, 200 if k else 0, not k, "/", 3, twin=plain)
    log.write(tmp_path / "requests.npz")
    edges = [
        _Edge(i * window * MS, i * window * MS + MS // 5, {"cpu.workload": i / 8}, 0.001)
        for i in range(len(states) + 1)
    ]
    rows = twin._rows(
        edges, read(tmp_path / "requests.npz"), [WindowState(on, (on,)) for on in states]
    )
    assert [row.window.on for row in rows] == states
    assert [row.window.quadruple for row in rows] == [i // 4 for i in range(len(states))]
    assert [row.window.start_ns for row in rows[1:]] == [row.window.end_ns for row in rows[:-1]]
    for row in rows:
        assert row.meters["cpu.workload"] == 1 / 8
        assert row.meters["seconds"] == pytest.approx(0.01)
        mine, others = row.meters["requests"], row.meters["requests.twin"]
        if not row.window.on:
            mine, others = others, mine
        assert (mine, others) == (window - (row.window.index == 0), 0)  # one was not answered
