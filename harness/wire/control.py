"""One JSON object a line over a UNIX socket: how agents and the load driver are told what to do.

The agents and the load driver serve, the orchestration calls. Only the standard library is
imported, because a resident agent pays for every import.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlError(Exception):
    """The other side did not answer, or answered that it failed; `number` is an OSError's errno."""

    def __init__(self, said: str, number: int = 0) -> None:
        super().__init__(said)
        self.number = number


class Server:
    """Answers requests `{"cmd": NAME, ...}` one at a time until a handler asks it to stop."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        path.unlink(missing_ok=True)
        self._path, self._handlers = path, handlers
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(4)
        self._stopped = threading.Event()

    def serve(self) -> None:
        """Answer until `stop()`; one client at a time is enough."""
        with contextlib.closing(self._socket):
            while not self._stopped.is_set():
                try:
                    connection, _ = self._socket.accept()
                except OSError:
                    break
                with connection, contextlib.suppress(OSError):  # the client is gone
                    self._answer(connection)
        self._path.unlink(missing_ok=True)

    def stop(self) -> None:
        """End `serve` after the answer under way; safe to call in a handler or a signal."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _answer(self, connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        for line in stream:
            try:
                request = json.loads(line)
                reply = {"ok": True, **self._handler(request)(request)}
            except Exception as error:
                # an error of ours is whole sentences; its class is not imported, see above
                whole = hasattr(error, "next_step") or isinstance(error, ControlError)
                kind = "" if whole else f"{type(error).__name__}: "
                reply = {"ok": False, "error": f"{kind}{error}"}
                if isinstance(error, OSError) and error.errno:
                    reply["errno"] = error.errno
            with contextlib.suppress(OSError):
                stream.write(json.dumps(reply).encode() + b"\n")
                stream.flush()
            if self._stopped.is_set():
                return

    def _handler(self, request: dict[str, Any]) -> Handler:
        cmd: Any = request.get("cmd")
        if cmd not in self._handlers:
            raise ControlError(f"There is no command {cmd!r}; {', '.join(self._handlers)} are.")
        return self._handlers[cmd]


class Client:
    """Calls a `Server`; use as a context manager."""

    def __init__(self, path: Path, timeout_seconds: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._stream = self._socket.makefile("rwb")

    def call(self, cmd: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; ControlError if it failed."""
        self.send(cmd, **arguments)
        return self.receive()

    def send(self, cmd: str, **arguments: Any) -> None:
        """Send a command without waiting, so that several servers can be told at once."""
        try:
            self._stream.write(json.dumps({"cmd": cmd, **arguments}).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise ControlError(f"cannot send `{cmd}`: {error}") from error

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to the oldest unanswered command."""
        try:
            line = self._stream.readline()
        except OSError as error:
            raise ControlError(f"no answer: {error}") from error
        if not line:
            raise ControlError("the process ended")
        reply: dict[str, Any] = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError(f"{line[:80]!r} is no JSON object")
        if not reply.pop("ok", False):
            number = reply.get("errno")
            raise ControlError(
                str(reply.get("error", "failed")), number if isinstance(number, int) else 0
            )
        return reply

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
