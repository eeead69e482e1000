"""Which cgroups programs are told of: all that find room, and the others when some goes."""

from __future__ import annotations

import sys

import pytest

from harness.agent.errors import AgentError, FullError
from harness.agent.selected import Selected


class Entries:
    """A map with room for two."""

    def __init__(self) -> None:
        self.there: list[int] = []
        self.error: AgentError | None = None

    def map(self, _: str) -> Entries:
        return self

    def update(self, key: bytes, _: bytes) -> None:
        if self.error:
            raise self.error
        if len(self.there) == 2:
            raise FullError("full")
        self.there.append(int.from_bytes(key, sys.byteorder))

    def delete(self, key: bytes) -> None:
        self.there.remove(int.from_bytes(key, sys.byteorder))


@pytest.fixture
def entries() -> Entries:
    return Entries()


@pytest.fixture
def selected(entries: Entries) -> Selected:
    found = Selected()
    assert not found.put(9, True)  # not before it is started
    found.start(entries)  # type: ignore[arg-type]
    return found


def test_what_found_no_room_is_seen_when_another_one_goes(
    selected: Selected, entries: Entries, caplog: pytest.LogCaptureFixture
) -> None:
    assert [selected.put(each, True) for each in (1, 2, 3, 4, 5)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert caplog.text.count("more than") == 1
    selected.put(3, False)  # it waits no more
    selected.put(4, True)  # and goes on waiting, before the one behind it
    assert entries.there == [1, 2]
    assert selected.put(1, False)
    assert entries.there == [2, 4]
    assert selected.put(4, False)
    assert entries.there == [2, 5]
    assert not selected.put(5, False)  # nobody waits
    assert entries.there == [2]


def test_what_else_fails_is_told_as_it_is_each_time(
    selected: Selected, entries: Entries, caplog: pytest.LogCaptureFixture
) -> None:
    assert selected.put(1, True)
    entries.error = AgentError("no memory")
    assert not selected.put(2, True)
    assert not selected.put(3, True)
    assert caplog.text.count("is not seen: no memory") == 2
    assert "more than" not in caplog.text
    entries.error = None
    assert not selected.put(1, False)  # what failed for another reason does not wait for room
    assert entries.there == []
