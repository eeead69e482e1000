"""What backends answer, as recorded or documented, and a server that answers so."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECOND = 10**9
UNIX = 1_763_000_000

# GET /api/v1/query with a range selector (prometheus.io/docs/prometheus/latest/querying/api)
SAMPLES = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {
                "metric": {
                    "__name__": "http_server_request_duration_seconds_count",
                    "http_route": "/",
                    "service_instance_id": "http-1",
                },
                "values": [
                    [UNIX + 1.5, "100"], [UNIX + 6.501, "110"], [UNIX + 11.5, "4"],
                    [UNIX + 16.5, "4"],
                ],
            },
            {
                "metric": {"__name__": "http_server_request_duration_seconds_count",
                           "http_route": "/cpu", "service_instance_id": "http-1"},
                "values": [[UNIX + 6.501, "7"]],
            },
        ],
    },
}  # fmt: skip

# GET /api/search of Tempo 2.8: the first as recorded, then the same again as of another block, then
# one of before 2.3
SEARCH = {
    "traces": [
        {
            "traceID": "2f3e0cee77ae5dc9c17ade3689eb2e54",
            "rootServiceName": "go",
            "rootTraceName": "GET /",
            "startTimeUnixNano": "1763000001000000000",
            "spanSet": {
                "spans": [
                    {
                        "spanID": "563d623c76514f8e",
                        "startTimeUnixNano": "1763000001000000000",
                        "durationNanos": "3000000",
                        "attributes": [
                            {
                                "key": "service.instance.id",
                                "value": {"stringValue": "http-1"},
                            }
                        ],
                    }
                ],
                "matched": 1,
            },
            "serviceStats": {"go": {"spanCount": 1}},
            "spanSets": [
                {
                    "spans": [
                        {
                            "spanID": "563d623c76514f8e",
                            "startTimeUnixNano": "1763000001000000000",
                            "durationNanos": "3000000",
                        }
                    ],
                    "matched": 1,
                }
            ],
        },
        {
            "traceID": "2f3e0cee77ae5dc9c17ade3689eb2e54",
            "spanSets": [
                {
                    "spans": [
                        {
                            "spanID": "563d623c76514f8e",
                            "startTimeUnixNano": "1763000001000000000",
                            "durationNanos": "3000000",
                        }
                    ],
                    "matched": 1,
                }
            ],
        },
        {
            "traceID": "ab",
            "spanSet": {
                "spans": [{"spanID": "cd", "startTimeUnixNano": "1763000002000000000"}],
                "matched": 1,
            },
        },
    ],
    "metrics": {"inspectedBytes": "241330", "completedJobs": 1, "totalJobs": 1},
}

# GET /loki/api/v1/query_range (grafana.com/docs/loki/latest/reference/loki-http-api)
LINES = {
    "status": "success",
    "data": {
        "resultType": "streams",
        "result": [
            {
                "stream": {
                    "service_name": "go",
                    "service_instance_id": "guard-1",
                    "process_executable_path": "/tmp/probe",
                },
                "values": [
                    ["1763000001000000001", "process.exec"],
                    ["1763000001000000001", "process.exec"],
                    ["1763000002000000000", "process.exec"],
                ],
            },
            {
                "stream": {"service_name": "go", "process_executable_path": "/bin/sh",
                           "event_name": "process.exec"},
                "values": [["1763000001500000000", ""]],
            },
        ],
        "stats": {},
    },
}  # fmt: skip

# GET /metrics of the Collector 0.158, and with the suffix that other versions add
COLLECTOR = """\
# TYPE otelcol_exporter_sent_spans counter
otelcol_exporter_sent_spans{exporter="otlp_grpc/tempo",server_port="14317"} 42
# TYPE otelcol_exporter_sent_metric_points counter
otelcol_exporter_sent_metric_points_total{exporter="otlp_http/prometheus"} 1.5e+03
otelcol_exporter_sent_log_records_total{exporter="otlp_http/loki"} 7
otelcol_exporter_queue_size{exporter="otlp_http/loki"} 3
"""


# GET /api/traces of Jaeger 1.76 with the tag service.instance.id=http-1: a trace of two processes
JAEGER = {
    "data": [
        {
            "traceID": "2f3e0cee77ae5dc9c17ade3689eb2e54",
            "spans": [
                {
                    "traceID": "2f3e0cee77ae5dc9c17ade3689eb2e54",
                    "spanID": "563d623c76514f8e",
                    "operationName": "GET /",
                    "references": [],
                    "startTime": 1763000001000000,
                    "duration": 3000,
                    "tags": [{"key": "span.kind", "type": "string", "value": "server"}],
                    "logs": [],
                    "processID": "p1",
                    "warnings": None,
                },
                {
                    "traceID": "2f3e0cee77ae5dc9c17ade3689eb2e54",
                    "spanID": "aa3d623c76514f8e",
                    "operationName": "SELECT",
                    "startTime": 1763000001000500,
                    "duration": 10,
                    "processID": "p2",
                },
            ],
            "processes": {
                "p1": {
                    "serviceName": "go",
                    "tags": [
                        {"key": "service.instance.id", "type": "string", "value": "http-1"},
                        {"key": "host.name", "type": "string", "value": "box"},
                    ],
                },
                "p2": {"serviceName": "db", "tags": []},
            },
            "warnings": None,
        }
    ],
    "total": 0, "limit": 0, "offset": 0, "errors": None,
}  # fmt: skip

# GET /select/logsql/query of VictoriaLogs 1.52
ROWS = """\
{"_time":"2025-11-13T02:13:21.000000001Z","_msg":"process.exec","event_name":"process.exec","service.instance.id":"guard-1","process.executable.path":"/tmp/probe"}
{"_time":"2025-11-13T02:13:22Z","_msg":"process.exec","event_name":"process.exec","service.instance.id":"guard-1","process.executable.path":"/tmp/probe"}
{"_time":"2025-11-13T02:13:21.000000001Z","_msg":"process.exec","event_name":"process.exec","service.instance.id":"guard-1","process.executable.path":"/tmp/probe"}
"""


class Answers(ThreadingHTTPServer):
    """All backends in one; `say` maps a path to what it answers: a status, or an object."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.say: dict[str, Callable[[], Any]] = {}
        self.asked: list[dict[str, str]] = []
        self.cut = 0


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append({k: v[0] for k, v in parse_qs(url.query).items()})
        said = self.server.say[url.path]()
        status, body = (said, "no such thing") if isinstance(said, int) else (200, said)
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: -self.server.cut] if self.server.cut else data)
