"""ci/measure_spans.py: an agent gets as many spans as it is to bear, and what is lost is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.linux import processes

pytestmark = pytest.mark.bpf

ROOT = Path(__file__).parents[2]


def test_of_twenty_thousand_spans_a_second_none_is_lost_unsaid(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    words = ["--rate", "20000", "--seconds", "1.5", "--rounds", "1", "--output", str(table)]
    processes.run([sys.executable, str(ROOT / "ci/measure_spans.py"), *words], timeout=300)
    lines = [line.strip("| ").split(" | ") for line in table.read_text().splitlines()[2:]]
    names, rows = lines[0][1:], {line[0]: line[1:] for line in lines[2:]}
    assert set(rows) == {"Python", "C"}
    for cells in rows.values():
        told = dict(zip(names, cells, strict=True))
        assert float(told["spans"]) > 5_000  # several rings of them, on a busy machine, too
        assert float(told["lost, unsaid"]) == 0
