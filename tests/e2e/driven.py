"""A server whose every request is counted, and which stalls on demand; and a load driver for it."""

import contextlib
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.model import Arrivals
from harness.node.load_driver import Driver

MS = 1_000_000  # ns


VISITOR = """
from locust import FastHttpUser, HttpUser, task

class Visitor(FastHttpUser):
    @task
    def visit(self):
        self.client.get("/")
"""

MIXED = """
from locust import FastHttpUser, task

class Visitor(FastHttpUser):
    max_redirects = 0

    @task(7)
    def often(self):
        self.client.get("/often")

    @task(2)
    def broken(self):
        self.client.get("/broken")

    @task(1)
    def moved(self):
        self.client.get("/moved")
"""


class Server(http.server.ThreadingHTTPServer):
    """Counts the paths asked for; all requests wait while `gate` is closed.

    It answers well to the first `limit` requests (all, if negative), and to every `drops`th not at
    all (if not 0): it closes the connection. It keeps the Authorization headers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: Counter[str] = Counter()
        self.limit, self.drops = -1, 0
        self.logins: Counter[str | None] = Counter()
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self.server.gate.wait()
        with self.server.lock:
            self.server.paths[self.path] += 1
            self.server.logins[self.headers["Authorization"]] += 1
            number = self.server.paths.total()
        if self.server.drops and number % self.server.drops == 0:
            self.close_connection = True
            return
        status = {"/broken": 503, "/moved": 302}.get(self.path, 200)
        self.send_response(429 if 0 <= self.server.limit < number else status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.gate.set()
            running.shutdown()
            thread.join()


def drive(
    tmp_path: Path,
    url: str,
    locustfile: str = "",
    connections: int = 8,
    twin_url: str = "",
    login: str = "",
    arrivals: Arrivals = "periodic",
) -> Driver:
    path = tmp_path / "locustfile.py"
    path.write_text(locustfile)
    return Driver(
        url,
        twin_url,
        control=tmp_path / "load.sock",
        log=tmp_path / "load.log",
        login=login,
        locustfile=path if locustfile else None,
        connections=connections,
        arrivals=arrivals,
    )
