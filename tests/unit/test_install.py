"""Collectors of a trial that several arms share: who cannot be installed, and who goes on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import CollectorError, UnavailableError
from harness.model import Arm
from harness.node import found
from harness.node import install as installing
from harness.node.testbed import TrialLog
from harness.node.windows import windows_of
from harness.plan import trials
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment, plan

METHOD = ("http", "flows", "guard")
SHARED = Experiment(
    "e", ("go",),
    (Arm("baseline", method="factorial"), *(Arm(n, (n,), method="factorial") for n in METHOD)),
)  # fmt: skip
ALONE = Experiment("e", ("go",), (Arm("baseline"), Arm("all", METHOD)))
TESTBED: Any = SimpleNamespace(service=None)


class Agent:
    """One that fails at the step that a test names."""

    def __init__(self, spec: Any, fails: dict[str, tuple[str, type[CollectorError]]]) -> None:
        self.name, self.spec, self.ready = spec.name, spec, {"hooks": ["xdp"], "load_seconds": 0.1}
        self.killed, self.on = 0, False
        self._step, self._error = fails.get(spec.name, ("", CollectorError))

    def _may(self, step: str) -> None:
        if step == self._step:
            raise self._error(f"{self.name} cannot {step}.", collector=self.name)

    def start(self) -> None:
        self._may("start")

    def await_ready(self) -> None:
        self._may("load")

    def send_switch(self, on: bool) -> None:
        self.on = on

    def receive_switch(self) -> dict[str, Any]:
        self._may("attach")
        return {"seconds": 0.001}

    def switch(self, on: bool) -> dict[str, Any]:
        self._may("detach")
        self.on = on
        return {"seconds": 0.001}

    def kill(self) -> None:
        self.killed += 1


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install the collectors of a trial, some of which fail at a step; the notes and all agents."""

    def run(e: Experiment, **fails: tuple[str, type[CollectorError]]) -> Any:
        made: list[Agent] = []

        def process(_testbed: Any, spec: Any, _folder: Any, _notes: Any) -> Agent:
            made.append(Agent(spec, fails))
            return made[-1]

        def require(_service: Any, spec: Any) -> None:
            step, error = fails.get(spec.name, ("", CollectorError))
            if step == "see":
                raise error(f"{spec.name} cannot see.")

        monkeypatch.setattr(installing, "_process", process)
        monkeypatch.setattr(found, "require_seen", require)
        first = next(t for t in plan(e) if e.arm(t.arm).collectors)
        notes = TrialLog(trials.trial(e, first, resolve_all(e)))
        with ExitStack() as stack:
            specs = notes.spec.candidates
            there = installing.install(TESTBED, specs, Path(), notes, stack)
        return there, notes, made

    return run


@pytest.mark.parametrize("step", ["see", "start", "load", "attach", "detach"])
@pytest.mark.parametrize("error", [CollectorError, UnavailableError])
def test_one_that_cannot_be_installed_is_left_out_and_ended(
    install: Any, step: str, error: type[CollectorError]
) -> None:
    there, notes, made = install(SHARED, flows=(step, error))
    assert [agent.name for agent in there] == ["http", "guard"]
    told = {name: (each["class"], each["what"]) for name, each in notes.details["left_out"].items()}
    assert told == {"flows": (error.__name__, f"flows cannot {step}.")}
    killed = {agent.name: agent.killed for agent in made}
    begun = step not in ("see", "start")
    assert killed.get("flows", 0) == 2 * begun  # at once, and with the others at the end
    assert set(notes.details["hooks"]) == {
        "http", "guard", *(["flows"] if step in ("attach", "detach") else []),
    }  # fmt: skip
    assert not any(agent.on for agent in there)


def test_the_others_keep_their_own_columns(install: Any) -> None:
    there, notes, _ = install(SHARED, http=("load", CollectorError))
    for mine, planned in zip(windows_of(there, notes.spec), notes.spec.windows, strict=True):
        assert mine.collectors == planned.collectors[1:]
        assert mine.states == planned.states


def test_where_none_is_left_the_first_reason_is_the_trial_s(install: Any) -> None:
    fails = dict.fromkeys(METHOD, ("load", UnavailableError))
    with pytest.raises(UnavailableError, match="http cannot load"):
        install(SHARED, **fails)


def test_a_trial_of_one_arm_goes_on_without_nobody(install: Any) -> None:
    with pytest.raises(CollectorError, match="flows cannot attach"):
        install(ALONE, flows=("attach", CollectorError))
    there, notes, _ = install(ALONE)
    assert len(there) == 3
    assert "left_out" not in notes.details
