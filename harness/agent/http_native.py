"""bpf/dataplane.c over ctypes: what is done with every record, called once a batch; used by http.

It holds no lock of the interpreter meanwhile, and keeps nothing between two calls.
"""

from __future__ import annotations

import ctypes
import errno
import logging
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_int64, c_uint32, c_uint64, c_void_p, create_string_buffer
from pathlib import Path

from harness.agent.http_spans import EVENT_BYTES, Codec, InPython, Ring
from harness.agent.library import LIB, SAMPLE, checked, existing
from harness.agent.maps import Map
from harness.wire.objects import LIBRARY

_ABI = 2  # of dataplane.c
_RUN = 512  # records that are taken out of a ring buffer at once
_USUAL_BYTES, _MOST_BYTES = 512, 2048  # of a span
_NO_ROOM = -1
_log = logging.getLogger("harness.agent")


def codec(folder: Path) -> Codec:
    """That of the library in this folder of objects; in Python if there is none."""
    path = folder / LIBRARY
    try:
        library = ctypes.CDLL(str(path))
        if library.harness_abi() == _ABI:
            return Native(library)
        why = f"{path} was built from other sources."
    except (OSError, AttributeError) as error:
        why = f"{error}."
    _log.warning("Spans are made by Python, which takes more CPU. %s Run `make bpf`.", why)
    return InPython()


class Native:
    """The codec in C."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._take = ctypes.cast(library.harness_http_take, SAMPLE)
        self._spans, self._slowest = library.harness_http_spans, library.harness_http_slowest
        self._spans.restype = self._slowest.restype = c_int64
        self._spans.argtypes = (c_char_p, c_uint64, c_char_p, c_uint64, c_void_p, c_uint64)
        self._slowest.argtypes = (c_char_p, c_uint64, c_void_p, c_uint64, c_void_p)

    def ring(self, source: Map, handle: Callable[[bytes], None]) -> Ring:
        """No callback into the interpreter."""
        return _Ring(source, self._take, handle)

    def slowest(self, records: bytes) -> Sequence[int]:
        """Which of them took longest of each series and cgroup."""
        number = len(records) // EVENT_BYTES
        slots = (c_uint32 * (1 << (2 * number).bit_length()))()
        found = (c_uint32 * number)()
        series = self._slowest(records, number, slots, len(slots), found)
        return found[: checked(series, "The slowest spans were not found.")]

    def encoded(self, records: bytes, ids: bytes, offset_ns: int) -> bytes:
        """The field `spans` of a ScopeSpans; unix time is so far ahead of theirs."""
        number = len(records) // EVENT_BYTES
        for most in (_USUAL_BYTES, _MOST_BYTES):
            room = create_string_buffer(most * number)
            used = self._spans(records, number, ids, offset_ns, room, len(room))
            if used != _NO_ROOM:
                break
        if used < 0:
            raise ValueError("a record is no struct http_event")
        return ctypes.string_at(room, used)


class _Run(ctypes.Structure):
    """struct run of dataplane.c."""

    _fields_ = (
        ("records", c_void_p),
        ("room", c_uint64),
        ("used", c_uint64),
        ("odd", c_uint64),
    )


class _Ring:
    """A ring buffer whose records the library copies, some hundred at once."""

    def __init__(self, source: Map, take: object, handle: Callable[[bytes], None]) -> None:
        self._handle, self._most_bytes = handle, source.max_entries
        self._records = create_string_buffer(_RUN * EVENT_BYTES)
        self._run = _Run(ctypes.addressof(self._records), len(self._records), 0, 0)
        self._take = take  # must outlive the ring buffer, as must the two before it
        pointer = LIB.ring_buffer__new(source.fd, take, byref(self._run), None)
        self._pointer = existing(pointer, f"The ring buffer {source.name} cannot be mapped.")

    def consume(self) -> int:
        """Take all that waits, and hand it over; how many records there were.

        What comes meanwhile is taken too, but not for ever: programs may be faster than we are.
        """
        taken = 0
        while taken < self._most_bytes:
            code = LIB.ring_buffer__consume(self._pointer)
            used, self._run.used = self._run.used, 0
            if used:
                self._handle(ctypes.string_at(self._records, used))
            taken += used
            if code != -errno.ECANCELED:  # it was not for want of room that it ended
                checked(code, "The ring buffer cannot be read.")
                break
        odd, self._run.odd = self._run.odd, 0
        if odd:
            raise ValueError(f"{odd} records are no struct http_event.")
        return int(taken // EVENT_BYTES)

    def close(self) -> None:
        """Unmap it."""
        LIB.ring_buffer__free(self._pointer)
