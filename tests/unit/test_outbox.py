"""What no receiver took waits, up to a bound; what is lost is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.agent.errors import AgentError, RefusedError
from harness.agent.outbox import Outbox
from harness.agent.runtime import Runtime
from harness.agent.telemetry import Log, Point, Span, Telemetry, counter

Answer = Callable[[], None]


def away() -> None:
    raise AgentError("It did not arrive.")


def refusing() -> None:
    raise RefusedError("It is refused for good.")


class Scripted:
    """A receiver that answers as it is told; `took` holds the names of what it took."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}

    def _answer(self, kind: str, names: Sequence[str]) -> None:
        self.asked.append(kind)
        self.answers.get(kind, lambda: None)()
        self.took += names

    def send_metrics(self, metrics: Sequence[Any], own: Sequence[Any], _: Any) -> None:
        self._answer("metrics", [each.name for each in (*metrics, *own)])

    def send_spans(self, spans: Sequence[Span]) -> None:
        self._answer("spans", [each.name for each in spans])

    def send_logs(self, logs: Sequence[Log]) -> None:
        self._answer("logs", [each.event_name for each in logs])


def spans(*names: str) -> Telemetry:
    return Telemetry(spans=[Span(name, 0, 1, {}) for name in names])


METRIC = counter("m", "1", [Point({}, 1), Point({"a": 1}, 2)])


def test_what_was_not_taken_is_sent_again_in_its_order() -> None:
    receiver = Scripted()
    outbox = Outbox(receiver)
    receiver.answers["spans"] = away
    for name in ("a", "b"):
        with pytest.raises(AgentError, match="did not arrive"):
            outbox.send(spans(name))
    assert (outbox.waiting, outbox.lost, outbox.exported) == (2, 0, 0)
    receiver.answers.clear()
    outbox.send(spans("c"))
    assert receiver.took == ["a", "b", "c"]
    assert (outbox.waiting, outbox.lost, outbox.exported, outbox.spans) == (0, 0, 3, 3)


def test_of_more_than_the_limit_the_oldest_are_lost_and_counted() -> None:
    receiver = Scripted()
    outbox = Outbox(receiver, limit=3)
    receiver.answers["spans"] = away
    for number in range(5):
        with pytest.raises(AgentError):
            outbox.send(spans(str(number)))
    assert (outbox.waiting, outbox.lost) == (3, 2)
    receiver.answers.clear()
    outbox.send(Telemetry())
    assert receiver.took == ["2", "3", "4"]
    assert (outbox.spans, outbox.lost) == (3, 2)


def test_more_than_the_limit_at_once_is_sent_where_it_is_taken() -> None:
    receiver = Scripted()
    outbox = Outbox(receiver, limit=3)
    outbox.send(spans(*"abcdefgh"))
    assert (receiver.took, outbox.lost) == ([*"abcdefgh"], 0)


def test_a_receiver_that_is_away_is_asked_once() -> None:
    receiver = Scripted()
    receiver.answers["metrics"] = away
    outbox = Outbox(receiver)
    with pytest.raises(AgentError):
        outbox.send(Telemetry([METRIC], spans("a").spans, [Log("l", 0, {})]))
    assert receiver.asked == ["metrics"]
    assert outbox.waiting == 2


def test_what_is_refused_for_good_holds_up_nothing_else_and_is_lost() -> None:
    receiver = Scripted()
    receiver.answers.update(metrics=refusing, spans=refusing)
    outbox = Outbox(receiver)
    with pytest.raises(RefusedError):
        outbox.send(Telemetry([METRIC], spans("a", "b").spans, [Log("l", 0, {})]))
    assert receiver.took == ["l"]
    assert (outbox.lost, outbox.waiting, outbox.exported) == (2, 0, 1)


def test_metrics_are_not_kept_since_the_next_tell_the_same() -> None:
    receiver = Scripted()
    receiver.answers["metrics"] = away
    outbox = Outbox(receiver)
    with pytest.raises(AgentError):
        outbox.send(Telemetry([METRIC]))
    assert (outbox.waiting, outbox.lost) == (0, 0)
    receiver.answers.clear()
    outbox.send(Telemetry([METRIC]), [METRIC])
    assert receiver.took == ["m", "m"]
    assert outbox.exported == 2  # points of what it was asked to see


def test_what_waits_at_the_end_is_lost_and_said() -> None:
    receiver = Scripted()
    receiver.answers["spans"] = away
    outbox = Outbox(receiver)
    with pytest.raises(AgentError):
        outbox.send(spans("a", "b"))
    assert outbox.give_up() == 2
    assert (outbox.lost, outbox.waiting) == (2, 0)


def test_nothing_is_given_up_while_the_timer_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is acknowledged a moment later would be told as lost."""

    class Shared(Outbox):
        def give_up(self) -> int:
            assert runtime._collecting.locked()
            return super().give_up()

    runtime = object.__new__(Runtime)
    runtime._switching, runtime._collecting = threading.Lock(), threading.Lock()
    runtime._attachments, runtime._outbox = (), Shared(Scripted())
    monkeypatch.setattr(Runtime, "_export", lambda _, metrics: None)
    monkeypatch.setattr("os.kill", lambda *_: None)
    assert runtime.stop()["unsent"] == 0
