"""What no receiver took waits, up to a bound, each signal by itself; what is lost is counted."""

from __future__ import annotations

import contextlib
import threading

import pytest

from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError
from harness.agent.lanes import BATCH
from harness.agent.outbox import Outbox
from harness.agent.telemetry import Telemetry, counter
from tests.unit.outboxes import (
    METRIC,
    MINE,
    OTHER,
    POINTS,
    Answer,
    Clock,
    Scripted,
    away,
    busy,
    failing,
    logs,
    profiles,
    refusing,
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


def test_who_sends_is_not_woken_for_nothing(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four collectors drain once a second, and most find nothing."""
    woken: list[bool] = []
    monkeypatch.setattr(outbox._changed, "notify", lambda: woken.append(True))
    for _ in range(4):
        outbox.put(MINE, Telemetry())
    assert woken == []
    outbox.put(MINE, spans("a"))
    outbox.put(MINE, logs("b"))
    outbox.put(MINE, Telemetry([METRIC]))
    assert woken == [True] * 3


def test_what_was_not_taken_is_sent_again_in_its_order(outbox: Outbox, receiver: Scripted) -> None:
    receiver.answers["spans"] = away
    for name in ("a", "b"):
        outbox.put(MINE, spans(name))
        with pytest.raises(AgentError, match="did not arrive"):
            outbox.send(now=True)
    assert told(outbox) == (2, 0, 0)
    receiver.answers.clear()
    outbox.put(MINE, spans("c"))
    outbox.send(now=True)
    assert receiver.took == ["a", "b", "c"]
    assert told(outbox) == (0, 0, 3)
    assert outbox.tally(MINE).spans == 3


def test_of_more_than_the_limit_the_oldest_are_lost_and_counted(
    receiver: Scripted, clock: Clock
) -> None:
    outbox = Outbox(receiver, {"spans": 3, "logs": 3}, clock=clock)
    receiver.answers["spans"] = away
    for number in range(5):
        outbox.put(MINE, spans(str(number)))
        with pytest.raises(AgentError):
            outbox.send(now=True)
    assert told(outbox) == (3, 2, 0)
    assert outbox.tally(MINE).told() == {"spans": {"queue_full": 2}}
    receiver.answers.clear()
    outbox.send(now=True)
    assert receiver.took == ["2", "3", "4"]
    assert told(outbox) == (0, 2, 3)


def test_security_events_have_more_room_than_spans_and_go_first(
    outbox: Outbox, receiver: Scripted
) -> None:
    many = [str(number) for number in range(10_000)]
    receiver.answers.update(logs=failing, spans=failing)
    outbox.put(MINE, spans(*many))
    outbox.put(OTHER, logs(*many))
    with pytest.raises(AgentError):
        outbox.send()
    assert outbox.tally(MINE).lost > 0
    assert outbox.tally(OTHER).lost == 0
    receiver.answers.clear()
    receiver.asked.clear()
    outbox.put(MINE, Telemetry([METRIC]))
    outbox.send(now=True)
    assert receiver.asked == sorted(receiver.asked)  # logs, metrics, spans
    assert receiver.took[: len(many)] == many


def test_more_than_the_limit_at_once_is_sent_where_it_is_taken(
    receiver: Scripted, clock: Clock
) -> None:
    outbox = Outbox(receiver, {"spans": 3, "logs": 3}, clock=clock)
    outbox.put(MINE, spans(*"abcdefgh"))
    outbox.send()
    assert (receiver.took, outbox.tally(MINE).lost) == ([*"abcdefgh"], 0)
    outbox.put(MINE, spans(*map(str, range(100))))  # there is an end to it
    assert 0 < outbox.tally(MINE).lost < 100


def test_what_waits_is_sent_in_pieces_in_its_order(outbox: Outbox, receiver: Scripted) -> None:
    many = [str(number) for number in range(BATCH + 1)]
    outbox.put(MINE, spans(*many))
    receiver.answers["spans"] = failing
    with pytest.raises(AgentError):
        outbox.send()
    assert receiver.asked == ["spans"]
    receiver.answers.clear()
    outbox.send(now=True)
    assert (receiver.asked, receiver.took) == (["spans"] * 3, many)


def test_a_receiver_that_is_away_is_asked_once_in_a_round(
    outbox: Outbox, receiver: Scripted
) -> None:
    receiver.answers["logs"] = away
    outbox.put(MINE, Telemetry([METRIC], spans("a").spans, logs("l").logs))
    with pytest.raises(UnansweredError):
        outbox.send()
    assert receiver.asked == ["logs"]
    assert told(outbox) == (2, 0, 0)
    outbox.send()  # the others are due still, and may be answered
    assert receiver.took == ["m", "a"]


def test_who_does_not_answer_keeps_nothing_from_another_receiver(
    receiver: Scripted, clock: Clock
) -> None:
    receiver.apart.add("profiles")
    outbox = Outbox(receiver, clock=clock)
    receiver.answers["logs"] = away
    some = Telemetry([METRIC], spans("a").spans, logs("l").logs, profiles=profiles("p", 1).profiles)
    outbox.put(MINE, some)
    with pytest.raises(UnansweredError):
        outbox.send(now=True)
    assert receiver.asked == ["logs", "profiles"]
    assert receiver.took == ["p"]
    receiver.answers = {"profiles": away}
    outbox.put(MINE, profiles("q", 1))
    with pytest.raises(UnansweredError):
        outbox.send(now=True)
    assert receiver.took == ["p", "l", "m", "a"]


@pytest.mark.parametrize("answer", [refusing, failing, busy])
@pytest.mark.parametrize("signal", ["logs", "metrics", "spans"])
def test_whoever_does_not_take_one_signal_gets_the_others(
    outbox: Outbox, receiver: Scripted, answer: Answer, signal: str
) -> None:
    receiver.answers[signal] = answer
    outbox.put(MINE, Telemetry([METRIC], spans("a").spans, logs("l").logs))
    with pytest.raises(AgentError):
        outbox.send()
    names = {"logs": "l", "metrics": "m", "spans": "a"}
    assert receiver.took == [name for kind, name in names.items() if kind != signal]


def test_what_is_refused_for_good_is_lost(outbox: Outbox, receiver: Scripted) -> None:
    receiver.answers.update(metrics=refusing, spans=refusing)
    outbox.put(MINE, Telemetry([METRIC], spans("a", "b").spans, logs("l").logs))
    with pytest.raises(RefusedError):
        outbox.send()
    assert told(outbox) == (0, 2, 1)  # metrics come again
    assert outbox.tally(MINE).told() == {"metrics": {"refused": 2}, "spans": {"refused": 2}}


def test_what_a_receiver_throws_away_of_what_it_takes_is_lost(
    outbox: Outbox, receiver: Scripted
) -> None:
    receiver.answers["spans"] = lambda: 2
    outbox.put(MINE, spans("a", "b", "c"))
    outbox.send()
    assert told(outbox) == (0, 2, 1)
    assert outbox.tally(MINE).told() == {"spans": {"rejected": 2}}


def test_of_metrics_the_newest_wait_since_they_tell_the_same(
    outbox: Outbox, receiver: Scripted
) -> None:
    receiver.answers["metrics"] = away
    newest = counter("newest", "1", POINTS)
    for metric in (METRIC, METRIC, newest):
        outbox.put(MINE, Telemetry([metric]), [METRIC])
        with pytest.raises(AgentError):
            outbox.send(now=True)
    assert told(outbox) == (0, 0, 0)
    assert outbox.tally(MINE).told() == {"metrics": {"superseded": 4}}
    receiver.answers.clear()
    outbox.send(now=True)
    assert receiver.took == ["newest", "m"]
    assert told(outbox) == (0, 0, 2)  # points of what it was asked to see


def test_pauses_grow_to_five_seconds_and_end_with_an_answer(
    outbox: Outbox, receiver: Scripted, clock: Clock
) -> None:
    receiver.answers["spans"] = failing
    outbox.put(MINE, spans("a"))
    pauses = []
    for _ in range(6):
        began, asked = clock.now, len(receiver.asked)
        while len(receiver.asked) == asked:
            with contextlib.suppress(AgentError):
                outbox.send()
            clock.now += 0.01
        pauses.append(clock.now - began)
    for pause, expected in zip(pauses[1:], (0.5, 1, 2, 4, 5), strict=True):
        assert 0.75 * expected < pause < 1.25 * expected
    receiver.answers.clear()
    outbox.send(now=True)
    outbox.put(MINE, spans("b"))
    outbox.send()  # nothing is left of the pause
    assert receiver.took == ["a", "b"]


def test_a_receiver_is_left_alone_as_long_as_it_asks(
    outbox: Outbox, receiver: Scripted, clock: Clock
) -> None:
    receiver.answers["spans"] = busy
    outbox.put(MINE, spans("a"))
    with pytest.raises(LaterError):
        outbox.send()
    for now, asked in ((19.9, 1), (20.1, 2)):
        clock.now = 100.0 + now
        with contextlib.suppress(AgentError):
            outbox.send()
        assert len(receiver.asked) == asked


def test_what_comes_at_the_same_time_is_sent_together(receiver: Scripted, clock: Clock) -> None:
    outbox = Outbox(receiver, gather_seconds=1.0, clock=clock)
    outbox.put(MINE, Telemetry([METRIC]))
    clock.now += 0.5
    outbox.put(OTHER, Telemetry([METRIC]))
    outbox.send()
    assert receiver.asked == []
    clock.now += 0.6
    outbox.send()
    assert (receiver.asked, receiver.took) == (["metrics"], ["m", "m"])
    assert told(outbox) == told(outbox, OTHER) == (0, 0, 2)


def test_a_sender_waits_until_there_is_something_or_the_end(receiver: Scripted) -> None:
    outbox = Outbox(receiver)
    rounds: list[bool] = []
    asked = threading.Event()

    def take() -> int:
        asked.set()
        return 0

    receiver.answers["spans"] = take

    def send() -> None:
        while outbox.await_due():
            rounds.append(True)
            outbox.send()

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    outbox.put(MINE, Telemetry())  # nothing
    outbox.put(MINE, spans("a"))
    assert asked.wait(PATIENCE_SECONDS)
    outbox.close()
    sending.join(PATIENCE_SECONDS)
    assert not sending.is_alive()
    assert (receiver.took, rounds) == (["a"], [True])


def test_what_comes_in_bursts_waits_for_more_of_it(receiver: Scripted, clock: Clock) -> None:
    outbox = Outbox(receiver, burst_gather_seconds=1.0, clock=clock)
    outbox.put(MINE, spans("first"))
    outbox.send()
    assert receiver.took == ["first"]
    receiver.asked.clear()
    many = [str(number) for number in range(500)]
    outbox.put(MINE, Telemetry([METRIC], spans(*many).spans))
    outbox.send()
    assert receiver.asked == ["metrics"]
    clock.now += 0.5
    outbox.put(MINE, spans(*many))
    outbox.send()
    assert receiver.asked == ["metrics"]
    clock.now += 0.6
    outbox.send()
    assert (receiver.asked, receiver.took) == (["metrics", "spans"], ["first", "m", *many, *many])
