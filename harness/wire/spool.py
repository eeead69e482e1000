"""The file in which the sink keeps what it received; the sink appends, the meters read.

A record is a header (five little-endian 64-bit numbers: length of the text, length of the body,
CLOCK_MONOTONIC and CLOCK_REALTIME nanoseconds of arrival, a check word), a text of path, content
type, content encoding, status and sender separated by newlines, and the body as it came. Spools
that are older have no status and no sender: they kept nothing but what was taken.
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
TAKEN = 200
BROKEN = 0  # it never came whole, or got no answer


@dataclass(frozen=True)
class Record:
    """One post to the sink, with its arrival in nanoseconds on both clocks.

    `status` is what it was answered with, as HTTP has it; `sender` is what it called itself in its
    User-Agent.
    """

    arrival_ns: int
    arrival_unix_ns: int
    path: str
    content_type: str
    encoding: str
    body: bytes
    status: int = TAKEN
    sender: str = ""

    def content(self) -> bytes:
        """The body, decompressed; ValueError if it cannot be."""
        try:
            if self.encoding == "gzip":
                return gzip.decompress(self.body)
            return zlib.decompress(self.body) if self.encoding == "deflate" else self.body
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"a post to {self.path} is not {self.encoding}: {error}") from error


def pack(record: Record) -> bytes:
    """The bytes to append for a record."""
    fields = (
        record.path, record.content_type, record.encoding, str(record.status), record.sender,
    )  # fmt: skip
    text = "\n".join(field.replace("\n", " ") for field in fields).encode()
    header = _HEADER.pack(
        len(text), len(record.body), record.arrival_ns, record.arrival_unix_ns, _CHECK
    )
    return header + text + record.body


def read_spool(path: Path, offset: int = 0) -> Iterator[Record]:
    """What was taken, in order of arrival, from a record's `offset` in bytes on.

    A last one that was cut off by a crash is left out.
    """
    return (record for record in read_all(path, offset) if record.status == TAKEN)


def read_all(path: Path, offset: int = 0) -> Iterator[Record]:
    """The same with what was refused, or never came whole."""
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
            where, content_type, encoding, *rest = text.decode().split("\n")
            status, sender = (int(rest[0]), rest[1]) if rest else (TAKEN, "")
            record = Record(
                arrival_ns, arrival_unix_ns, where, content_type, encoding, body, status, sender
            )
            yield record, stream.tell()
