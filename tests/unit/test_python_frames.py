"""Names of code objects and the version's layout, found in the memory of this very interpreter."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from typing import Any, cast

import pytest

from harness.agent import python_frames
from harness.agent.maps import Map
from harness.agent.memory import Memory
from harness.agent.pprof import Frame
from harness.agent.python_frames import Interpreters

SUPPORTED = ((3, 11), (3, 12), (3, 13))


class Table:
    """Stands in for the BPF map."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def update(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(key, None) is not None


def plain() -> None: ...
def latin_é() -> None: ...
def wide_č() -> None: ...


@pytest.mark.skipif(sys.version_info[:2] not in SUPPORTED, reason="this Python is not walked")
def test_functions_of_this_process_are_named() -> None:
    table, pid = Table(), os.getpid()
    interpreters = Interpreters(cast(Map, table))
    interpreters.refresh([pid])
    assert interpreters.versions == {"{}.{}".format(*sys.version_info)}
    assert list(table.entries) == [struct.pack("=I", pid)]
    functions: list[Any] = [plain, latin_é, wide_č]
    not_code = id(table)
    addresses = [*(id(each.__code__) for each in functions), not_code]
    assert interpreters.frames(pid, addresses) == [
        Frame(name=each.__name__, file=__file__, line=each.__code__.co_firstlineno)
        for each in functions
    ]


def test_other_programs_are_left_alone_and_ended_ones_forgotten() -> None:
    table = Table()
    interpreters = Interpreters(cast(Map, table))
    interpreters.refresh([os.getpid(), 2**22 + 1])  # no such process
    interpreters.refresh([])
    assert interpreters.versions == set()
    assert table.entries == {}
    assert interpreters.frames(os.getpid(), [id(plain.__code__)]) == []


def test_what_is_no_string_any_more_names_nothing() -> None:
    """Memory that was used again between the sample and the look: a string of no width."""
    layout = next(iter(python_frames._LAYOUTS.values()))
    width_none = bytes(16) + (3).to_bytes(8, "little") + bytes(8) + b"\0" + bytes(64)
    kind = b"code\0"
    buffers = [ctypes.create_string_buffer(each, len(each)) for each in (width_none, kind)]
    string, name = map(ctypes.addressof, buffers)
    type_ = ctypes.create_string_buffer(256)
    ctypes.c_uint64.from_buffer(type_, python_frames._TYPE_NAME).value = name
    code = ctypes.create_string_buffer(512)
    ctypes.c_uint64.from_buffer(code, 8).value = ctypes.addressof(type_)
    for place in (layout.qualname, layout.filename):
        ctypes.c_uint64.from_buffer(code, place).value = string
    with contextlib.closing(Memory(os.getpid())) as memory:
        assert python_frames._code(memory, layout, ctypes.addressof(code)) is None
