"""Reads MessagePack, as far as traces of Datadog's libraries use it; for `intake`."""

from __future__ import annotations

import struct
from typing import Any

_SIZED = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}  # bin, str
_COUNTED = {0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}  # array, map
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
            0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def read(data: bytes) -> Any:
    """The value of these bytes; ValueError if they are no MessagePack, or of an extension type."""
    try:
        value, end = _value(data, 0)
    except (IndexError, struct.error) as error:
        raise ValueError(f"it is cut off: {error}") from error
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes come after its value")
    return value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends."""
    code, at = data[at], at + 1
    if code < 0x80 or code >= 0xE0:
        return (code if code < 0x80 else code - 256), at
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    if layout := _NUMBERS.get(code):
        return struct.unpack_from(layout, data, at)[0], at + struct.calcsize(layout)
    if code & 0xE0 == 0xA0:
        return _text(data, at, code & 0x1F, is_text=True)
    if layout := _SIZED.get(code):
        size = struct.unpack_from(layout, data, at)[0]
        return _text(data, at + struct.calcsize(layout), size, is_text=code >= 0xD9)
    count = code & 0x0F
    if layout := _COUNTED.get(code):
        count, at = struct.unpack_from(layout, data, at)[0], at + struct.calcsize(layout)
    if code & 0xF0 == 0x90 or code in (0xDC, 0xDD):
        return _array(data, at, count)
    if code & 0xF0 == 0x80 or code in (0xDE, 0xDF):
        return _map(data, at, count)
    raise ValueError(f"{code:#x} is no type that is read here")


def _text(data: bytes, at: int, size: int, *, is_text: bool) -> tuple[Any, int]:
    found = data[at : at + size]
    if len(found) < size:
        raise IndexError(f"{size} bytes of text were to come")
    return (found.decode(errors="replace") if is_text else found), at + size


def _array(data: bytes, at: int, count: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(count):
        value, at = _value(data, at)
        found.append(value)
    return found, at


def _map(data: bytes, at: int, count: int) -> tuple[dict[Any, Any], int]:
    found = {}
    for _ in range(count):
        key, at = _value(data, at)
        found[key], at = _value(data, at)
    return found, at
