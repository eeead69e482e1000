"""gRPC in a plain HTTP post, as browsers do it: a unary call's message there and back.

A message has a byte and its length before it. Behind the one of the answer come the trailers, with
another byte and written as headers are; where a call fails at once they are the headers.
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

TYPE = "application/grpc-web+proto"
HEADERS = {"Content-Type": TYPE, "X-Grpc-Web": "1"}
_PREFIX = struct.Struct(">BI")  # what it is, its length
_TRAILERS = 0x80
_UNKNOWN = 2
FINAL = frozenset({3, 5, 7, 9, 11, 12, 16})
"""Statuses that the same call will have again: INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED,
FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED."""


class CallError(Exception):
    """A call that was answered and did not succeed: gRPC's status, and what was said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"gRPC status {status}" + (f": {said}" if said else ""))
        self.status = status


def framed(message: bytes) -> bytes:
    """The body of a post with this message."""
    return _PREFIX.pack(0, len(message)) + message


def answered(headers: Mapping[str, str], body: bytes) -> bytes:
    """The message of an answer with HTTP's status 200; `headers` by their names in small letters.

    CallError if it tells another status of gRPC than OK, ValueError if it is no such answer.
    """
    kind = headers.get("content-type", "")
    if not kind.startswith("application/grpc"):
        raise ValueError(f"the answer is {kind or 'of no type'}, not {TYPE}")
    message, told = b"", dict(headers)
    for what, part in _frames(body):
        if what & _TRAILERS:
            told |= _parsed(part)
        else:
            message += part
    status = told.get("grpc-status", "")
    if status != "0":
        number = int(status) if status.isdecimal() else _UNKNOWN
        raise CallError(number, unquote(told.get("grpc-message", "")))
    return message


def _frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        if at + _PREFIX.size > len(body):
            raise ValueError("the answer ends within a frame")
        what, length = _PREFIX.unpack_from(body, at)
        at += _PREFIX.size
        if at + length > len(body):
            raise ValueError("the answer ends within a frame")
        yield what, body[at : at + length]
        at += length


def _parsed(trailers: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in trailers.decode(errors="replace").splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in lines}
