"""The proof of the gate, and its simulated curve: both tell right from wrong."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import injection
from harness.model import Arm
from tests.unit import synthetic

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "ci"


@pytest.mark.parametrize("blind", [False, True])
def test_the_proof_tells_right_from_wrong(
    blind: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With evaluations made up: a gate that does not see the slowdown is called wrong."""
    proof = _script("prove_gate", monkeypatch)
    burnt: list[int] = []
    sizes = _burns(proof, monkeypatch)

    def evaluate(options: Any, name: str, ns: int, seed: int) -> int:
        burnt.append(ns)
        sizes[name] = ns
        (options.reports / name).mkdir()
        document = _report(name, 0.0 if blind else ns / 2000)
        (options.reports / name / "report.json").write_text(json.dumps(document))
        return 0

    monkeypatch.setattr(proof, "_evaluate", evaluate)
    reports, table = tmp_path / "proof", tmp_path / "proof.md"
    argv = ["prove_gate.py", "--runs", "1", "--reports", str(reports), "--output", str(table)]
    monkeypatch.setattr(sys, "argv", argv)
    assert proof.main() == (1 if blind else 0)
    assert burnt == [0, 8000, 0]  # 2 % of 200 us in half a burn a request
    lines = [line for line in table.read_text().splitlines() if line.startswith("| e")]
    assert ["**wrong**" in line for line in lines] == [blind, False]


@pytest.mark.parametrize(("asked", "us", "right"), [(0.9, 2.2, False), (0.9, 1.8, True)])
def test_a_verdict_is_right_by_what_was_burnt_and_not_by_what_was_asked_for(
    asked: float, us: float, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass at 1.1 % of 200 us is wrong, though 0.9 % were asked for."""
    proof = _script("prove_gate", monkeypatch)
    row = proof.Row("e0.9-01", asked, 9000, "pass", 0, 40.0, "", "", "", 0.0, us, 200.0)
    assert row.right is right


def _burns(proof: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """By run how long each burn took, ns, to be filled; half a burn a request."""
    sizes: dict[str, int] = {}

    def injected(_options: Any, name: str) -> list[injection.Injected]:
        us = sizes[name] / 1000
        return [injection.Injected(0, us / 2, us / 2, us, us, 0.5)]

    monkeypatch.setattr(proof, "_injected", injected)
    return sizes


def _script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script of ci/ as a module."""
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("metric", ["bpf_difference_us", "workload_cpu_percent"])
def test_near_the_limit_the_proof_lets_a_run_stay_open(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval of +-0.1 % around 0.95 and 1.05 decides nothing; around 2 % it must."""
    proof = _script("prove_gate", monkeypatch)
    sizes = _burns(proof, monkeypatch)

    def evaluate(options: Any, name: str, ns: int, seed: int) -> int:
        sizes[name] = ns
        (options.reports / name).mkdir()
        document = _report(name, ns / 2000)
        (options.reports / name / "report.json").write_text(json.dumps(document))
        return 0

    monkeypatch.setattr(proof, "_evaluate", evaluate)
    table = tmp_path / "proof.md"
    argv = ["prove_gate.py", "--runs", "1", "--effects", "0.95", "1.05", "2", "--metric", metric,
            "--reports", str(tmp_path / "proof"), "--output", str(table)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", argv)
    assert proof.main() == 0
    text = table.read_text()
    assert f"(`{metric}`)" in text
    counts = {line.split(" | ")[0][2:]: line.split(" | ")[3:6] for line in text.splitlines()
              if line.startswith(("| 0", "| 1", "| 2"))}  # fmt: skip
    assert counts == {"0.95": ["0", "1", "0"], "1.05": ["0", "1", "0"], "2": ["0", "0", "1"]}


def test_the_simulated_gate_passes_what_costs_nothing_and_fails_what_costs_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = _script("simulate_gate", monkeypatch)
    arms = (Arm("baseline"), Arm("http", ("http",)))
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=6.0)
    run = synthetic.write(tmp_path / "run", what, synthetic.Truth({}))
    run.write_measurements()
    table = tmp_path / "curve.md"
    argv = ["simulate_gate.py", str(run.path), "--effects", "0", "10", "20", "--limit", "10",
            "--metric", "workload_cpu_percent", "--draws", "60",
            "--output", str(table)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", argv)
    assert simulated.main() == 0
    text = table.read_text()
    assert text.startswith("# The gate's operating characteristic, simulated")
    shares = [[float(cell) for cell in line.split(" | ")[1:4]]
              for line in text.splitlines() if line.startswith(("| 0", "| 1", "| 2"))]  # fmt: skip
    nothing, limit, much = shares
    assert nothing[0] > 90
    assert much[2] > 90
    assert limit[0] < 15
    assert limit[2] < 15


def _report(name: str, difference: float) -> dict[str, Any]:
    def row(metric: str, unit: str, value: float, level: float) -> dict[str, Any]:
        return {
            "workload": "go", "arm": "new", "metric": metric, "unit": unit, "estimate": value,
            "low": value - 0.2, "high": value + 0.2, "n": 8, "mde": None, "level": level,
            "method": "made up",
        }  # fmt: skip

    return {
        "schema_version": 1, "run": name, "complete": True, "trials": [], "skipped_arms": [],
        "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:30+00:00",
        "rows": [
            row("workload_cpu_us", "us/request", difference, 200.0),
            row("workload_cpu_percent", "%", difference / 2, 100.0),
            row("bpf_difference_us", "us/request", difference, 4.0),
        ],
    }  # fmt: skip
