"""Whoever denies files is switched off while another answerer is started in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.agent import denier
from harness.agent.errors import AgentError

MARKED = {"/secret": (1, 2)}


class Answerer:
    """The first ends when it is asked to mark; `meanwhile` happens while the second is started."""

    def __init__(self, meanwhile: Callable[[], None] | None) -> None:
        self.lost, self.alive, self.marked = 0, True, False
        self._ends = meanwhile is None
        if meanwhile is not None:
            meanwhile()

    def mark(self, paths: Sequence[str]) -> list[tuple[int, int]]:
        if self._ends:
            raise AgentError("It has ended.")
        self.marked = True
        return [MARKED[each] for each in paths]

    def unmark(self) -> None:
        self.marked = False

    def denials(self) -> list[dict[str, Any]]:
        return []

    def end(self) -> None:
        pass

    def ending(self) -> str:
        return "has ended"

    close = end


@pytest.mark.parametrize("switched_off", [False, True])
@pytest.mark.parametrize("ask", ["mark", "revive"])
def test_a_new_answerer_marks_nothing_if_it_was_switched_off_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: str, switched_off: bool
) -> None:
    started: list[Answerer] = []

    def meanwhile() -> None:
        if switched_off:
            made._on = False  # by a thread that does not wait for the lock for long

    def start(_: Path) -> Answerer:
        started.append(Answerer(meanwhile if started else None))
        return started[-1]

    monkeypatch.setattr(denier, "AnswererProcess", start)
    made = denier.Denier(tmp_path)
    made.switch_on()
    started[0].alive = ask == "mark"
    asked: list[Sequence[str]] = []
    mark = Answerer.mark
    monkeypatch.setattr(
        Answerer, "mark", lambda self, paths: asked.append(paths) or mark(self, paths)
    )
    assert getattr(made, ask)(["/secret"]) == ({} if switched_off else MARKED)
    assert len(started) == 2
    assert len(asked) == (ask == "mark") + (not switched_off)
    assert started[1].marked is not switched_off


class Clock:
    """The time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def timed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, answerer: Callable[[], Answerer]
) -> tuple[denier.Denier, Clock, list[Answerer]]:
    """One that is on, its clock, and the answerers that it starts."""
    clock, started = Clock(), list[Answerer]()

    def start(_: Path) -> Answerer:
        started.append(answerer())
        return started[-1]

    monkeypatch.setattr(denier, "AnswererProcess", start)
    monkeypatch.setattr(denier, "time", clock)
    made = denier.Denier(folder)
    made.switch_on()
    return made, clock, started


def test_an_answerer_that_never_lasts_is_started_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where the files that it marks are of a file system that does not answer."""

    def ended() -> Answerer:
        answerer = Answerer(None)  # it ends when it is asked to mark
        answerer.alive = False
        return answerer

    made, clock, _ = timed(monkeypatch, tmp_path, ended)
    for _ in range(600):  # drains, one a second
        with contextlib.suppress(AgentError):
            made.revive(["/dead"])
        clock.now += 1
    assert 10 < made.restarts < 24
    before = made.restarts
    for _ in range(120):
        with contextlib.suppress(AgentError):
            made.mark(["/dead"])
        clock.now += 1
    assert made.restarts - before <= 2


def test_an_answerer_that_lasted_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, clock, started = timed(monkeypatch, tmp_path, lambda: Answerer(lambda: None))
    for number in range(10):
        clock.now += 100
        assert made.revive(["/secret"]) == {}
        started[-1].alive = False
        assert made.revive(["/secret"]) == MARKED
        assert made.restarts == number + 1
