"""docs/run-directory.md and the code name the same files, keys, values and columns."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from harness.load.record import Record
from harness.model import Arm, Measurement, Trial, Window
from harness.results import requests
from harness.results.about import About
from harness.results.run import Run, TrialRecord
from tests.unit import stacked, synthetic
from tests.unit.documented import files, strangers, table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    arms = (
        Arm("baseline"), Arm("all", synthetic.COLLECTORS), Arm("twin", ("http",), (), "twin"),
        Arm("new", ("http",), ("flows",)), Arm("one", ("http",), method="factorial"),
        Arm("both", ("http", "guard"), method="factorial"),
    )  # fmt: skip
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=1.6)
    return synthetic.write(tmp_path_factory.mktemp("runs") / "r", what)


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_the_keys_of_a_run_and_of_a_trial_are_those_of_the_code() -> None:
    assert table("run.json") == names(About)
    assert table("trial.json") == names(TrialRecord)
    assert table("trial.json", "`trial` holds") == names(Trial)
    assert table("trial.json", "A value holds") == names(Measurement)
    assert table("windows.jsonl") == {*names(Window), "meters"}


def test_the_columns_of_requests_are_those_that_are_written_and_read(tmp_path: Path) -> None:
    record = Record()
    record.add(1, 2, 3, 200, False, "/", 10, twin=True)
    record.write(tmp_path / requests.NAME)
    with np.load(tmp_path / requests.NAME) as columns:
        assert table("requests.npz") == set(columns)
    assert table("requests.npz") - {"bytes"} | {"size"} == names(requests.Requests)


def test_a_run_holds_nothing_that_is_not_told(run: Run, tmp_path: Path) -> None:
    for each in (run, stacked.write(tmp_path / "full")):
        assert strangers(each) == []


def test_what_is_not_told_is_found(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), arms=(Arm("baseline"),), switched_seconds=1.2)
    run = synthetic.write(tmp_path / "r", what)
    record = run.records()[0]
    odd = dataclasses.replace(record.values[0], metric="odd")
    run.append(
        dataclasses.replace(record, values=(odd,), extra={"strange": 1}), run.windows(record.trial)
    )
    (run.path / "foreign").write_text("")
    found = json.loads((run.path / "run.json").read_text())
    found["calibration"]["go"]["cpu_share"] = 0.5
    (run.path / "run.json").write_text(json.dumps({**found, "unknown": 1}))
    names = {one.split()[-1] for one in strangers(run)}
    assert names == {"odd", "strange", "foreign", "unknown", "cpu_share"}


def literals() -> Iterator[str]:
    """The strings of the code, as patterns; what is put into one is any word."""
    for path in (Path(__file__).resolve().parents[2] / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else r"\w+"
                         for p in node.values]  # fmt: skip
                yield "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)


def test_every_value_that_is_told_is_one_that_the_code_writes() -> None:
    known = [each for each in set(literals()) if r"\w+" not in each or len(each) >= 12]
    for metric in table("trial.json", "### Values"):
        assert any(re.fullmatch(each, metric) for each in known), metric


def test_patterns_of_files_are_told_apart() -> None:
    assert any(fnmatch("trials/TRIAL/pprof-x/profile.pb.gz", each) for each in files())
    assert not any(fnmatch("trials/TRIAL/other.npz", each) for each in files())
