"""Peers told one by one or together: at each reading all that was counted is told once."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping
from typing import Any

import pytest

from harness.agent.container import Container
from harness.agent.flow_series import (
    COUNTED,
    KEY,
    NOTHING,
    RTT,
    Figures,
    Series,
    flow,
    is_others,
    overflows,
)
from harness.agent.peers import Peers

OPENED, SENT = 0, 1
TCP, SERVER = 6, 2
POD = Container("c" * 64, "")


def series(number: int, container: Container | None = None) -> Series:
    peer = ipaddress.IPv6Address(f"::ffff:10.0.{number >> 8}.{number & 255}").packed
    return container, KEY.pack(TCP, SERVER, 443, 0, peer, peer)


def figures(opened: int, sent: int = 0, rtt: tuple[int, int] = (0, 0), active: int = 0) -> Figures:
    made = list(NOTHING)
    made[OPENED], made[SENT], made[RTT], made[COUNTED + 1] = opened, sent, rtt, active
    return made


def apart(told: Mapping[Series, Any]) -> set[Series]:
    return {each for each in told if not is_others(each)}


def total(told: Mapping[Series, Figures], of: int = OPENED) -> int:
    return sum(each[of] for each in told.values())


def test_so_many_are_told_apart_and_the_rest_together() -> None:
    read = {series(n): figures(1 + n) for n in range(10)}
    told = Peers(most=4, age_seconds=300).tell(read, now=0.0)
    assert len(apart(told)) == 4
    assert total(told) == total(read)
    assert len(told) == 5
    (others,) = set(told) - apart(told)
    assert flow(others, told[others]).attributes == {
        "network.transport": "tcp",
        "tcp.role": "server",
        "otel.metric.overflow": True,
    }


def test_who_moves_most_comes_first_and_who_is_told_stays() -> None:
    peers = Peers(most=2, age_seconds=300)
    read = {series(n): figures(1, sent=n) for n in range(5)}
    assert apart(peers.tell(read, 0.0)) == {series(3), series(4)}
    read[series(0)] = figures(1, sent=1000)
    assert apart(peers.tell(read, 1.0)) == {series(3), series(4)}


def test_a_peer_with_which_nothing_happens_becomes_one_of_the_others() -> None:
    peers = Peers(most=1, age_seconds=300)
    one, two = series(1), series(2)
    peers.tell({one: figures(5)}, 0.0)
    peers.tell({one: figures(5)}, 299.0)
    assert peers.idle(299.0) == []
    assert peers.idle(300.0) == [one]
    peers.fold(one, figures(6))  # one more was opened in the meantime
    told = peers.tell({two: figures(1)}, 301.0)
    assert apart(told) == {two}
    assert total(told) == 7
    told = peers.tell({two: figures(1), one: figures(1)}, 302.0)  # it is back, without a place
    assert (apart(told), total(told)) == ({two}, 8)


def test_what_is_not_told_apart_need_not_be_kept() -> None:
    peers = Peers(most=1, age_seconds=300)
    read = {series(1): figures(1, sent=9), series(2): figures(1)}
    peers.tell(read, 0.0)
    assert peers.idle(0.0) == []
    peers.tell(read, 3.0)
    assert peers.idle(3.0) == [series(2)]


@pytest.mark.parametrize("most", [1, 2])
def test_an_open_connection_is_something_that_happens(most: int) -> None:
    peers = Peers(most=most, age_seconds=300)
    read = {series(n): figures(1, active=1) for n in range(2)}
    for now in (0.0, 400.0, 800.0):
        peers.tell(read, now)
        assert peers.idle(now) == []


def test_a_peer_that_gets_a_place_later_is_told_from_then_on() -> None:
    peers = Peers(most=1, age_seconds=300)
    one, two = series(1), series(2)
    peers.tell({one: figures(5, sent=9), two: figures(7)}, 0.0)
    peers.tell({one: figures(5, sent=9), two: figures(8)}, 300.0)
    peers.fold(one, figures(5, sent=9))
    told = peers.tell({two: figures(10)}, 301.0)
    assert told[two][OPENED] == 2
    assert total(told) == 15


def test_round_trip_times_are_those_since_the_last_reading() -> None:
    peers = Peers(most=1, age_seconds=300)
    one, two = series(1), series(2)
    peers.tell({one: figures(1, rtt=(100, 1), sent=9), two: figures(1, rtt=(700, 7))}, 0.0)
    told = peers.tell({one: figures(1, rtt=(150, 3), sent=9), two: figures(1, rtt=(703, 8))}, 1.0)
    assert sorted(each[RTT] for each in told.values()) == [[3, 1], [50, 2]]
    peers.fold(two, figures(1, rtt=(703, 8)))
    told = peers.tell({one: figures(1, rtt=(150, 3), sent=9)}, 2.0)
    assert [each[RTT] for each in told.values()] == [[0, 0], [0, 0]]


def test_what_programs_had_no_room_for_is_told_with_the_others() -> None:
    (key, *_) = [key for key in overflows() if KEY.unpack(key)[:2] == (TCP, SERVER)]
    peers = Peers(most=1, age_seconds=0)
    read = {(None, key): figures(3), series(1): figures(1, sent=1), series(2): figures(1)}
    for now in (0.0, 1.0):
        told = peers.tell(read, now)
    assert {each[OPENED] for each in told.values()} == {1, 4}
    assert peers.idle(1.0) == [series(1), series(2)]  # but never the room of the others


def test_containers_have_places_of_their_own_and_end() -> None:
    peers = Peers(most=1, age_seconds=300)
    read = {series(n, of): figures(1) for n in range(3) for of in (None, POD)}
    told = peers.tell(read, 0.0)
    assert {each[0] for each in apart(told)} == {None, POD}
    assert len(apart(told)) == 2
    peers.tell(read, 1.0)
    for each in peers.idle(1.0):
        peers.fold(each, figures(1))
    peers.forget(lambda container: container is None)
    left = {each: read[each] for each in apart(told) if each[0] is None}
    assert {each[0] for each in peers.tell(left, 2.0)} == {None}


def test_nothing_is_lost_or_told_twice_whatever_comes() -> None:
    """Ten thousand clients of a server that tells five: the sum is right at every reading."""
    chance = random.Random(5)
    peers, made, others = Peers(most=5, age_seconds=10), 0, 0
    room: dict[Series, Figures] = {}
    for step in range(400):
        for _ in range(chance.randrange(50)):
            one = series(chance.choice([chance.randrange(10_000), chance.randrange(6)]))
            opened = room.get(one, NOTHING)[OPENED] + 1
            room[one] = figures(opened, sent=chance.randrange(9) + room.get(one, NOTHING)[SENT])
            made += 1
        told = peers.tell(room, float(step))
        assert total(told) == made
        assert total(told, SENT) >= 0
        assert len(apart(told)) <= 5
        assert all(each[OPENED] >= 0 for each in told.values())
        rest = sum(told[each][OPENED] for each in set(told) - apart(told))
        assert rest >= others
        others = rest
        for each in peers.idle(float(step)):
            peers.fold(each, room.pop(each))
    assert len(room) < 200
