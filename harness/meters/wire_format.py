"""Reads protobuf's wire format without a schema, as far as profiles use it; for `pushed`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

_VARINT, _BYTES = 0, 2
_SKIPPED = {1: 8, 5: 4}  # numbers of a fixed size, of which no profile has any that is asked for
_MOST_BITS = 63


@dataclass(frozen=True)
class Message:
    """The fields of a message by their numbers, in order: whole numbers, and what has a length."""

    numbers: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    parts: defaultdict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def number(self, key: int) -> int:
        """The last one of a field, 0 if there is none, as protobuf has it."""
        return self.numbers[key][-1] if self.numbers[key] else 0

    def repeated(self, key: int) -> list[int]:
        """All numbers of a field, packed or one by one."""
        return [*self.numbers[key], *(each for part in self.parts[key] for each in _packed(part))]


def read(data: bytes) -> Message:
    """The message of these bytes; ValueError if they are none."""
    found, at = Message(), 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            found.numbers[number].append(value)
        elif kind == _BYTES:
            size, at = _varint(data, at)
            found.parts[number].append(_cut(data, at, size))
            at += size
        elif kind in _SKIPPED:
            at += len(_cut(data, at, _SKIPPED[kind]))
        else:
            raise ValueError(f"{kind} is no type of a field that is read here")
    return found


def _packed(data: bytes) -> list[int]:
    found, at = list[int](), 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    value = shift = 0
    while shift <= _MOST_BITS:
        byte = _cut(data, at, 1)[0]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than 64 bits")


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError(f"it is cut off: {size} bytes were to come")
    return data[at : at + size]
