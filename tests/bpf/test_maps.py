"""Reading maps by the batch: all of them, however much they held before."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent import maps
from harness.agent.libbpf import Map, Object

pytestmark = pytest.mark.bpf

NUMBERS = (0, 3, 700, 4000, 20, 1500, 1, 0)  # of entries, one after the other


@pytest.fixture(scope="module")
def table(bpf_objects: Path) -> Iterator[Map]:
    """A hash map of 4096 entries."""
    with contextlib.closing(Object(bpf_objects / "http.bpf.o")) as obj:
        obj.load()
        yield obj.map("early")


def fill(table: Map, number: int) -> dict[bytes, bytes]:
    entries = {
        i.to_bytes(table.key_size, "little"): i.to_bytes(table.stored, "little")
        for i in range(number)
    }
    for key in list(table.keys()):
        table.delete(key)
    for key, value in entries.items():
        table.update(key, value)
    return entries


def test_every_entry_is_read_once(table: Map) -> None:
    for number in NUMBERS:
        entries = fill(table, number)
        for _ in range(2):
            found = list(table.items())
            assert Counter(key for key, _ in found) == Counter(list(entries))
            assert dict(found) == entries


def test_every_entry_is_taken_once(table: Map) -> None:
    for number in NUMBERS:
        entries = fill(table, number)
        found = list(table.drain())
        assert (len(found), dict(found)) == (number, entries)
        assert list(table.items()) == []


def test_entries_of_one_bucket_that_do_not_fit_at_once_are_read_once(
    table: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room for one, the kernel refuses a bucket of two: thousands have some."""
    monkeypatch.setattr(maps, "_LEAST_BATCH", 1)
    monkeypatch.setattr(maps, "_BATCH", 1)
    entries = fill(table, 4000)
    found = list(table.items())
    assert (len(found), dict(found)) == (4000, entries)
    found = list(table.drain())
    assert (len(found), dict(found)) == (4000, entries)
