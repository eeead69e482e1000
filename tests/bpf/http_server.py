"""A small HTTP/1.1 server with every kind of answer; prints its port as JSON. argv: host."""

from __future__ import annotations

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        first, *rest = self.path.partition("?")[0].strip("/").split("/")
        status = int(rest[0]) if first == "status" else 200
        content = b"x" * int(rest[0]) if first == "bytes" else b"%d" % len(body)
        self.send_response(status)
        if first == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            content = b"5\r\nhello\r\n0\r\n\r\n"
        elif status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    host = sys.argv[1]
    Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = Server((host, 0), Handler)
    print(json.dumps({"ready": True, "port": server.server_port}), flush=True)
    server.serve_forever()
