"""Whom the kernel half of `guard` remembers: until when an unknown process may be forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from harness.agent import ended
from harness.agent.ended import Ended


class Kernel:
    """The object and its map, as far as they are asked."""

    max_entries = 4096

    def __init__(self) -> None:
        self.exits = 0
        self.entries: dict[bytes, bytes] = {}

    def map(self, _: str) -> Any:
        return self

    def get(self, _: str) -> bytes:
        return self.exits.to_bytes(8, "little")

    def lookup(self, key: bytes) -> bytes | None:
        return self.entries.get(key)


def test_so_many_ended_since_the_last_look_that_some_may_be_unknown() -> None:
    kernel = Kernel()
    found = Ended(kernel)  # type: ignore[arg-type]
    kernel.exits = 2000
    found.look()
    assert not found.forgets()
    kernel.exits = 2049
    assert found.forgets()  # what is read now was done after the last look began
    found.look()
    assert not found.forgets()
    kernel.exits = 4049
    assert found.forgets()
    found.look()
    found.look()
    assert not found.forgets()


def test_who_ended_before_is_another_process_with_this_number() -> None:
    kernel = Kernel()
    found = Ended(kernel)  # type: ignore[arg-type]
    kernel.entries[(7).to_bytes(4, "little")] = ended.LAYOUT.pack(1000, 5, 9, 1, b"cat")
    process = found.find(7, 1000)
    assert process is not None
    assert (process.cgroup, process.program) == (5, 9)
    assert process.process == {
        "process.pid": 7, "process.parent_pid": 1, "process.executable.name": "cat",
    }  # fmt: skip
    assert found.find(7, 1001) is None
    assert found.find(8, 0) is None


@pytest.mark.parametrize(("cpus", "number"), [(1, 4096), (2, 4096), (8, 16384), (512, 65536)])
def test_more_are_remembered_where_more_can_end(cpus: int, number: int) -> None:
    assert ended.entries(cpus) == number
