"""The proof of latency's intervals: it finds those that hold the truth, and those that do not."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import percentiles
from harness.model import Arm
from tests.unit import synthetic

SCRIPT = Path(__file__).resolve().parents[2] / "ci" / "prove_latency.py"
DRAWS = 12


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("prove_latency", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prove_latency", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SHAPES", ((2, 6.0),))
    monkeypatch.setattr(module, "TOLD", ("p50",))
    return module


@pytest.mark.parametrize("wrong_us", [0.0, 500.0])
def test_the_share_that_holds_the_truth_is_found(
    wrong_us: float, proof: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimate that is 500 us off holds nothing; the product's does, effect or not."""
    what = synthetic.experiment(workloads=("go",), arms=(Arm("baseline"),), switched_seconds=8.0)
    run = synthetic.write(tmp_path / "run", what, synthetic.Truth({}))
    shift = percentiles.shift

    def off(*given: Any) -> Any:
        found = shift(*given)
        if found is None:
            return None
        value = found.value
        moved = replace(value, low=value.low + wrong_us, high=value.high + wrong_us)
        return replace(found, value=moved)

    monkeypatch.setattr(percentiles, "shift", off)
    table = tmp_path / "latency.md"
    argv = ["prove_latency.py", str(run.path), "--draws", str(DRAWS), "--output", str(table)]
    monkeypatch.setattr(sys, "argv", argv)
    assert proof.main() == 0
    lines = [line for line in table.read_text().splitlines() if line.startswith("| run, go")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cell[3] for cell in cells] == ["0 %", "10 %"]
    assert [cell[4] for cell in cells] == ["100", "100"]
    held = [float(cell[5].split()[0]) for cell in cells]
    assert all(share >= 70 for share in held) if not wrong_us else held == [0.0, 0.0]
