"""At an end what waits is told as lost, what is under way is waited for, and not for long."""

from __future__ import annotations

import contextlib
import threading

import pytest

from harness.agent.errors import AgentError, UnansweredError
from harness.agent.lanes import BATCH
from harness.agent.outbox import END_SECONDS, Outbox
from harness.agent.telemetry import Telemetry
from tests.unit.outboxes import (
    METRIC,
    MINE,
    OTHER,
    Answer,
    Clock,
    Scripted,
    away,
    failing,
    logs,
    profiles,
    spans,
    told,
)
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def receiver() -> Scripted:
    return Scripted()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(receiver: Scripted, clock: Clock) -> Outbox:
    return Outbox(receiver, clock=clock)


def test_what_waits_at_the_end_is_lost_and_said_of_its_collector(
    outbox: Outbox, receiver: Scripted
) -> None:
    outbox.put(MINE, Telemetry([METRIC], spans("a", "b").spans))
    outbox.put(OTHER, logs("l"))
    assert outbox.give_up(MINE) == 2
    assert told(outbox) == (0, 2, 0)
    assert outbox.tally(MINE).told() == {"metrics": {"unsent": 2}, "spans": {"unsent": 2}}
    outbox.send()
    assert receiver.took == ["l"]


@pytest.mark.parametrize(("answer", "unsent"), [(lambda: 0, 0), (failing, 1)])
def test_what_is_under_way_at_the_end_is_waited_for(
    outbox: Outbox, receiver: Scripted, answer: Answer, unsent: int
) -> None:
    """Else what is acknowledged a moment later would be told as lost, or what comes back not."""
    asked, answered = threading.Event(), threading.Event()

    def slowly() -> int:
        asked.set()
        answered.wait(PATIENCE_SECONDS)
        return answer()

    def send() -> None:
        with contextlib.suppress(AgentError):
            outbox.send()

    receiver.answers["spans"] = slowly
    outbox.put(MINE, spans("a"))
    sending = threading.Thread(target=send)
    sending.start()
    assert asked.wait(PATIENCE_SECONDS)
    given_up: list[int] = []
    giving = threading.Thread(target=lambda: given_up.append(outbox.give_up(MINE)))
    giving.start()
    outbox.put(OTHER, spans("b"))  # whoever drains waits for neither
    giving.join(0.2)
    assert not given_up
    answered.set()
    sending.join(PATIENCE_SECONDS)
    giving.join(PATIENCE_SECONDS)
    assert given_up == [unsent]
    assert told(outbox) == (0, unsent, 1 - unsent)


def test_an_end_waits_for_no_batch_that_a_slow_receiver_has_not_begun(
    outbox: Outbox, receiver: Scripted, clock: Clock
) -> None:
    def slowly() -> int:
        clock.now += 0.98 * END_SECONDS
        return 0

    receiver.answers["spans"] = slowly
    outbox.put(MINE, spans(*map(str, range(5 * BATCH))))
    outbox.put(OTHER, spans("other"))
    with outbox.ending():
        with pytest.raises(AgentError, match="the receiver is slow"):
            outbox.send(now=True)
        assert receiver.asked == ["spans"] * 2
        assert outbox.give_up(MINE) == 3 * BATCH
    assert outbox.tally(MINE).told() == {"spans": {"unsent": 3 * BATCH}}
    outbox.send()  # the others stay
    assert receiver.took[-1] == "other"


def test_who_did_not_answer_takes_no_time_of_an_end_from_another_receiver(
    receiver: Scripted, clock: Clock
) -> None:
    def hanging() -> int:
        clock.now += END_SECONDS
        return away()

    receiver.apart.add("profiles")
    outbox = Outbox(receiver, clock=clock)
    receiver.answers["logs"] = hanging
    outbox.put(MINE, logs("l"))
    with pytest.raises(UnansweredError):
        outbox.send()
    outbox.put(MINE, profiles("p", 3))
    with outbox.ending():
        with pytest.raises(UnansweredError):
            outbox.send(now=True)
        assert outbox.give_up(MINE) == 1
    assert (receiver.took, outbox.tally(MINE).told()) == (["p"], {"logs": {"unsent": 1}})
    receiver.answers.clear()
    outbox.put(MINE, Telemetry([METRIC]))
    outbox.send(now=True)  # it answers again, and comes first again
    receiver.asked.clear()
    outbox.put(MINE, Telemetry(profiles=profiles("q", 1).profiles, logs=logs("n").logs))
    outbox.send(now=True)
    assert receiver.asked == ["logs", "profiles"]


def test_an_end_waits_for_one_batch_of_a_round_that_another_thread_began(
    outbox: Outbox, receiver: Scripted, clock: Clock
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slowly() -> int:
        asked.set()
        answered.wait(PATIENCE_SECONDS)
        return 0

    def send() -> None:
        with contextlib.suppress(AgentError):
            outbox.send()

    receiver.answers["spans"] = slowly
    outbox.put(MINE, spans(*map(str, range(3 * BATCH))))
    sending = threading.Thread(target=send)
    sending.start()
    assert asked.wait(PATIENCE_SECONDS)
    with outbox.ending():
        clock.now += END_SECONDS
        answered.set()
        assert outbox.give_up(MINE) == 2 * BATCH
    sending.join(PATIENCE_SECONDS)
    assert receiver.asked == ["spans"]


def test_a_sender_is_not_called_while_an_end_lets_nothing_be_sent(
    outbox: Outbox, clock: Clock
) -> None:
    outbox.put(MINE, spans("a"))
    due: list[bool] = []
    waiting = threading.Thread(target=lambda: due.append(outbox.await_due()))
    with outbox.ending():
        clock.now += END_SECONDS
        waiting.start()
        waiting.join(0.2)
        assert due == []
    waiting.join(PATIENCE_SECONDS)
    assert due == [True]
