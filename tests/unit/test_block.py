"""The trials of a block as the controller stores them, of a node that is scripted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import blame
from harness.controller.block import Block, record_of
from harness.controller.progress import AGAIN, Progress
from harness.errors import (
    CollectorError,
    ComponentError,
    HarnessError,
    NodeError,
    UnavailableError,
    WorkloadError,
)
from harness.model import Arm, Window, WindowRow
from harness.plan import design, workloads
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment, plan
from harness.results.run import Run
from harness.wire.spec import BlockReady, TrialResult, TrialSpec, Value

ARMS = (Arm("baseline"), Arm("http", ("http",)))
EXPERIMENT = Experiment("e", ("go",), ARMS, blocks=2, replacements=0)
FIRST, *_ = BLOCK = [each for each in plan(EXPERIMENT) if each.block == 0]


class Scripted:
    """A node that does to each trial what a test says."""

    lost = False

    def __init__(self, does: Callable[[TrialSpec], TrialResult]) -> None:
        self.asked, self.acknowledged, self.blocks = list[str](), list[str](), list[Any]()
        self._does = does

    def block(self, spec: Any, tell: Any) -> BlockReady:
        self.blocks.append(spec)
        found = {"rate": 250.0, "cpu_share": 0.5, "refused": 0.0, "failures": {}}
        return BlockReady(100.0, 3.04, True, found if spec.find_capacity else None)

    def trial(self, spec: TrialSpec, tell: Any) -> TrialResult:
        self.asked.append(spec.name)
        return self._does(spec)

    def stored(self, spec: TrialSpec) -> None:
        self.acknowledged.append(spec.name)

    def end_block(self, tell: Any) -> list[str]:
        return ["A process is left."]

    def translated(self, told: Any) -> Any:
        return told


def failed(error: HarnessError, **more: Any) -> TrialResult:
    return TrialResult("failed", error=error.to_dict(), **more)


@pytest.fixture
def store(tmp_path: Path) -> Run:
    return Run.create(
        tmp_path / "r", EXPERIMENT, skipped_arms=[], warmups=[], calibration={}, warnings=[]
    )


@pytest.fixture
def run(store: Run) -> Callable[..., tuple[Scripted, list[str]]]:
    def run_block(does: Callable[[TrialSpec], TrialResult]) -> tuple[Scripted, list[str]]:
        node, said = Scripted(does), list[str]()
        asked: Any = node
        block = Block(
            store, EXPERIMENT, asked, workloads.load("go"), resolve_all(EXPERIMENT),
            Progress(EXPERIMENT, lambda *_: None), said.append,
        )  # fmt: skip
        block.run(BLOCK)
        return node, said

    return run_block


def test_trials_are_stored_before_the_node_may_forget_them(store: Run, run: Any) -> None:
    node, said = run(lambda _: TrialResult("ok"))
    names = [trial.name for trial in BLOCK]
    assert node.asked == node.acknowledged == names
    assert [record.trial.name for record in store.records()] == names
    assert said == ["go-b0: A process is left."]


def test_what_ends_a_trial_does_not_end_the_next(store: Run, run: Any) -> None:
    error = CollectorError("The agent of collector 'http' ended.")
    run(lambda spec: failed(error) if spec.name == FIRST.name else TrialResult("ok"))
    found = [(record.status, record.reason) for record in store.records()]
    assert found == [("failed", str(error))] + [("ok", "")] * (len(BLOCK) - 1)


@pytest.mark.parametrize(
    ("result", "kind", "ends"),
    [
        (failed(CollectorError("No answer."), over="block", service="It died."), WorkloadError,
         "block"),
        (failed(ComponentError("tempo ended."), over="run"), ComponentError, "run"),
    ],
)  # fmt: skip
def test_what_ends_more_is_raised_once_the_trial_is_stored(
    store: Run, run: Any, result: TrialResult, kind: type[HarnessError], ends: str
) -> None:
    with pytest.raises(kind) as caught:
        run(lambda _: result)
    assert caught.value.ends == ends
    assert [record.trial for record in store.records()] == [FIRST]


def test_a_lost_node_leaves_its_trial_failed_and_is_asked_no_more(store: Run, run: Any) -> None:
    def lose(_spec: TrialSpec) -> TrialResult:
        raise NodeError("The node process was lost.")

    with pytest.raises(NodeError):
        run(lose)
    assert [(r.trial, r.status) for r in store.records()] == [(FIRST, "failed")]


def test_why_a_trial_is_measured_again_is_told_at_once(store: Run) -> None:
    told, what = list[str](), replace(EXPERIMENT, replacements=1)
    spoilt = TrialResult("ok", details={"saturated": "The load driver used 97% of its CPU."})
    node: Any = Scripted(lambda spec: spoilt if spec.name == FIRST.name else TrialResult("ok"))
    Block(
        store, what, node, workloads.load("go"), resolve_all(EXPERIMENT),
        Progress(EXPERIMENT, lambda _done, _of, label: told.append(label)), lambda _: None,
    ).run(BLOCK)  # fmt: skip
    at = next(i for i, label in enumerate(told) if AGAIN in label)
    assert "The load driver used 97% of its CPU" in told[at]
    assert any("attempt 2" in label for label in told[at:])
    assert not any("attempt 2" in label for label in told[:at])


def test_what_is_known_is_looked_at_between_trials_only(store: Run) -> None:
    order: list[str] = []

    def measure(spec: TrialSpec) -> TrialResult:
        order.append(f"measured {spec.name}")
        return TrialResult("ok")

    node: Any = Scripted(measure)
    block = Block(
        store, EXPERIMENT, node, workloads.load("go"), resolve_all(EXPERIMENT),
        Progress(EXPERIMENT, lambda *_: None), lambda _: None,
    )  # fmt: skip
    block.look = lambda trial: order.append(f"looked after {trial.name}")
    block.run(BLOCK)
    named = [trial.name for trial in BLOCK]
    assert order[:4] == [
        f"measured {named[0]}", f"looked after {named[0]}",
        f"measured {named[1]}", f"looked after {named[1]}",
    ]  # fmt: skip


def test_an_arm_that_cannot_run_here_is_skipped_with_its_reason(store: Run, run: Any) -> None:
    told = TrialResult("skipped", error=CollectorError("No BTF.").to_dict())
    run(lambda spec: told if spec.candidates else TrialResult("ok"))
    assert store.about().skipped_arms == ({"arm": "http", "reason": "No BTF."},)


def test_the_capacity_is_found_once_a_run(store: Run, run: Any) -> None:
    first, _ = run(lambda _: TrialResult("ok"))
    second, _ = run(lambda _: TrialResult("ok"))
    assert (first.blocks[0].find_capacity, second.blocks[0].find_capacity) == (True, False)
    assert second.blocks[0].rate == 100.0
    told = {"capacity": 250.0, "driver_cpu_share": 0.5, "rate": 100.0, "arrivals": "periodic"}
    assert store.about().calibration == {"go": told}


def test_the_warm_up_of_a_twin_is_noted_beside_the_block_s(store: Run, run: Any) -> None:
    warmed = TrialResult("ok", details={"warmup": {"seconds": 30.0, "steady": False}})
    run(lambda spec: warmed if spec.name == FIRST.name else TrialResult("ok"))
    assert store.about().warmups == (
        {"workload": "go", "block": 0, "seconds": 3.04, "steady": True},
        {"workload": "go", "block": 0, "arm": FIRST.arm, "seconds": 30.0, "steady": False},
    )


def test_values_are_stored_with_whose_they_are() -> None:
    told = TrialResult("ok", values=(Value("events", 3.0, "{event}", {"collector": "http"}),))
    (value,) = record_of(FIRST, told, {}).values
    assert (value.workload, value.arm, value.block, value.trial) == (
        "go", FIRST.arm, 0, FIRST.name,
    )  # fmt: skip
    assert (value.metric, value.value, value.labels) == ("events", 3.0, {"collector": "http"})


ARM = Arm("baseline", method="factorial")
SHARED = Experiment(
    "e", ("go",),
    (ARM, *(Arm(n, (n,), method="factorial") for n in ("http", "flows", "guard")),
     Arm("all", ("http", "flows", "guard"), method="factorial")),
    blocks=1, replacements=0,
)  # fmt: skip


@pytest.fixture
def share(tmp_path: Path) -> Callable[..., tuple[Run, list[TrialSpec]]]:
    """A block of a shared trial, on a node that does to it what a test says."""

    def run_block(does: Callable[[TrialSpec], TrialResult]) -> tuple[Run, list[TrialSpec]]:
        known: dict[str, Any] = {"skipped_arms": [], "warmups": [], "calibration": {}}
        store, asked = Run.create(tmp_path / "r", SHARED, **known, warnings=[]), list[TrialSpec]()

        def told(spec: TrialSpec) -> TrialResult:
            asked.append(spec)
            return does(spec)

        node: Any = Scripted(told)
        block = Block(
            store, SHARED, node, workloads.load("go"), resolve_all(SHARED),
            Progress(SHARED, lambda *_: None), lambda _: None,
        )  # fmt: skip
        block.run(plan(SHARED))
        return store, asked

    return run_block


def names(spec: TrialSpec) -> list[str]:
    return [each.name for each in spec.candidates]


def test_a_collector_that_ends_a_shared_trial_does_not_take_the_others_with_it(share: Any) -> None:
    error = CollectorError("The agent of collector 'flows' ended.")

    def does(spec: TrialSpec) -> TrialResult:
        ended = "flows" in names(spec) and spec.method == "switch"
        return failed(error, details={"failed_collector": "flows"}) if ended else TrialResult("ok")

    store, asked = share(does)
    assert [(spec.method, names(spec)) for spec in asked] == [
        ("switch", ["http", "flows", "guard"]),
        ("bpf_time", ["http", "flows", "guard"]),
        ("switch", ["http", "guard"]),
    ]
    first, again, _ = store.records()
    assert (first.status, first.reason) == ("failed", str(error))
    assert (again.status, again.extra["left_out"]) == ("ok", {"flows": str(error)})
    assert again.extra["warnings"] == [
        f"flows was left out, the other collectors were measured: {error}"
    ]
    assert store.about().skipped_arms == ()  # it can run here, and is tried again next time


def test_a_shared_trial_is_tried_again_until_no_collector_is_left(share: Any) -> None:
    def does(spec: TrialSpec) -> TrialResult:
        culprit = names(spec)[0]
        return failed(CollectorError("It ended."), details={"failed_collector": culprit})

    store, asked = share(does)
    assert sorted(names(spec) for spec in asked) == sorted(
        2 * [["http", "flows", "guard"], ["flows", "guard"], ["guard"]]
    )
    assert {record.status for record in store.records()} == {"failed"}


def test_one_whose_requests_fail_is_left_out_of_what_is_measured_again(
    share: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the windows, and of the metered trial of the block, in which all are on."""
    monkeypatch.setattr(blame, "of_trial", lambda *_: {"flows": "2% failed with flows on."})
    cycles, size = design.cycles(SHARED), design.cycle(4)
    states = design.states(4, cycles, 1)
    windows = [
        WindowRow(
            Window(i, i // size, True, 50_000_000 * i, 50_000_000 * (i + 1), each),
            {"cpu.workload": 0.01, "requests": 100.0},
        )
        for i, each in enumerate(states)
    ]

    def does(spec: TrialSpec) -> TrialResult:
        errors = 20.0 if "flows" in names(spec) else 0.0
        values = (
            Value("requests_total", 1000.0, "{request}"), Value("errors_total", errors, "{request}")
        )  # fmt: skip
        return TrialResult("ok", windows=tuple(windows), values=values)

    monkeypatch.setattr(sys.modules[__name__], "SHARED", replace(SHARED, replacements=1))
    store, asked = share(does)
    assert [names(spec) for spec in asked] == 2 * [["http", "flows", "guard"]] + 2 * [
        ["http", "guard"]
    ]
    records = list(store.records())
    first, again = records[0], [record for record in records if record.trial.attempt]
    assert first.extra[blame.BLAMED] == {"flows": "2% failed with flows on."}
    assert [r.extra["left_out"] for r in again] == 2 * [{"flows": "2% failed with flows on."}]


def test_a_collector_that_cannot_run_here_is_left_out_and_its_arms_are_skipped(share: Any) -> None:
    why = UnavailableError("There is no BTF.").to_dict()
    store, asked = share(lambda _: TrialResult("ok", details={"left_out": {"flows": why}}))
    assert len(asked) == 2
    reason = {"reason": "There is no BTF."}
    assert store.about().skipped_arms == ({"arm": "flows", **reason}, {"arm": "all", **reason})
    assert [r.extra["left_out"] for r in store.records()] == 2 * [{"flows": "There is no BTF."}]


def test_where_none_can_run_all_arms_with_collectors_are_skipped(share: Any) -> None:
    error = UnavailableError("There is no BTF.").to_dict()
    store, _ = share(lambda _: TrialResult("skipped", error=error))
    assert [each["arm"] for each in store.about().skipped_arms] == ["http", "flows", "guard", "all"]
