"""A collector that the cluster runs: what is asked for it, and what becomes of it if that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.errors import CollectorError, CommandError, HarnessError
from harness.linux import bpf_programs
from harness.node import install
from harness.node.line import Gone
from harness.node.placed_agent import PlacedAgent
from harness.plan import trials
from harness.wire.driving import Answer, Call, Displace, Place

SPEC = trials.collector(resolve("daemonset:obs/beyla"))


class Controller:
    """Answers in turn: what it is, or raises it; keeps what it was asked."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[object] = []

    def __call__(self, call: Call) -> Answer:
        self.asked.append(call.does)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, b""


THERE, AWAY = Place("obs/beyla"), Displace("obs/beyla")
FAILED = CommandError("The API is away.", "", "Wait.")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Controller], PlacedAgent]:
    monkeypatch.setattr(bpf_programs, "ids", frozenset)

    def make(ask: Controller) -> PlacedAgent:
        testbed: Any = SimpleNamespace(
            service=SimpleNamespace(cgroup=tmp_path),
            machine=SimpleNamespace(socket=lambda name: tmp_path / name),
            ask=ask,
            attend=lambda: None,
        )
        return PlacedAgent(SPEC, testbed, tmp_path)

    return make


def test_one_that_does_not_come_is_sent_away_and_spoils_the_trial_alone(agent) -> None:
    ask = Controller(FAILED, {"containers": []})
    with pytest.raises(CollectorError) as caught:
        agent(ask).start()
    assert ask.asked == [THERE, AWAY]
    assert caught.value.ends == "trial"


def test_one_that_does_not_go_is_asked_to_go_again(agent) -> None:
    ask = Controller({"containers": ["containerd://a"]}, FAILED, {"containers": []})
    one = agent(ask)
    one.start()
    with pytest.raises(CollectorError):
        one.kill()
    one.kill()
    one.kill()
    assert ask.asked == [THERE, AWAY, AWAY]


def test_without_a_controller_it_is_left_to_the_next_block(agent) -> None:
    ask = Controller({"containers": []}, Gone("hung up"))
    one = agent(ask)
    one.start()
    one.kill()
    one.kill()
    assert ask.asked == [THERE, AWAY]


def test_a_part_of_a_trial_without_it_in_which_it_was_is_none(agent) -> None:
    spec: Any = SimpleNamespace(candidates=(SPEC,))
    testbed: Any = SimpleNamespace(ask=Controller({"containers": []}))
    install.require_absent(testbed, spec)
    testbed.ask = Controller({"containers": ["containerd://a"]})
    with pytest.raises(CollectorError, match="in a part of a trial without it"):
        install.require_absent(testbed, spec)


def test_what_does_not_go_is_raised_where_something_is_metered_after_it() -> None:
    def refuse() -> dict[str, Any]:
        raise CollectorError("Its programs stay loaded.", "", "")

    stays: Any = SimpleNamespace(name="x", remove=refuse)
    warned: list[str] = []
    notes: Any = SimpleNamespace(warn=warned.append)
    install.remove([stays], notes)
    assert len(warned) == 1
    with pytest.raises(HarnessError, match="stay loaded"):
        install.remove([stays], notes, strictly=True)
