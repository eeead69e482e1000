"""Layouts written by hand, held beside the types in the object's own BTF; for collectors.

    layouts.check(obj, "flow_key", struct.Struct("=BBHB3x16s16s"))
    layouts.check(obj, "http_event", _Event)        # a ctypes.Structure

A struct of bpf/ and what Python reads it by are two texts. Where they differ in the size or the
place of a member, every figure would be wrong and none would look so: the collector is refused
instead, before it is loaded. Members are compared by place and size, one after the other, those of
structs within it among them, of a union the first; an array of bytes is one, and what is called
`unused` is padding.
The type must be in the object: that of a global, of a map's key or value, or of a pointer to it.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Iterator
from typing import Any

from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.library import LIB

Layout = struct.Struct | type[ctypes.Structure]
_Place = tuple[int, int]  # offset and size in bytes

_ARRAY, _STRUCT, _UNION = 3, 4, 5
_POINTER, _POINTER_BYTES = 2, 8
_ALIASES = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
_UNUSED = "unused"
_HEADER = struct.Struct("=III")  # struct btf_type, of struct btf_member and btf_array, too


def check(obj: Object, name: str, layout: Layout) -> None:
    """AgentError unless `layout` reads struct `name` of the object as it was compiled."""
    size, members = _compiled(obj.btf, name)
    read = list(_of_ctypes(layout, 0) if isinstance(layout, type) else _of_format(layout))
    read_size = ctypes.sizeof(layout) if isinstance(layout, type) else layout.size
    for (member, place), own in zip(members, read, strict=False):
        if place != own:
            raise _differs(obj, name, f"{member} is {_told(place)}, and is read as {_told(own)}")
    if len(members) != len(read):
        raise _differs(obj, name, f"it has {len(members)} members, and {len(read)} are read")
    if size != read_size:
        raise _differs(obj, name, f"it has {size} bytes, and {read_size} are read")


def _compiled(btf: int, name: str) -> tuple[int, list[tuple[str, _Place]]]:
    """The size of a struct, and its members with their places."""
    number = LIB.btf__find_by_name_kind(btf, name.encode(), _STRUCT)
    if number < 0:
        raise AgentError(
            f"The BPF object has no type struct {name}.",
            "It was built from other sources, or nothing in it keeps the type.",
            "Run `make bpf`.",
        )
    return _fields(btf, number)[1], list(_members(btf, number, 0, name))


def _members(btf: int, number: int, offset: int, path: str) -> Iterator[tuple[str, _Place]]:
    kind, size, count, at = _resolved(btf, number)
    if kind in (_STRUCT, _UNION):
        for i in range(count if kind == _STRUCT else 1):
            text, of, bits = _HEADER.unpack(ctypes.string_at(at + _HEADER.size * (i + 1), 12))
            member = LIB.btf__name_by_offset(btf, text).decode()
            if member != _UNUSED:
                place = offset + (bits & 0xFFFFFF) // 8
                yield from _members(btf, of, place, f"{path}.{member}")
    elif kind == _ARRAY:
        of, _, length = _HEADER.unpack(ctypes.string_at(at + _HEADER.size, 12))
        step = _size(btf, of)
        if step == 1:
            yield path, (offset, length)
        else:
            for i in range(length):
                yield from _members(btf, of, offset + i * step, f"{path}[{i}]")
    else:
        yield path, (offset, _POINTER_BYTES if kind == _POINTER else size)


def _size(btf: int, number: int) -> int:
    kind, size, _, at = _resolved(btf, number)
    if kind == _ARRAY:
        of, _, length = _HEADER.unpack(ctypes.string_at(at + _HEADER.size, 12))
        return _size(btf, of) * int(length)
    return _POINTER_BYTES if kind == _POINTER else size


def _resolved(btf: int, number: int) -> tuple[int, int, int, int]:
    """Kind, size, number of members and address of a type, behind its typedefs and qualifiers."""
    kind, size, count, at = _fields(btf, number)
    while kind in _ALIASES:
        kind, size, count, at = _fields(btf, size)
    return kind, size, count, at


def _fields(btf: int, number: int) -> tuple[int, int, int, int]:
    at = LIB.btf__type_by_id(btf, number)
    _, info, size_or_type = _HEADER.unpack(ctypes.string_at(at, _HEADER.size))
    return info >> 24 & 0x1F, size_or_type, info & 0xFFFF, at


def _of_format(layout: struct.Struct) -> Iterator[_Place]:
    """The places that a format without alignment (`=`) reads."""
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z?])", layout.format):
        times, size = int(count or 1), struct.calcsize(f"={code}")
        if code == "s":
            yield offset, times
        elif code != "x":
            yield from ((offset + i * size, size) for i in range(times))
        offset += times * size


def _of_ctypes(layout: Any, offset: int) -> Iterator[_Place]:
    """The places that a ctypes type reads, wherever it begins."""
    if issubclass(layout, ctypes.Structure | ctypes.Union):
        for name, of, *_ in layout._fields_:
            if name != _UNUSED:
                yield from _of_ctypes(of, offset + getattr(layout, name).offset)
    elif issubclass(layout, ctypes.Array):
        step = ctypes.sizeof(layout._type_)
        if step == 1:
            yield offset, layout._length_
        else:
            for i in range(layout._length_):
                yield from _of_ctypes(layout._type_, offset + i * step)
    else:
        yield offset, ctypes.sizeof(layout)


def _told(place: _Place) -> str:
    offset, size = place
    return f"{size} bytes at {offset}"


def _differs(obj: Object, name: str, how: str) -> AgentError:
    return AgentError(
        f"struct {name} of the BPF object `{obj.name}` is not what this agent reads.",
        f"{how}: the object was built from other sources than this agent is of.",
        "Run `make bpf`, or install both anew.",
    )
