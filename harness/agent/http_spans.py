"""Spans of `http` as the kernel told them: records that stay records until they are sent.

What is done with each record is done by a Codec: in Python here, in C by `http_native`, which makes
the same bytes in a fraction of the time; used by `http` and `http_native`.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.agent import encoding
from harness.agent.container import Container
from harness.agent.http_telemetry import ERRORS, KEY_BYTES, METHODS, UNKNOWN, Event, Series, span
from harness.agent.libbpf import Map, RingBuffer
from harness.agent.telemetry import Span, unix_offset_ns
from harness.agent.together import Together

EVENT_BYTES = ctypes.sizeof(Event)
ID_BYTES = 24  # of a trace and of a span
_TRACE_ID_BYTES = 16
_TIMES = struct.Struct("=QQ")  # its start_ns and end_ns
_KEY_AT = 32
_CGROUP_AT = _KEY_AT + KEY_BYTES
_WORD = 8
_LARGEST = (1 << 63) - 1  # an integer of OTLP


class Ring(Protocol):
    """A mapped ring buffer."""

    def consume(self) -> int:
        """Hand over all that waits; what goes wrong is raised after the rest was handed over."""
        ...

    def close(self) -> None:
        """Unmap it."""
        ...


class Codec(Protocol):
    """What is done with every record; `records` are some of them, one after the other."""

    def ring(self, source: Map, handle: Callable[[bytes], None]) -> Ring:
        """A ring buffer whose records are handed over together; what is none is an error."""
        ...

    def slowest(self, records: bytes) -> Sequence[int]:
        """Which of them took longest of each series and cgroup."""
        ...

    def encoded(self, records: bytes, ids: bytes, offset_ns: int) -> bytes:
        """The field `spans` of a ScopeSpans; unix time is so far ahead of theirs."""
        ...


@dataclass(frozen=True)
class HttpSpans:
    """Some spans, of one container; a telemetry.SpanBatch."""

    records: bytes
    ids: bytes
    container: Container | None
    codec: Codec

    def __len__(self) -> int:
        return len(self.records) // EVENT_BYTES

    def __getitem__(self, part: slice) -> HttpSpans:
        first, end, _ = part.indices(len(self))
        records = self.records[first * EVENT_BYTES : end * EVENT_BYTES]
        ids = self.ids[first * ID_BYTES : end * ID_BYTES]
        return HttpSpans(records, ids, self.container, self.codec)

    def encoded(self) -> bytes:
        """The field `spans` of OTLP's ScopeSpans."""
        return self.codec.encoded(self.records, self.ids, unix_offset_ns())

    def slowest(self) -> Iterator[tuple[Series, int, int]]:
        """Of each series (the same twice, if it has several cgroups) which it is, and its ns."""
        for i in self.codec.slowest(self.records):
            at = i * EVENT_BYTES
            start_ns, end_ns = _TIMES.unpack_from(self.records, at)
            key = self.records[at + _KEY_AT : at + _CGROUP_AT]
            yield (self.container, key), i, end_ns - start_ns

    def span(self, number: int) -> Span:
        """One of them as an object."""
        event = Event.from_buffer_copy(self.records, number * EVENT_BYTES)
        ids = self.ids[number * ID_BYTES :][:ID_BYTES]
        trace_id, span_id = (
            int.from_bytes(part, "big") for part in (ids[:_TRACE_ID_BYTES], ids[_TRACE_ID_BYTES:])
        )
        return span(event, self.container, trace_id, span_id)


class InPython:
    """The codec that runs everywhere, and that others are held against."""

    def ring(self, source: Map, handle: Callable[[bytes], None]) -> Ring:
        """One callback for each record."""
        return _Gathering(source, handle)

    def slowest(self, records: bytes) -> Sequence[int]:
        """The first of those that took as long."""
        found: dict[bytes, tuple[int, int]] = {}
        for at in range(0, len(records), EVENT_BYTES):
            start_ns, end_ns = _TIMES.unpack_from(records, at)
            series, took = records[at + _KEY_AT : at + _CGROUP_AT + _WORD], end_ns - start_ns
            if series not in found or took > found[series][1]:
                found[series] = at // EVENT_BYTES, took
        return [i for i, _ in found.values()]

    def encoded(self, records: bytes, ids: bytes, offset_ns: int) -> bytes:
        """By the objects of the telemetry, and protobuf."""
        batch = HttpSpans(records, ids, None, self)
        return encoding.encoded_spans(map(batch.span, range(len(batch))), offset_ns)


def batches(records: bytes, containers: Together, codec: Codec) -> Iterator[HttpSpans]:
    """These records, those of each container together, with ids."""
    cgroups = memoryview(records).cast("Q")[_CGROUP_AT // _WORD :: EVENT_BYTES // _WORD]
    found = {cgroup: containers.find(cgroup) for cgroup in set(cgroups)}
    parts = dict.fromkeys(found.values(), records)
    if len(parts) > 1:
        apart: dict[Container | None, list[bytes]] = {container: [] for container in parts}
        for i, cgroup in enumerate(cgroups):
            apart[found[cgroup]].append(records[i * EVENT_BYTES : (i + 1) * EVENT_BYTES])
        parts = {container: b"".join(some) for container, some in apart.items()}
    for container, some in parts.items():
        ids = random.randbytes(len(some) // EVENT_BYTES * ID_BYTES)
        yield HttpSpans(some, ids, container, codec)


class _Gathering:
    """A RingBuffer whose records are handed over together."""

    def __init__(self, source: Map, handle: Callable[[bytes], None]) -> None:
        self._handle = handle
        self._records: list[bytes] = []
        self._ring = RingBuffer(source, self._take)

    def consume(self) -> int:
        """Take all, and hand over what is right of it."""
        try:
            return self._ring.consume()
        finally:
            records, self._records = self._records, []
            if records:
                self._handle(b"".join(records))

    def close(self) -> None:
        """Unmap it."""
        self._ring.close()

    def _take(self, record: bytes) -> None:
        event = Event.from_buffer_copy(record)
        sizes = event.request_bytes, event.response_bytes
        if (
            event.key.method >= len(METHODS)
            or event.key.error >= len(ERRORS)
            or any(_LARGEST < each < UNKNOWN for each in sizes)
            or event.first_byte_ns > _LARGEST
        ):
            raise ValueError("A record is no struct http_event.")
        self._records.append(record[:EVENT_BYTES])
