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
    413: "Content Too Large", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip


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


RESET: Final = Response(-1)  # the connection is cut instead of an answer
SILENCE: Final = Response(-2)  # there is no answer, ever
_NO_LINGER = struct.pack("ii", 1, 0)  # a close that tells the other side of an error, not of an end


class BadRequestError(Exception):
    """What arrived is not HTTP that can be answered; the argument is the status."""


class Connection(asyncio.Protocol):
    """Parses one client's requests, kept alive and possibly pipelined, and answers each."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self._answer, self._buffer = answer, bytearray()
        self._told_to_continue = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio for a new client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with what came; answers every request that is complete."""
        self._buffer += data
        try:
            while (request := self._next()) is not None:
                self._send(self._answer(request), request.headers.get("connection", ""))
        except (BadRequestError, ValueError) as error:
            status = error.args[0] if isinstance(error, BadRequestError) else 400
            self._send(Response(status), "close")

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
            own = self._transport.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()
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
