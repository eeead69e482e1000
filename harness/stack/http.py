"""Just enough HTTP/1.1 to receive posts at little cost per request; the sink uses it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_BODY: Final = 64 << 20
_MAX_HEAD = 64 << 10
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # how a connection of the next version begins


@dataclass(frozen=True)
class Request:
    """A complete request; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """A status, the body and its type."""

    status: int
    body: bytes = b""
    content_type: str = "application/x-protobuf"


Answer = Callable[[Request], Response]
Note = Callable[[Request, int], None]
"""Told of a request that nobody was asked to answer: it came in part (0), or was refused so."""

RESET: Final = Response(-1)  # the connection is cut instead of an answer
SILENCE: Final = Response(-2)  # there is no answer, ever
_NO_LINGER = struct.pack("ii", 1, 0)  # a close that tells the other side of an error, not of an end


class BadRequestError(Exception):
    """What arrived is not HTTP that can be answered; the argument is the status."""


class Connection(asyncio.Protocol):
    """Parses one client's requests, kept alive and possibly pipelined, and answers each.

    One that begins as HTTP/2 does is handed to what `upgrade` makes.
    """

    def __init__(self, answer: Answer, note: Note, upgrade: Callable[[], asyncio.Protocol]) -> None:
        self._answer, self._note, self._buffer = answer, note, bytearray()
        self._upgrade: Callable[[], asyncio.Protocol] | None = upgrade
        self._told_to_continue = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio for a new client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with what came; answers every request that is complete."""
        self._buffer += data
        if self._upgrade is not None and self._is_another(self._upgrade):
            return
        try:
            while (request := self._next()) is not None:
                self._send(self._answer(request), request.headers.get("connection", ""))
        except (BadRequestError, ValueError) as error:
            status = error.args[0] if isinstance(error, BadRequestError) else 400
            self._note(self._begun(), status)
            self._buffer.clear()
            self._send(Response(status), "close")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio at the end; a request that is there in part never will be whole."""
        if self._buffer:
            self._note(self._begun(), 0)

    def _is_another(self, upgrade: Callable[[], asyncio.Protocol]) -> bool:
        """Whether it is not HTTP/1.1, or cannot be told yet."""
        if len(self._buffer) < len(HTTP2) and HTTP2.startswith(self._buffer):
            return True
        self._upgrade = None
        if not self._buffer.startswith(HTTP2):
            return False
        other, begun = upgrade(), bytes(self._buffer)
        self._buffer.clear()
        self._transport.set_protocol(other)
        other.connection_made(self._transport)
        other.data_received(begun)
        return True

    def _begun(self) -> Request:
        """What can be told of a request that came in part, or cannot be understood."""
        try:
            head = bytes(self._buffer[: self._buffer.index(b"\r\n\r\n")])
            return Request(*_parse_head(head), b"")
        except ValueError:
            return Request("", "", {}, b"")

    def _next(self) -> Request | None:
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise BadRequestError(431)
            return None
        method, path, headers = _parse_head(bytes(self._buffer[:head_end]))
        found = self._body(headers, head_end + 4)
        if found is None:
            self._continue(headers)
            return None
        body, end = found
        del self._buffer[:end]
        self._told_to_continue = False
        return Request(method, path, headers, body)

    def _body(self, headers: dict[str, str], start: int) -> tuple[bytes, int] | None:
        """The body and where it ends in the buffer; None if it is not all there."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return _dechunk(self._buffer, start)
        end = start + int(headers.get("content-length", "0"))
        if end - start > MAX_BODY or end < start:
            raise BadRequestError(413)
        return (bytes(self._buffer[start:end]), end) if len(self._buffer) >= end else None

    def _continue(self, headers: dict[str, str]) -> None:
        if headers.get("expect", "").lower() == "100-continue" and not self._told_to_continue:
            self._told_to_continue = True
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send(self, response: Response, connection: str) -> None:
        if response is SILENCE:
            return
        if response is RESET:
            cut(self._transport)
            return
        self._transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (
                response.status,
                _REASONS[response.status].encode(),
                response.content_type.encode(),
                len(response.body),
                response.body,
            )
        )
        if connection.lower() == "close":
            self._transport.close()


def cut(transport: asyncio.Transport) -> None:
    """End a connection so that the other side is told of an error."""
    own = transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return method, path, headers


def _dechunk(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body, position = bytearray(), start
    while (line_end := buffer.find(b"\r\n", position)) >= 0:
        size = int(bytes(buffer[position:line_end]).split(b";")[0], 16)
        if size + len(body) > MAX_BODY or size < 0:
            raise BadRequestError(413)
        data, position = line_end + 2, line_end + 2 + size + 2
        if len(buffer) < position:
            return None
        if size == 0:
            return bytes(body), position
        body += buffer[data : data + size]
    return None
