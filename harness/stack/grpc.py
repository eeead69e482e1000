"""Just enough gRPC to receive OTLP, on a connection that `http` hands over; for `sink`.

A unary call becomes the request that it would have been by HTTP/1.1, its message compressed as it
came: the same answer is asked for, and its status is told as gRPC has it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from harness.stack.http import HTTP2, MAX_BODY, RESET, SILENCE, Answer, Note, Request, Response, cut

_SERVICE = "/opentelemetry.proto.collector.{}.{}Service/Export"
PATHS: Final = {
    _SERVICE.format("trace.v1", "Trace"): "/v1/traces",
    _SERVICE.format("metrics.v1", "Metrics"): "/v1/metrics",
    _SERVICE.format("logs.v1", "Logs"): "/v1/logs",
    _SERVICE.format("profiles.v1development", "Profiles"): "/v1development/profiles",
}
"""What each service's call is by HTTP."""
STATUSES: Final = {200: 0, 400: 3, 404: 12, 405: 12, 413: 8, 415: 12, 429: 8, 503: 14}
"""As OTLP has them: INVALID_ARGUMENT, UNIMPLEMENTED, RESOURCE_EXHAUSTED, UNAVAILABLE."""
_UNKNOWN = 2
_PREFIX = struct.Struct(">BI")  # whether the message is compressed, its length
_WINDOW, _CONNECTION_WINDOW = 8 << 20, 1 << 30  # so that nobody waits for us
_FRAME, _HEADER = 1 << 20, 9  # bytes of one at most, so that a batch has few, and before each
_CONFIG = H2Configuration(client_side=False, header_encoding="latin-1")
_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
_ACCEPTED = ("grpc-accept-encoding", "identity,gzip,deflate")


class _Call:
    """What of a call came so far."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers, self.body = headers, bytearray()

    def request(self) -> Request:
        """As it would be by HTTP; ValueError if it is not one whole message."""
        whole = len(self.body) >= _PREFIX.size
        compressed, length = _PREFIX.unpack_from(self.body) if whole else (0, 0)
        if not whole or length != len(self.body) - _PREFIX.size:
            raise ValueError("a call holds no message, a part of one, or several")
        encoding = self.headers.get("grpc-encoding", "") if compressed else ""
        return self._as(encoding, bytes(memoryview(self.body)[_PREFIX.size :]))

    def begun(self) -> Request:
        """The same of one that has no message."""
        return self._as("", b"")

    def _as(self, encoding: str, body: bytes) -> Request:
        path = self.headers.get(":path", "")
        headers = {**self.headers, "content-encoding": encoding}
        return Request(self.headers.get(":method", ""), PATHS.get(path, path), headers, body)


class Calls(asyncio.Protocol):
    """Parses one client's calls, several at a time, and answers each."""

    def __init__(self, answer: Answer, note: Note) -> None:
        self._answer, self._note = answer, note
        self._calls: dict[int, _Call] = {}
        self._buffer, self._begun = bytearray(), False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called with the connection; says first how much may be sent."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._state = transport, H2Connection(_CONFIG)
        self._state.initiate_connection()
        self._state.update_settings(
            {SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.MAX_FRAME_SIZE: _FRAME}
        )
        # by itself it would still refuse what comes with the acknowledgement, in the same packet
        self._state.max_inbound_frame_size = _FRAME
        self._state.increment_flow_control_window(_CONNECTION_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with what came; answers every call that is complete."""
        self._buffer += data
        try:
            # one by one: of several h2 tells nothing if the last one is no good, or ends it all
            for frame in self._frames():
                for event in self._state.receive_data(frame):
                    self._handle(event)
                self._flush()
        except ProtocolError:
            self._flush()  # says why
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio at the end; what is there in part never will be whole."""
        for call in self._calls.values():
            self._note(call.begun(), 0)
        self._calls.clear()

    def _frames(self) -> Iterator[bytes]:
        """What came whole by now; the first one is how a connection begins."""
        while (size := self._next()) and len(self._buffer) >= size:
            frame = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            self._begun = True
            yield frame

    def _next(self) -> int:
        """Bytes of what comes next, 0 if that is not known yet; too long a one goes as it came."""
        if not self._begun:
            return len(HTTP2)
        if len(self._buffer) < _HEADER:
            return 0
        size = _HEADER + int.from_bytes(self._buffer[:3], "big")
        return size if size <= _HEADER + _FRAME else len(self._buffer)

    def _flush(self) -> None:
        if data := self._state.data_to_send():
            self._transport.write(data)

    def _handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            headers = {str(name): str(value) for name, value in event.headers}
            self._calls[event.stream_id] = _Call(headers)
        elif isinstance(event, DataReceived):
            self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._take(event.stream_id, event.data)
        elif isinstance(event, StreamEnded):
            self._end(event.stream_id)
        elif isinstance(event, StreamReset):
            if call := self._calls.pop(event.stream_id, None):
                self._note(call.begun(), 0)
        elif isinstance(event, ConnectionTerminated):
            self._transport.close()

    def _take(self, stream: int, data: bytes) -> None:
        if (call := self._calls.get(stream)) is None:
            return  # it was answered already
        call.body += data
        if len(call.body) > MAX_BODY + _PREFIX.size:
            self._refuse(stream, self._calls.pop(stream), 413)

    def _end(self, stream: int) -> None:
        if (call := self._calls.pop(stream, None)) is None:
            return
        if not call.headers.get("content-type", "").startswith("application/grpc"):
            self._note(call.begun(), 415)
            self._state.send_headers(stream, [(":status", "415")], end_stream=True)
            return
        try:
            request = call.request()
        except ValueError:
            self._refuse(stream, call, 400)
            return
        self._send(stream, self._answer(request))

    def _refuse(self, stream: int, call: _Call, status: int) -> None:
        self._note(call.begun(), status)
        self._send(stream, Response(status))

    def _send(self, stream: int, response: Response) -> None:
        if response is SILENCE:
            return
        if response is RESET:
            cut(self._transport)
            return
        told = ("grpc-status", str(STATUSES.get(response.status, _UNKNOWN)))
        if response.status != 200:
            self._state.send_headers(stream, [*_HEAD, _ACCEPTED, told], end_stream=True)
            return
        self._state.send_headers(stream, [*_HEAD, _ACCEPTED])
        message = _PREFIX.pack(0, len(response.body)) + response.body
        self._state.send_data(stream, message)
        self._state.send_headers(stream, [told], end_stream=True)
