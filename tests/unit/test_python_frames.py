"""Names of code objects and the version's layout, found in the memory of this very interpreter."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from typing import Any, cast

import pytest

from harness.agent import python_code, python_layouts
from harness.agent.bounded import Answers
from harness.agent.images import Image
from harness.agent.maps import Map
from harness.agent.memory import Memory, start_stack
from harness.agent.pprof import Frame
from harness.agent.python_frames import Interpreters

SUPPORTED = (*python_layouts.LAYOUTS, (3, 13), (3, 14))
LAYOUT = python_layouts.LAYOUTS.get((3, 12), python_layouts._3_12)


class Table:
    """Stands in for the BPF map."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def update(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(key, None) is not None


def image(pid: int, parent: int = 0) -> Image:
    return Image(pid, parent, "python", start_stack(os.getpid()))


def plain() -> None: ...
def latin_é() -> None: ...
def wide_č() -> None: ...


FUNCTIONS: list[Any] = [plain, latin_é, wide_č]
FRAMES = [
    Frame(name=each.__name__, file=__file__, line=each.__code__.co_firstlineno)
    for each in FUNCTIONS
]
walked = pytest.mark.skipif(sys.version_info[:2] not in SUPPORTED, reason="this Python is not")


@walked
def test_functions_of_this_process_are_named() -> None:
    table, pid = Table(), os.getpid()
    interpreters = Interpreters(cast(Map, table), Answers())
    assert interpreters.look(pid)
    assert interpreters.versions == {"{}.{}".format(*sys.version_info)}
    assert list(table.entries) == [struct.pack("=I", pid)]
    not_code = id(table)
    addresses = [*(id(each.__code__) for each in FUNCTIONS), not_code]
    assert interpreters.frames(image(pid), addresses) == FRAMES


@walked
def test_a_process_that_was_forked_and_has_ended_is_read_in_its_parent() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    interpreters = Interpreters(cast(Map, Table()), Answers())
    interpreters.look(os.getpid())
    addresses = [id(each.__code__) for each in FUNCTIONS]
    assert interpreters.frames(image(pid, os.getpid()), addresses) == FRAMES
    strange = Image(pid, os.getpid(), "other", start_stack(os.getpid()) + 16)  # it ran an exec
    assert interpreters.frames(strange, addresses) == []


@walked
def test_a_forked_process_has_what_its_parent_has() -> None:
    table, (read, write) = Table(), os.pipe()
    interpreters = Interpreters(cast(Map, table), Answers())
    interpreters.look(os.getpid())
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(0)
    try:
        assert interpreters.look(pid, os.getpid())
        assert len(set(table.entries.values())) == 1
        assert struct.pack("=I", pid) in table.entries
    finally:
        os.write(write, b"x")
        os.waitpid(pid, 0)
    interpreters.forget()
    assert list(table.entries) == [struct.pack("=I", os.getpid())]


def test_other_programs_are_left_alone() -> None:
    table = Table()
    interpreters = Interpreters(cast(Map, table), Answers())
    assert interpreters.look(2**22 + 1)  # no such process
    assert interpreters.versions == set()
    assert table.entries == {}
    assert interpreters.frames(image(os.getpid()), [id(plain.__code__)]) == []
    assert interpreters.frames(None, [id(plain.__code__)]) == []


def code_of(string: bytes) -> tuple[int, list[Any]]:
    """The address of a made-up code object whose names are this str object, and what keeps it."""
    buffers = [ctypes.create_string_buffer(each, len(each)) for each in (string, b"code\0" * 13)]
    at, name = map(ctypes.addressof, buffers)
    type_ = ctypes.create_string_buffer(256)
    ctypes.c_uint64.from_buffer(type_, python_code.TYPE_NAME).value = name
    code = ctypes.create_string_buffer(512)
    ctypes.c_uint64.from_buffer(code, 8).value = ctypes.addressof(type_)
    for place in (LAYOUT.name, LAYOUT.filename):
        ctypes.c_uint64.from_buffer(code, place).value = at
    return ctypes.addressof(code), [*buffers, type_, code]


def string(state: bytes, text: bytes) -> bytes:
    """A str of 3.12 and later: references, type, length, hash, state, padding, characters."""
    return bytes(16) + struct.pack("=Q8x", len(text)) + state + bytes(4) + text + bytes(64)


def test_what_is_no_string_any_more_names_nothing() -> None:
    """Memory that was used again between the sample and the look: a string of no width."""
    address, kept = code_of(string(bytes(4), b"hot"))
    with contextlib.closing(Memory(os.getpid())) as memory:
        assert python_code.function(memory, LAYOUT, address) is None
    assert kept


def offsets(version: tuple[int, int]) -> list[int]:
    """_Py_DebugOffsets in which each word is a hundred times its place, but for what is checked."""
    words = [100 * place for place in range(64)]
    words[0], words[2] = int.from_bytes(b"xdebugpy", sys.byteorder), 0
    before = python_layouts._WORDS[version]["next"] - 1
    words[before : before + 3] = [0, 8, 16]
    return words


def read_layout(words: list[int], version: tuple[int, int]) -> python_layouts.Layout | None:
    block = ctypes.create_string_buffer(struct.pack("=64Q", *words), 512)
    with contextlib.closing(Memory(os.getpid())) as memory:
        return python_layouts.layout(memory, ctypes.addressof(block), version)


def test_a_release_that_says_its_offsets_is_believed() -> None:
    found = read_layout(offsets((3, 14)), (3, 14))
    assert found is not None
    assert (found.head, found.threads, found.frame, found.code) == (500, 900, 2600, 3300)
    assert (found.holder, found.locked, found.current, found.next) == (300, 200, 0, 8)


@pytest.mark.parametrize("place", [0, 2, 24])
def test_a_release_that_says_something_else_is_not_walked(place: int) -> None:
    """No cookie, no lock, other members than are known."""
    words = offsets((3, 14))
    words[place] += 1
    assert read_layout(words, (3, 14)) is None
    assert read_layout(offsets((3, 14)), (3, 15)) is None
