"""Arms that cannot run are known before a trial, skipped with their reason, and told by --plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app, choice
from harness.collectors import resolve
from harness.controller import evaluate, skipping
from harness.controller.block import Block
from harness.controller.progress import STAYING, Progress
from harness.errors import NeedError, UnavailableError, WorkloadError
from harness.linux import bpf_features
from harness.model import Arm
from harness.node import answers, needs
from harness.plan import trials, workloads
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment, plan
from harness.results.run import Run
from harness.targets.local import Local
from harness.wire import codec
from harness.wire.spec import Needs, TrialResult
from tests.unit.test_block import Scripted

ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("new", ("flows",), ("profile",)))
EXPERIMENT = Experiment("e", ("go",), ARMS, blocks=1, replacements=0)
DEFINITIONS = resolve_all(EXPERIMENT)
REFUSED = UnavailableError("Collector 'profile' cannot run here.", "No perf.", "Take another.")


def answering(found: Any) -> Any:
    return SimpleNamespace(ask=lambda question, about: found)


def test_each_hook_is_tried_once_and_what_is_preferred_is_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    def refusal(name: str) -> str:
        tried.append(name)
        return "Operation not permitted" if name == "iter" else ""

    monkeypatch.setattr(bpf_features, "refusal", refusal)
    asked = {
        "flows": Needs("flows", ("tp_btf", "iter")),
        "flows:drain=1": Needs("flows-drain-1", ("tp_btf", "iter")),
        "guard": Needs("guard", ("tp_btf",), ("lsm", "iter")),
    }
    found = needs.unmet(asked)
    assert list(found) == ["flows", "flows:drain=1"]
    assert tried == ["tp_btf", "iter"]
    assert str(found["flows:drain=1"]).startswith(
        "Collector 'flows-drain-1' cannot run here: the kernel refuses iter. "
        "Tried, it says iter: Operation not permitted."
    )


def test_a_hook_that_nobody_can_try_is_refused() -> None:
    assert "nobody knows" in bpf_features.refusal("telepathy")


def test_what_is_asked_crosses_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = codec.dump(trials.needs(DEFINITIONS))
    monkeypatch.setattr(bpf_features, "refusal", lambda name: "no" * (name == "perf_event"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    found = answers.unmet(asked)
    assert found is not None
    assert [(key, error["class"]) for key, error in found.items()] == [
        ("profile", "UnavailableError")
    ]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert answers.unmet(asked) is None


def test_an_arm_is_skipped_for_any_of_its_collectors() -> None:
    target = answering({"profile": REFUSED.to_dict()})
    found = skipping.skipped(target, EXPERIMENT, DEFINITIONS)
    assert found == {"new": str(REFUSED)}
    skipping.require_some(EXPERIMENT, found)


def test_what_a_cluster_runs_is_skipped_where_a_machine_is_measured() -> None:
    e = Experiment("e", ("go",), (Arm("baseline"), Arm("http", ("http",)),
                                  Arm("pixie", ("pixie",), method="block")))  # fmt: skip
    known = {spec: resolve(spec) for spec in ("http", "pixie")}
    machine = Local()
    machine.ask = lambda *_: {}  # type: ignore[method-assign]
    found = skipping.skipped(machine, e, known)
    assert found is not None
    assert set(found) == {"pixie"}
    assert "pl/vizier-pem is one of a cluster" in found["pixie"]
    assert set(skipping.left(e, known, found)) == {"http"}
    assert skipping.skipped(answering({}), e, known) == {}
    assert set(skipping.left(e, known, {})) == {"http", "pixie"}


def test_without_root_it_is_not_known() -> None:
    assert skipping.skipped(answering(None), EXPERIMENT, DEFINITIONS) is None


def test_where_no_arm_can_run_nothing_is_begun() -> None:
    with pytest.raises(NeedError, match=r"No arm of the experiment can run here\. No perf\."):
        skipping.require_some(EXPERIMENT, {"http": "No perf.", "new": "No perf."})


def test_an_experiment_without_collectors_lacks_nothing() -> None:
    skipping.require_some(Experiment("e", ("go",), (Arm("baseline"),)), {})


@pytest.fixture
def store(tmp_path: Path) -> Run:
    return Run.create(
        tmp_path / "r", EXPERIMENT, skipped_arms=[], warmups=[], calibration={}, warnings=[]
    )


def test_why_an_arm_is_skipped_is_said_before_anything_is_measured(store: Run) -> None:
    told: list[str] = []
    outcome = evaluate.Outcome(store, skipped={"new": "No perf."})
    evaluate._note_skipped(outcome, lambda _done, _of, label: told.append(label))
    assert told == ["new is skipped: No perf."]
    assert any(mark in told[0] for mark in STAYING)
    assert store.about().skipped_arms == ({"arm": "new", "reason": "No perf."},)


@pytest.fixture
def block(store: Run) -> Callable[..., Scripted]:
    """Run a block of these arms, of which one is skipped."""

    def run(*names: str) -> Scripted:
        node: Any = Scripted(lambda _: TrialResult("ok"))
        Block(
            store, EXPERIMENT, node, workloads.load("go"), DEFINITIONS,
            Progress(EXPERIMENT, lambda *_: None), lambda _: None, {"new": "No perf."},
        ).run([each for each in plan(EXPERIMENT) if each.arm in names])  # fmt: skip
        found: Scripted = node
        return found

    return run


def test_a_skipped_arm_is_stored_and_never_asked_of_the_node(store: Run, block: Any) -> None:
    node = block("baseline", "http", "new")
    told = {(r.trial.arm, r.status, r.reason) for r in store.records()}
    assert told == {("baseline", "ok", ""), ("http", "ok", ""), ("new", "skipped", "No perf.")}
    assert node.asked
    assert not any("-new-" in name for name in node.asked)


def test_a_block_of_skipped_arms_alone_starts_no_service(store: Run, block: Any) -> None:
    assert block("new").blocks == []
    assert {r.status for r in store.records()} == {"skipped"}


def test_a_service_that_does_not_start_leaves_the_skipped_trials_of_its_block_due(
    store: Run, block: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> Any:
        raise WorkloadError("It died.")

    monkeypatch.setattr(Scripted, "block", dies)
    with pytest.raises(WorkloadError):
        block("baseline", "http", "new")
    assert store.records() == []


def test_why_an_arm_is_skipped_is_kept_once(store: Run) -> None:
    for reason in ("first", "second"):
        skipping.note(store, "new", reason)
    assert store.about().skipped_arms == ({"arm": "new", "reason": "first"},)


def planned(monkeypatch: pytest.MonkeyPatch, unmet: Any) -> Any:
    """`--plan` of two arms on a machine that lacks this."""
    asked: list[str] = []

    def ask(_self: Any, question: str, *about: Any) -> Any:
        asked.append(question)
        return unmet if question == "unmet" else answers.describe()

    monkeypatch.setattr(Local, "ask", ask)
    words = ["evaluate", "--plan", "--workload", "go", "--arm", "a=http", "--arm", "b=profile"]
    done = CliRunner().invoke(app, words)
    assert asked == ["describe", "unmet"]
    return done


def test_a_plan_says_which_arms_would_be_skipped_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    done = planned(monkeypatch, {"profile": REFUSED.to_dict()})
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert f"arm b would be skipped: {REFUSED}" in text
    assert "arm a would be" not in text
    assert "-factorial-switched" in text  # in which the other arm is measured
    assert "(skipped)" not in text


def test_a_plan_marks_the_trials_of_arms_that_would_be_skipped() -> None:
    arms = (Arm("baseline"), Arm("a", ("http",)), Arm("b", ("profile",)))
    text = "\n".join(choice.plan(Experiment("e", ("go",), arms), None, {"b": "There is no BTF."}))
    assert "-b-switched (skipped)" in text
    assert "-a-switched (skipped)" not in text


def test_a_plan_says_that_all_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    done = planned(monkeypatch, {})
    assert done.exit_code == 0, done.output
    assert "that the included collectors need: each was tried" in " ".join(done.stdout.split())


def test_a_plan_without_root_says_that_it_did_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    done = planned(monkeypatch, None)
    assert done.exit_code == 0, done.output
    assert "was not looked at: that takes root" in " ".join(done.stdout.split())


def test_a_plan_of_which_nothing_can_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    done = planned(monkeypatch, dict.fromkeys(("http", "profile"), REFUSED.to_dict()))
    assert done.exit_code == 2, done.output
    assert "No arm of the experiment can run here." in done.stderr
