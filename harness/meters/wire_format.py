"""Reads protobuf's wire format without a schema, as far as profiles use it; for `pushed`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

_VARINT, _BYTES = 0, 2


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
    found = Message()
    try:
        fields = UnknownFieldSet(Empty.FromString(data))
    except DecodeError as error:
        raise ValueError("it is no message of protobuf") from error
    for each in (fields[i] for i in range(len(fields))):
        if each.wire_type == _VARINT:
            found.numbers[each.field_number].append(each.data)
        elif each.wire_type == _BYTES:
            found.parts[each.field_number].append(each.data)
    return found


def _packed(data: bytes) -> list[int]:
    """Numbers one after the other, which are all that a part is."""
    found, value, shift = list[int](), 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    if shift:
        raise ValueError("a number is cut off")
    return found
