"""A server of HTTP in the traced cgroup, and a client that asks it; for tests of `http`."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("http_server.py")


def serve(service: Any, host: str = "127.0.0.1") -> int:
    return int(service.serve(sys.executable, str(SERVER), host))


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        yield connection


def ask(connection: http.client.HTTPConnection, method: str, path: str, **options: Any) -> bytes:
    connection.request(method, path, **options)
    return connection.getresponse().read()
