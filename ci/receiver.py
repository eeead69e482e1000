"""An OTLP receiver that counts what it takes, and can be away; for the benches of collectors."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """`logs` by their event's name, `spans`, and of each metric its `sums` as they were told last.

    While it is `away` it takes nothing, and hangs up on everybody.
    """

    def __init__(self) -> None:
        self.logs: Counter[str] = Counter()
        self.sums: dict[str, float] = {}
        self.spans = 0
        self._callers: set[socket.socket] = set()
        self._taking = threading.Lock()
        self._port = 0
        self.back()

    @property
    def url(self) -> str:
        """Where it is, also while it is away."""
        return f"http://127.0.0.1:{self._port}"

    def back(self) -> None:
        """Take what comes from now on, at the port of before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._callers.add(self.connection)

            def finish(self) -> None:
                receiver._callers.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return
                # what is counted was acknowledged: nobody hangs up in between
                with receiver._taking:
                    if self.connection not in receiver._callers:
                        return
                    self.send_response(200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    receiver._take(self.path, body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def away(self) -> None:
        """Take nothing any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self._taking:
            for caller in list(self._callers):
                self._callers.discard(caller)
                caller.shutdown(socket.SHUT_RDWR)

    def _take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            told = ExportTraceServiceRequest.FromString(body).resource_spans
            self.spans += sum(len(each.spans) for some in told for each in some.scope_spans)
        elif path == "/v1/logs":
            for some in ExportLogsServiceRequest.FromString(body).resource_logs:
                for each in some.scope_logs:
                    self.logs.update(record.event_name for record in each.log_records)
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    self.sums.update((metric.name, _sum(metric)) for metric in scope.metrics)


def _sum(metric: Any) -> float:
    """That of the values, or of how many are in a histogram."""
    points = getattr(metric, metric.WhichOneof("data")).data_points
    histogram = any(hasattr(each, "count") for each in points)
    counts = [each.count if histogram else each.as_int + each.as_double for each in points]
    return float(sum(counts))
