"""Two nodes' clocks, told from each other through channels whose delays a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.controller import clocks
from harness.controller import node as controller_node
from harness.controller.clocks import Exchange, Offset
from harness.controller.node import Node
from harness.errors import HarnessError, LoadError, NeedError
from harness.load import record
from harness.load.record import Record
from harness.wire.driving import Course
from harness.wire.frames import Reader, pack

MS, S = 1_000_000, 1_000_000_000
DELAYS = st.tuples(st.integers(0, 50 * MS), st.integers(0, 50 * MS))  # there, back
AHEAD = st.integers(-(10**15), 10**15)


class World:
    """The true time, which passes only on the ways between."""

    def __init__(self) -> None:
        self.now_ns = 10**12


class Way:
    """A channel to a node whose clock is so far ahead of the true time: asked, it answers."""

    def __init__(self, world: World, ahead_ns: int, delays: Iterable[tuple[int, int]]) -> None:
        self._world, self._ahead_ns, self._delays = world, ahead_ns, iter(delays)
        self._back_ns, self._waiting = 0, b""

    def send(self, data: bytes) -> None:
        ping = Reader(lambda *_: data).read(1.0)
        there_ns, self._back_ns = next(self._delays)
        self._world.now_ns += there_ns
        at_ns = self._world.now_ns + self._ahead_ns
        self._waiting = pack("pong", number=ping.head["number"], at_ns=at_ns)

    def receive(self, _size: int, _seconds: float) -> bytes:
        self._world.now_ns += self._back_ns
        said, self._waiting = self._waiting, b""
        return said

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        pass

    def last_words(self) -> str:
        return ""


def compared(
    ahead: tuple[int, int], delays: Iterable[tuple[tuple[int, int], tuple[int, int]]]
) -> Offset:
    """The offset between two nodes that are so far ahead, found by these exchanges with both.

    The controller's own clock is behind, too.
    """
    world, (measured, load) = World(), zip(*delays, strict=True)
    nodes = [Node(Way(world, *each)) for each in zip(ahead, (measured, load), strict=True)]
    own = SimpleNamespace(monotonic_ns=lambda: world.now_ns - 5 * S, monotonic=lambda: 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks, "EXCHANGES", len(measured))
        patch.setattr(controller_node, "time", own)
        return clocks.compare(nodes[0].clock, nodes[1].clock)


@given(st.tuples(AHEAD, AHEAD), st.lists(st.tuples(DELAYS, DELAYS), min_size=1, max_size=5))
def test_the_truth_is_never_further_away_than_stated(
    ahead: tuple[int, int], delays: list[tuple[tuple[int, int], tuple[int, int]]]
) -> None:
    found = compared(ahead, delays)
    assert abs(found.ahead_ns - (ahead[1] - ahead[0])) <= found.uncertainty_ns


def test_ways_that_take_as_long_there_as_back_tell_the_offset_itself() -> None:
    found = compared((-3 * S, 7 * S), [((MS, MS), (2 * MS, 2 * MS))])
    assert found.ahead_ns == 10 * S
    assert found.uncertainty_ns == 3 * MS + 1


def test_a_way_of_one_direction_only_is_wrong_by_all_that_is_stated() -> None:
    found = compared((0, S), [((0, 0), (4 * MS, 0))])
    assert found.ahead_ns == S + 2 * MS
    assert found.uncertainty_ns == 2 * MS + 1


def test_of_many_exchanges_that_with_the_shortest_ways_is_taken() -> None:
    slow, quick = ((40 * MS, 0), (0, 30 * MS)), ((MS // 10, MS // 10), (MS // 5, MS // 5))
    found = compared((0, 3600 * S), [slow, quick, slow])
    assert found.ahead_ns == 3600 * S
    assert found.uncertainty_ns == 3 * MS // 10 + 1


def test_an_answer_to_an_earlier_question_is_not_taken_for_this_one() -> None:
    answers = pack("pong", number=0, at_ns=1) + pack("pong", number=1, at_ns=2)
    said = iter([answers])
    channel = SimpleNamespace(
        send=lambda _: None, receive=lambda *_: next(said), close=None, last_words=lambda: ""
    )
    assert Node(channel).clock().told_ns == 2


@pytest.mark.parametrize(("uncertainty_ns", "fits"), [(600_000, True), (600_001, False)])
def test_a_tenth_of_the_guard_is_the_limit(uncertainty_ns: int, fits: bool) -> None:
    found = Offset(0, 0, uncertainty_ns)
    if fits:
        clocks.require(found, 0.006, NeedError)
        return
    with pytest.raises(NeedError, match=r"0.60 ms of each other only, and 0.6 ms") as refused:
        clocks.require(found, 0.006, NeedError)
    assert refused.value.why
    assert "guard_seconds to 0.007 or more" in refused.value.next_step
    clocks.require(found, 0.007, NeedError)


@pytest.mark.parametrize("kind", [NeedError, LoadError])
def test_without_a_guard_no_clock_is_known_well_enough(kind: type[HarnessError]) -> None:
    with pytest.raises(kind):
        clocks.require(Offset(0, 0, 1), 0.0, kind)


@given(
    ahead=st.integers(-(10**15), 10**15),
    parted=st.integers(-30 * MS, 30 * MS),
    errors=st.tuples(st.integers(-MS, MS), st.integers(-MS, MS)),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
def test_times_between_two_comparisons_are_told_as_well_as_these(
    tmp_path_factory: pytest.TempPathFactory,
    ahead: int,
    parted: int,
    errors: tuple[int, int],
    shares: list[float],
) -> None:
    """A clock that drifts evenly, seen with an error at either end, is never wrong by more."""
    lasts = 60 * S
    before = Offset(ahead, ahead + errors[0], abs(errors[0]) + 1)
    after = Offset(ahead + lasts, ahead + parted + errors[1], abs(errors[1]) + 1)
    course = clocks.course(before, after)
    by_load = [ahead + round(share * lasts) for share in shares]
    truly = [at - ahead - round((at - ahead) / lasts * parted) for at in by_load]
    log = Record()
    for at in by_load:
        log.add(at, at, at, 200, False, "/", 1)
    path = tmp_path_factory.mktemp("shifted") / "requests.npz"
    log.write(path)
    record.shift(path, course)
    told = record.read(path)
    for column in (told.due_ns, told.start_ns, told.end_ns):
        assert np.abs(column - np.array(truly)).max() <= course.uncertainty_ns + 1


def test_all_but_the_times_stays_as_it_was(tmp_path: Path) -> None:
    log = Record()
    log.add(10 * S, 11 * S, 12 * S, 503, True, "/a", 7, twin=True)
    log.write(path := tmp_path / "requests.npz")
    before = record.read(path)
    record.shift(path, Course(10 * S, 3 * S, 0, 1, 5))
    after = record.read(path)
    assert (after.due_ns[0], after.start_ns[0], after.end_ns[0]) == (7 * S, 8 * S, 9 * S)
    for name in ("status", "failed", "route", "size", "twin", "route_names"):
        assert getattr(after, name) == getattr(before, name)


def test_a_clock_that_jumped_is_not_taken_for_one_that_drifts() -> None:
    before, lasts = Offset(0, 0, 100), 10 * S
    drifted = round(clocks.MOST_RATE * lasts) + 200
    assert clocks.course(before, Offset(lasts, drifted, 100)).parted_ns == drifted
    for after in (Offset(lasts, drifted + 1, 100), Offset(-1, 0, 100)):
        with pytest.raises(LoadError, match="parted by"):
            clocks.course(before, after)


def test_what_is_only_counted_is_told_by_the_last_comparison() -> None:
    assert clocks.standing(Offset(3, 4, 5)) == Course(3, 4, 0, 1, 5)


def test_an_exchange_has_no_more_than_three_moments() -> None:
    found = clocks.offset(Exchange(0, 100, 10), Exchange(10, 1105, 20))
    assert (found.at_ns, found.ahead_ns, found.uncertainty_ns) == (1105, 995, 11)
