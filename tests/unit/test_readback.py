"""The proof that data flows: what is written is OTLP, and only what is found counts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.errors import ComponentError
from harness.stack import readback
from harness.stack.config import Stack
from tests.unit.clocked import Clock
from tests.unit.stacked import GRAFANAS


class Backends(ThreadingHTTPServer):
    """All backends in one: keeps what is posted, and finds it at the second question."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: dict[str, Any] = {}
        self.deaf: set[str] = set()
        self.asked: list[str] = []

    def finds(self, signal: str, mark: str) -> bool:
        seen = json.dumps(self.posted.get(signal, {}))
        again = signal in self.asked
        self.asked.append(signal)
        return again and signal not in self.deaf and mark in seen


class Handler(BaseHTTPRequestHandler):
    server: Backends

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted[self.path.rpartition("/")[2]] = json.loads(body)
        self._answer(200, {})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query).get("query", [""])[0]
        if url.path.startswith("/api/traces/"):
            found = self.server.finds("traces", url.path.rpartition("/")[2])
            self._answer(200 if found else 404, {"batches": [{"scopeSpans": [{"spans": [{}]}]}]})
            return
        signal = "logs" if url.path.startswith("/loki") else "metrics"
        found = self.server.finds(signal, query.split('"')[-2])
        self._answer(200, {"data": {"result": [1] if found else []}})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def backends() -> Iterator[Backends]:
    with Backends() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def stack(backends: Backends, tmp_path: Path) -> Stack:
    port = backends.server_port
    names = ("otelcol", *GRAFANAS.values())
    return Stack(tmp_path, keeps=GRAFANAS, ports={f"{name}.http": port for name in names})


def test_each_signal_is_found_in_its_backend(stack: Stack, backends: Backends) -> None:
    arrivals = readback.prove(stack)
    assert [(a.signal, a.backend) for a in arrivals] == [
        ("traces", "tempo"), ("metrics", "prometheus"), ("logs", "loki"),
    ]  # fmt: skip
    assert all(a.seconds > 0 for a in arrivals)


def test_what_is_sent_is_otlp(stack: Stack, backends: Backends) -> None:
    readback.prove(stack)
    trace = ParseDict(backends.posted["traces"], ExportTraceServiceRequest())
    assert trace.resource_spans[0].scope_spans[0].spans[0].name == "readback"
    metric = ParseDict(backends.posted["metrics"], ExportMetricsServiceRequest())
    gauge = metric.resource_metrics[0].scope_metrics[0].metrics[0].gauge
    assert gauge.data_points[0].as_double == 1.0
    log = ParseDict(backends.posted["logs"], ExportLogsServiceRequest())
    assert "readback" in log.resource_logs[0].scope_logs[0].log_records[0].body.string_value


def test_what_does_not_arrive_is_named(
    stack: Stack, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readback, "time", Clock())
    backends.deaf = {"metrics", "logs"}
    with pytest.raises(ComponentError, match="not found in prometheus, loki within 0 s"):
        readback.prove(stack, limit_seconds=0.3)


def test_a_collector_that_is_not_there_is_named(stack: Stack, backends: Backends) -> None:
    away = Stack(stack.folder, ports={"otelcol.http": 9})
    with pytest.raises(ComponentError, match="did not take traces"):
        readback.prove(away)
