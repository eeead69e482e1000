"""OTLP profiles: who reads them finds each stack, whose it is and how often it was seen."""

from __future__ import annotations

import pytest

from harness.agent.errors import AgentError, RefusedError
from harness.agent.outbox import WAITING_DRAINS, Outbox
from harness.meters import otlp
from harness.wire.spool import Record
from tests.otlp_profiles import ONE, ORIGIN, OTHER, WHO, Reader, made, sent
from tests.unit.outboxes import MINE, Clock, Scripted, away, profiles, refusing, spans, told


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_container_has_its_stacks_and_equal_ones_are_one() -> None:
    native, read = (0x401000, "/usr/bin/server", ""), ((1 << 63) + 5, "[kernel.kallsyms]", "")
    assert Reader(sent(made())).stacks() == {
        ONE.id: [
            ([read, native, (0, "", "hot")], [7], WHO),
            ([native], [1], {**WHO, "process.executable.name": "server"}),
        ],
        OTHER.id: [([native], [5], WHO)],
        "": [([(0x7001, "//anon", "")], [2], {}), ([], [6], {})],
    }


def test_a_resource_is_that_of_the_other_signals() -> None:
    for group, container in zip(sent(made()).resource_profiles, (ONE, OTHER, None), strict=True):
        assert group.resource == ORIGIN.resource(container)


def test_frames_say_what_they_are_of_and_files_which_build_they_are() -> None:
    reader = Reader(sent(made()))
    said = {each[:2]: each[3] for each in map(reader.frame, range(1, 5))}
    assert said == {
        ((1 << 63) + 5, "[kernel.kallsyms]"): {"profile.frame.type": "kernel"},
        (0x401000, "/usr/bin/server"): {
            "profile.frame.type": "native",
            "process.executable.build_id.gnu": "abcd",
        },
        (0, ""): {"profile.frame.type": "cpython"},
        (0x7001, "//anon"): {},
    }


def test_tables_begin_with_an_empty_entry_and_hold_nothing_twice() -> None:
    tables = sent(made()).dictionary
    assert tables.string_table[0] == ""
    assert len(set(tables.string_table)) == len(tables.string_table)
    for name in ("mapping", "location", "function", "link", "attribute", "stack"):
        entries = [each.SerializeToString() for each in getattr(tables, f"{name}_table")]
        assert entries[0] == b"", name
        assert len(set(entries)) == len(entries), name


def test_a_profile_says_when_and_how_often_it_was_sampled() -> None:
    request = sent(made())
    ids = set()
    for group in request.resource_profiles:
        profile = group.scope_profiles[0].profiles[0]
        kinds = (profile.sample_type, profile.period_type)
        assert [
            tuple(
                request.dictionary.string_table[each]
                for each in (kind.type_strindex, kind.unit_strindex)
            )
            for kind in kinds
        ] == [("samples", "count"), ("cpu", "nanoseconds")]
        assert (profile.period, profile.time_unix_nano) == (10**7, 10**18)
        assert profile.duration_nano == 5 * 10**9
        assert len(profile.profile_id) == 16
        ids.add(profile.profile_id)
    assert len(ids) == len(made()) == 3


def test_who_counts_samples_counts_those_of_each_container() -> None:
    found = made()
    record = Record(1, 1, otlp.PROFILES, "application/x-protobuf", "", found.encoded(ORIGIN), 200)
    points = [each for each in otlp.items(record) if isinstance(each, otlp.Point)]
    assert [each.value for each in points] == [8.0, 5.0, 8.0]
    assert {each.name for each in points} == {"profile.samples"}


def test_profiles_wait_drain_by_drain_and_go_last(clock: Clock) -> None:
    receiver = Scripted()
    outbox = Outbox(receiver, clock=clock)
    outbox.put(MINE, profiles("first", 3))
    outbox.put(MINE, profiles("second", 2))
    assert told(outbox) == (5, 0, 0)
    outbox.put(MINE, spans("a"))
    outbox.send(now=True)
    assert (receiver.asked, receiver.took) == (
        ["spans", "profiles", "profiles"],
        ["a", "first", "second"],
    )
    assert told(outbox) == (0, 0, 6)


def test_a_receiver_of_no_profiles_takes_the_rest(clock: Clock) -> None:
    receiver = Scripted()
    receiver.answers["profiles"] = refusing
    outbox = Outbox(receiver, clock=clock)
    outbox.put(MINE, profiles("drain", 3))
    outbox.put(MINE, spans("a"))
    with pytest.raises(RefusedError):
        outbox.send(now=True)
    assert receiver.took == ["a"]
    assert outbox.tally(MINE).told() == {"profiles": {"refused": 3}}
    assert told(outbox) == (0, 3, 1)


def test_of_a_receiver_that_is_away_the_newest_drains_wait(clock: Clock) -> None:
    receiver = Scripted()
    receiver.answers["profiles"] = away
    outbox = Outbox(receiver, clock=clock)
    for number in range(WAITING_DRAINS + 3):
        outbox.put(MINE, profiles(str(number), 2))
        with pytest.raises(AgentError):
            outbox.send(now=True)
    assert outbox.tally(MINE).told() == {"profiles": {"queue_full": 6}}
    receiver.answers.clear()
    outbox.send(now=True)
    assert receiver.took == [str(number) for number in range(3, WAITING_DRAINS + 3)]
    assert told(outbox) == (0, 6, 2 * WAITING_DRAINS)
