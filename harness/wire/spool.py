"""The file in which the sink keeps what it received; the sink appends, the coverage meter reads.

A record is a header (five little-endian 64-bit numbers: length of the text, length of the body,
CLOCK_MONOTONIC and CLOCK_REALTIME nanoseconds of arrival, a check word), a text of path, content
type and content encoding separated by newlines, and the body as it came.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct("<QQQQQ")
_CHECK = 0x4F544C5053504F4C


@dataclass(frozen=True)
class Record:
    """One post to the sink, with its arrival in nanoseconds on both clocks."""

    arrival_ns: int
    arrival_unix_ns: int
    path: str
    content_type: str
    encoding: str
    body: bytes

    def content(self) -> bytes:
        """The body, decompressed."""
        if self.encoding == "gzip":
            return gzip.decompress(self.body)
        return zlib.decompress(self.body) if self.encoding == "deflate" else self.body


def pack(record: Record) -> bytes:
    """The bytes to append for a record."""
    text = "\n".join((record.path, record.content_type, record.encoding)).encode()
    header = _HEADER.pack(
        len(text), len(record.body), record.arrival_ns, record.arrival_unix_ns, _CHECK
    )
    return header + text + record.body


def read_spool(path: Path, offset: int = 0) -> Iterator[Record]:
    """The records in order of arrival, from a record's `offset` in bytes on.

    A last one that was cut off by a crash is left out.
    """
    return (record for record, _ in _records(path, offset))


def whole_bytes(path: Path) -> int:
    """Where the last whole record ends, in bytes; ValueError if the file is no spool."""
    return max((end for _, end in _records(path)), default=0)


def _records(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    with path.open("rb") as stream:
        stream.seek(offset)
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            text_length, body_length, arrival_ns, arrival_unix_ns, check = _HEADER.unpack(header)
            if check != _CHECK:
                raise ValueError(f"{path} is not a spool, or is damaged")
            text, body = stream.read(text_length), stream.read(body_length)
            if len(text) < text_length or len(body) < body_length:
                return
            where, content_type, encoding = text.decode().split("\n")
            record = Record(arrival_ns, arrival_unix_ns, where, content_type, encoding, body)
            yield record, stream.tell()
