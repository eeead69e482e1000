"""The function of a CPython code object, read out of a process's memory; used by python_frames."""

from __future__ import annotations

import struct

from harness.agent.memory import Memory
from harness.agent.pprof import Frame
from harness.agent.python_layouts import Layout

TYPE_NAME = 24
"""PyTypeObject.tp_name."""
_STATE = 32  # PyASCIIObject.state
_COMPACT_ASCII = 0x60  # of it: compact and ascii
_WIDTHS = {1: "latin-1", 2: "utf-16", 4: "utf-32"}
_NO_PYTHON_NAME = "<interpreter trampoline>"  # 3.12 pushes it where C calls Python


def function(memory: Memory, at: Layout, address: int) -> Frame | None:
    """The function of a code object; None for anything else that a frame may point to.

    A process that goes on meanwhile may have put anything there; OSError if it ended.
    """
    if memory.text(memory.word(memory.word(address + 8) + TYPE_NAME)) != "code":
        return None
    try:
        name = _string(memory, at, memory.word(address + at.name))
        file = _string(memory, at, memory.word(address + at.filename))
    except KeyError:
        return None
    (line,) = struct.unpack("=i", memory.read(address + at.first_line, 4))
    return None if name == _NO_PYTHON_NAME else Frame(name=name, file=file, line=line)


def _string(memory: Memory, at: Layout, address: int) -> str:
    """A str; KeyError if it is none any more."""
    length = min(memory.word(address + 16), 1024)
    state = memory.read(address + _STATE, 1)[0]
    if state & _COMPACT_ASCII == _COMPACT_ASCII:
        return memory.read(address + at.ascii_size, length).decode("ascii", "replace")
    width = state >> 2 & 7
    encoding = _WIDTHS[width]
    return memory.read(address + at.compact_size, length * width).decode(encoding, "replace")
