"""A Parca that answers what it is told to, by gRPC-Web; for tests of who calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from harness.wire import grpc_web

Call = Callable[[bytes], bytes]


class Refusal(Exception):
    """A status of gRPC, and what is said with it."""

    def __init__(self, status: int, said: str = "") -> None:
        super().__init__(said)
        self.status, self.said = status, said


class Parca:
    """Its calls are by path; every other path is its page, as that of a program without pages."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        parca = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                call = parca.calls.get(self.path)
                if call is None or self.headers["Content-Type"] != grpc_web.TYPE:
                    self._answer("text/html", b"<html></html>", {})
                    return
                try:
                    said = call(body[5:])
                except Refusal as refusal:  # as what fails at once: there is no body
                    told = {"Grpc-Status": str(refusal.status), "Grpc-Message": quote(refusal.said)}
                    self._answer(grpc_web.TYPE, b"", told)
                    return
                trailers = b"grpc-status: 0\r\n"
                ends = b"\x80" + len(trailers).to_bytes(4, "big") + trailers
                self._answer(grpc_web.TYPE, grpc_web.framed(said) + ends, {})

            def _answer(self, kind: str, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
