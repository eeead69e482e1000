"""A run that goes by what ends trials early: it goes on with what is left, and says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analysis.summary import summarize
from harness.controller import evaluate
from harness.controller.due import pending
from harness.controller.evaluate import Outcome, Watch
from harness.model import Trial
from harness.plan import workloads
from harness.plan.definitions import resolve_all
from harness.plan.experiment import plan
from harness.results.run import Run
from harness.wire.spec import TrialResult, TrialSpec, Value
from tests.unit import synthetic
from tests.unit.test_block import Scripted
from tests.unit.test_spoilt import BUSY, DIES, REFUSED, WHAT, WHAT_NOT_FULL, rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    known: dict[str, Any] = {"skipped_arms": [], "warmups": [], "warnings": [], "calibration": {}}
    return Run.create(tmp_path / "r", WHAT_NOT_FULL, **known, ended_early={})


def evaluated(run: Run, does: Callable[[TrialSpec], TrialResult]) -> tuple[Outcome, Scripted]:
    """All blocks on a node that is scripted."""
    node, outcome, told = Scripted(does), Outcome(run), list[str]()
    nodes: Any = SimpleNamespace(
        node=lambda: node,
        held=lambda: None,
        lost_too_often=lambda _: False,
        serving=lambda asked, _: nullcontext(asked),
    )
    resolved: Any = SimpleNamespace(
        workloads={"go": workloads.load("go")}, definitions=resolve_all(WHAT)
    )
    watch = Watch(lambda _done, _of, label: told.append(label))
    evaluate._blocks(outcome, nodes, None, resolved, watch)
    evaluate._note_end(outcome)
    assert all(each in told for each in outcome.warnings if "is given up" in each)
    return outcome, node


def test_a_run_goes_on_with_the_arms_that_are_left_and_is_not_complete(run: Run) -> None:
    def does(spec: TrialSpec) -> TrialResult:
        failing = any(each.name == "http" for each in spec.candidates)
        if failing:
            return TrialResult("failed", error=DIES.to_dict())
        return TrialResult("ok", windows=tuple(rows(planned(run, spec))))

    outcome, node = evaluated(run, does)
    assert [name.partition("-go-")[2] for name in node.asked if "http" in name] == [
        "b0-http-switched", "b0-http-metered",
    ]  # fmt: skip
    assert len(node.asked) == len(plan(WHAT_NOT_FULL)) - outcome.left_out == 5 * 3 - 4
    assert len(node.blocks) == 3
    assert not run.about().complete
    (told,) = run.about().given_up
    assert (told["workload"], told["arm"]) == ("go", "http")
    assert told["reason"] in outcome.warnings
    assert {t.arm for t in pending(run)} == {"http"}


def test_a_run_whose_only_service_is_spoilt_ends_at_once(run: Run) -> None:
    values = tuple(Value(name, value, "1") for name, value in REFUSED.items())

    def does(spec: TrialSpec) -> TrialResult:
        windows = tuple(rows(planned(run, spec))) if spec.method == "switch" else ()
        return TrialResult("ok", windows, values, {"failures": BUSY})

    outcome, node = evaluated(run, does)
    assert len(node.blocks) == 1
    assert len(node.asked) <= 3  # until the one with nothing installed was among them
    assert outcome.left_out >= len(plan(WHAT_NOT_FULL)) - 3
    assert [each["arm"] for each in run.about().given_up] == [""]
    assert not run.about().complete


def planned(run: Run, spec: TrialSpec) -> Trial:
    return next(t for t in plan(run.experiment()) if spec.name.startswith(t.name))


def test_what_was_given_up_is_told_until_it_is_measured(tmp_path: Path) -> None:
    what = replace(WHAT_NOT_FULL, blocks=1)
    told = [{"workload": "go", "arm": "http", "reason": "It was given up."}]
    others = [t.index for t in plan(what) if t.arm != "http"]
    run = synthetic.write(tmp_path / "r", what, only=others, given_up=told, complete=False)
    said = summarize(run).warnings
    assert "It was given up." in said
    assert any(each.startswith("Not all that was due was measured. ") for each in said)
    for each in plan(what):
        if each.arm == "http":
            synthetic.add(run, what, each, synthetic.Truth(), np.random.default_rng(each.index))
    assert "It was given up." not in summarize(run).warnings
