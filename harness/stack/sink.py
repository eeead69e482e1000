"""A receiver of OTLP, by HTTP or gRPC, that only notes what arrives and when; for `receivers`.

`python -m harness.stack.sink --spool FILE` prints its port when ready and runs until SIGTERM.
Nothing is parsed on arrival, so that a post costs little: the meters read the file. What was
refused, or never came whole, is noted there, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from harness.stack import intake, refusal
from harness.stack.grpc import Calls
from harness.stack.http import Connection, Request, Response
from harness.stack.refusal import Refusal
from harness.wire.spool import BROKEN, TAKEN, Record, pack, whole_bytes

_SIGNALS = {
    "/v1/traces": "traces",
    "/v1/metrics": "metrics",
    "/v1/logs": "logs",
    "/v1development/profiles": "profiles",
}
_ENCODINGS = ("", "identity", "gzip", "deflate")
# what agents ask for beside their telemetry, and do without: their configuration from afar
_UNHEARD = ("/config/v1/agents", "/v0.7/config")


class Sink:
    """Appends posts to the spool and counts them."""

    def __init__(self, spool: Path) -> None:
        self._file = os.open(spool, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = whole_bytes(spool)
        os.ftruncate(self._file, self._size)  # what a crash cut off would hide all that follows
        self._posts = dict.fromkeys(_SIGNALS.values(), 0)
        self._bytes = dict.fromkeys(_SIGNALS.values(), 0)
        self._refused, self._broken, self._refusal = 0, 0, Refusal()
        self._is_full = False

    def answer(self, request: Request) -> Response:
        """Keep a post and acknowledge it as OTLP asks; tell the counts on GET /stats.

        `refused` counts the posts that were not taken; see `refusal` for how it is told to refuse.
        """
        if request.path == refusal.PATH:
            return self._refusal.told(request)
        if request.method == "GET" and request.path == "/stats":
            return Response(200, json.dumps(self._stats()).encode(), "application/json")
        request = replace(request, path=request.path.partition("?")[0])
        kind = _SIGNALS.get(request.path) or intake.kind(request)
        if not kind:
            return intake.answer(request) or self._unknown(request)
        if (refused := self._refused_with(request, kind)) is not None:
            if request.method != "GET":  # a question is no telemetry that is lost
                self._refused += 1
                of_form = refused.status in (405, 415)  # what nobody can read
                kept = replace(request, body=b"") if of_form else request
                self._write(kept, max(refused.status, BROKEN))
            return refused
        if not self._write(request, TAKEN):
            self.note(request, 503)
            return Response(503)
        self._posts[kind] = self._posts.get(kind, 0) + 1
        self._bytes[kind] = self._bytes.get(kind, 0) + len(request.body)
        if kind not in _SIGNALS.values():
            return intake.taken(kind)
        as_json = request.headers.get("content-type", "").startswith("application/json")
        return Response(200, b"{}", "application/json") if as_json else Response(200)

    def note(self, request: Request, status: int) -> None:
        """Note what nobody was asked to answer: it never came whole, or could not be understood."""
        if status == BROKEN:
            self._broken += 1
        else:
            self._refused += 1
        self._write(replace(request, path=request.path.partition("?")[0], body=b""), status)

    def _refused_with(self, request: Request, kind: str) -> Response | None:
        if request.method not in intake.METHODS.get(kind, ("POST",)):
            return Response(405)
        if request.headers.get("content-encoding", "") not in _ENCODINGS:
            return Response(415)
        return self._refusal.now()

    def _unknown(self, request: Request) -> Response:
        """A post to nowhere is telemetry that is lost; a question is not."""
        if request.method != "GET" and request.path not in _UNHEARD:
            self.note(request, 404)
        return Response(404)

    def _stats(self) -> dict[str, object]:
        return {
            "posts": self._posts, "bytes": self._bytes,
            "refused": self._refused, "broken": self._broken,
        }  # fmt: skip

    def _write(self, request: Request, status: int) -> bool:
        """Append it to the spool; whether there was room for it."""
        record = Record(
            time.monotonic_ns(),
            time.time_ns(),
            request.path,
            request.headers.get("content-type", ""),
            request.headers.get("content-encoding", ""),
            request.body,
            status,
            request.headers.get("user-agent", ""),
        )
        data = pack(record)
        try:
            written = os.write(self._file, data)
            if written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            if not self._is_full:
                print(f"The spool cannot be written: {error.strerror}.", file=sys.stderr)
            self._is_full = True
            return False
        self._size += written
        return True


async def serve(sink: Sink, port: int) -> None:
    """Listen on the loopback address until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def connected() -> Connection:
        return Connection(sink.answer, sink.note, lambda: Calls(sink.answer, sink.note))

    server = await loop.create_server(connected, "127.0.0.1", port)
    print(json.dumps({"ready": True, "port": server.sockets[0].getsockname()[1]}), flush=True)
    await stopped.wait()
    server.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m harness.stack.sink", description=__doc__)
    parser.add_argument("--spool", type=Path, required=True, metavar="FILE")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(Sink(arguments.spool), arguments.port))
    except (OSError, ValueError) as error:
        print(f"The sink cannot start: {error}.", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
