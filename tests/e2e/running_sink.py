"""A sink process and a client that keeps its connection, for the tests of both its protocols."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import Any

from harness.linux import processes

PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Running:
    """A sink process and a client that keeps its connection."""

    def __init__(self, spool: Path, log: Path) -> None:
        argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
        self.spool, self.log = spool, log
        self.process = processes.spawn(argv, log=log)
        ready = processes.announced(self.process, 60)
        assert ready is not None, log.read_text()
        self.port: int = ready["port"]
        self.client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        self.client.request("POST", path, body, {**PROTOBUF, **headers})
        response = self.client.getresponse()
        return response.status, response.read()

    def stats(self) -> dict[str, Any]:
        self.client.request("GET", "/stats")
        stats: dict[str, Any] = json.loads(self.client.getresponse().read())
        return stats

    def tell(self, method: str, body: bytes = b"") -> int:
        self.client.request(method, "/refusal", body)
        response = self.client.getresponse()
        response.read()
        return response.status

    def refuse(self, **how: object) -> int:
        return self.tell("PUT", json.dumps(how).encode())

    def stop(self) -> int:
        self.client.close()
        return processes.stop(self.process)
