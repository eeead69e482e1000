"""A run as DataFrames and as Parquet: everything that was stored, and nothing else."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import NeedError, StoreError
from harness.model import BASELINE, FACTORIAL, Arm
from harness.report import build
from harness.results import Frames, frames, requests
from harness.results.run import Run
from tests.unit import synthetic

pd = pytest.importorskip("pandas", reason="pandas is not installed (make data)")
pytest.importorskip("pyarrow", reason="pyarrow is not installed (make data)")

ARMS = (
    Arm(BASELINE, method=FACTORIAL), Arm("http", ("http",), method=FACTORIAL),
    Arm("flows", ("flows",), method=FACTORIAL),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    what = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=4.0)
    made = synthetic.write(tmp_path_factory.mktemp("runs") / "r", what)
    build.build(made)
    return made


@pytest.fixture(scope="module")
def found(run: Run) -> Frames:
    return frames(run.path)


def test_every_window_is_a_row_with_its_meters_and_states(run: Run, found: Frames) -> None:
    stored = [(r.trial, row) for r in run.records() for row in run.windows(r.trial)]
    assert len(found.windows) == len(stored)
    trial, row = stored[7]
    mine = found.windows[found.windows["trial"] == trial.name]
    told = mine[mine["window"] == row.window.index].iloc[0]
    assert told["cpu.workload"] == row.meters["cpu.workload"]
    assert [told["on[http]"], told["on[flows]"]] == list(row.window.states[:2])


def test_every_request_is_a_row_with_its_latency(run: Run, found: Frames) -> None:
    trial = run.records()[0].trial
    kept = requests.read(run.path / "trials" / trial.name / requests.NAME)
    mine = found.requests[found.requests["trial"] == trial.name]
    assert np.array_equal(mine["due_ns"], kept.due_ns)
    assert np.allclose(mine["latency_us"], (kept.end_ns - kept.due_ns) / 1e3)
    assert set(mine["route"]) <= set(kept.route_names)


def test_every_trial_is_a_row_with_its_values_and_their_units(run: Run, found: Frames) -> None:
    record = run.records()[0]
    told = found.trials[found.trials["trial"] == record.trial.name].iloc[0]
    value = next(v for v in record.values if v.metric == "rate_achieved")
    assert (told["status"], told["rate_achieved"]) == ("ok", value.value)
    assert found.trials.attrs["units"]["rate_achieved"] == value.unit
    assert len(found.trials) == len(run.records())


def test_no_two_values_of_a_trial_have_one_column(run: Run, found: Frames) -> None:
    for record in run.records():
        told = found.trials[found.trials["trial"] == record.trial.name].iloc[0].dropna()
        assert len(record.values) <= len(told) - 8 + (record.reason == "")


def test_estimates_are_those_of_the_report(found: Frames) -> None:
    rows = found.estimates.set_index(["arm", "metric"])
    assert rows.loc[("http", "workload_cpu_us"), "low"] < 6.0
    assert rows["p_holm"].dtype == float


def test_parquet_holds_the_same(run: Run, found: Frames, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run.path), "--to", str(tmp_path / "to")])
    assert done.exit_code == 0, done.output
    for name, frame in vars(found).items():
        back = pd.read_parquet(tmp_path / "to" / f"{name}.parquet")
        pd.testing.assert_frame_equal(back, frame)


def test_a_run_without_a_report_or_trials_has_empty_frames(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=4.0)
    empty = frames(synthetic.write(tmp_path / "r", what, only=()).path)
    assert all(frame.empty for frame in vars(empty).values())


def test_a_damaged_report_is_told_of(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=4.0)
    made = synthetic.write(tmp_path / "r", what, only=())
    (made.path / "report.json").write_text("{")
    with pytest.raises(StoreError, match="harness report"):
        frames(made)


def test_without_pandas_the_way_to_get_it_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "pandas")
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(NeedError, match="make data"):
        frames(run)
