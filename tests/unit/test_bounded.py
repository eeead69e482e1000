"""Questions that are held up hold up nobody, and are not asked again until they are answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from harness.agent import bounded
from harness.agent.bounded import Answers, Unanswered
from harness.agent.errors import AgentError
from harness.agent.footprint import Share
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """What is waited for, until it is set."""
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_SECONDS", "_NEXT_SECONDS"):
        monkeypatch.setattr(bounded, name, PATIENCE_SECONDS)  # what answers does, where all is slow


def in_vain(answers: Answers, call: Callable[[], object], about: str | None = None) -> None:
    """Ask what does not answer; that is not waited for long."""
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(bounded, "WAIT_SECONDS", 0.1)
        with pytest.raises(Unanswered):
            answers.ask(call, about)


def test_an_answer_is_told_and_an_error_is_raised() -> None:
    answers = Answers()
    assert answers.ask(lambda: 23) == 23
    with pytest.raises(ZeroDivisionError):
        answers.ask(lambda: 1 // 0)


def test_nobody_else_asks_what_does_not_answer_until_it_does(silence: threading.Event) -> None:
    answers, asked = Answers(), []
    in_vain(answers, silence.wait, "dead")
    assert answers.refuses("dead")
    with pytest.raises(Unanswered):
        answers.ask(lambda: asked.append(1), "dead")
    assert answers.ask(lambda: "there", "other") == "there"
    silence.set()
    assert until(lambda: not answers.refuses("dead"))
    answers.ask(lambda: asked.append(2), "dead")
    assert asked == [2]


def test_who_is_about_nothing_is_always_asked(silence: threading.Event) -> None:
    answers = Answers()
    in_vain(answers, silence.wait)
    assert not answers.refuses(None)
    assert answers.ask(lambda: "there") == "there"


def test_the_end_waits_for_no_answer(
    silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "WAIT_SECONDS", 600.0)
    answers, ended = Answers(), threading.Event()

    def ask() -> None:
        with pytest.raises(Unanswered):
            answers.ask(silence.wait)
        ended.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert until(lambda: answers._asked)
    answers.close()
    assert ended.wait(PATIENCE_SECONDS)
    with pytest.raises(Unanswered):
        answers.ask(lambda: "there")


def test_what_a_question_costs_is_its_askers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "WAIT_SECONDS", 600.0)
    share = Share()
    share.add(threading.get_native_id())
    before = sum(share.seconds().values())

    def burn() -> None:
        until_then = time.thread_time() + 0.2
        while time.thread_time() < until_then:
            pass

    own = time.thread_time()
    Answers().ask(burn)
    own = time.thread_time() - own
    assert sum(share.seconds().values()) - before > 0.15 > own


def test_what_goes_wrong_late_is_told(
    silence: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        silence.wait()
        raise AgentError("It is gone.")

    in_vain(Answers(), fail)
    silence.set()
    assert until(lambda: "It is gone." in caplog.text)
