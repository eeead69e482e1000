"""A push of profiles as Pyroscope's clients make one: protobuf, written by hand."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

SECOND = 10**9


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def number(key: int, value: int) -> bytes:
    return varint(key << 3) + varint(value)


def part(key: int, value: bytes) -> bytes:
    return varint(key << 3 | 2) + varint(len(value)) + value


def profile(
    values: Sequence[Sequence[int]],
    kinds: Sequence[tuple[str, str]] = (("cpu", "nanoseconds"),),
    *,
    period: int = SECOND // 100,
    started: int = 5 * SECOND,
    packed: bool = True,
) -> bytes:
    """A pprof profile with a sample for each of these values, one number a kind."""
    texts = ["", *dict.fromkeys(text for kind in kinds for text in kind)]
    found = b""
    for kind, unit in kinds:
        found += part(1, number(1, texts.index(kind)) + number(2, texts.index(unit)))
    for each in values:
        told = part(2, b"".join(map(varint, each)))
        if not packed:
            told = b"".join(number(2, one) for one in each)
        found += part(2, part(1, varint(7)) + told)
    found += b"".join(part(6, text.encode()) for text in texts)
    return found + number(9, started) + number(10, 10 * SECOND) + number(12, period)


def push(*profiles: bytes) -> bytes:
    """All of them in one series, as it has labels and each an id."""
    label = part(1, part(1, b"service_name") + part(2, b"shop"))
    raw = b"".join(part(2, part(1, each) + part(2, b"an-id")) for each in profiles)
    return part(1, label + raw)


def push_gzipped(*profiles: bytes) -> bytes:
    return gzip.compress(push(*profiles))
