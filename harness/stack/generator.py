"""Sends made-up telemetry at a stated rate, whatever comes back; `ramp_step` starts it.

`python -m harness.stack.generator --signal spans --url URL --rate N --mark ID --out FILE`
prints one JSON line when it begins, writes one a second to FILE, and goes on until SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from harness.stack import batches
from harness.stack.requests import RECORDS
from harness.stack.sending import ANSWER_SECONDS, Answer, Schedule, Sending

PATHS = {"spans": "/v1/traces", "points": "/v1/metrics", "logs": "/v1/logs"}
CONNECTIONS = 8
_RESPONSES: dict[str, tuple[Any, str]] = {
    "spans": (ExportTraceServiceResponse, "rejected_spans"),
    "points": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}
_BACK_OFF = (429, 503)


class Connection:
    """Posts over one connection that is kept open, and opened again after an error."""

    def __init__(self, url: str, signal_: str) -> None:
        parts = urlsplit(url)
        self._path, self._signal = PATHS[signal_], signal_
        self._http = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=ANSWER_SECONDS
        )

    def post(self, body: bytes) -> Answer:
        """Send one request and wait for its answer; OSError or HTTPException if none came."""
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            self._http.request("POST", self._path, body, headers)
            answer = self._http.getresponse()
            said = answer.read()
        except BaseException:
            self._http.close()
            raise
        rejected = _rejected(self._signal, said) if answer.status == 200 and said else 0
        wait = answer.getheader("Retry-After", "") if answer.status in _BACK_OFF else ""
        return Answer(answer.status, rejected, float(wait) if wait.isdigit() else 0.0)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _rejected(signal_: str, said: bytes) -> int:
    kind, name = _RESPONSES[signal_]
    return int(getattr(kind.FromString(said).partial_success, name))


def run(arguments: argparse.Namespace) -> None:
    """Make the requests, say so, send them until SIGTERM, and tell each second how far it is."""
    first = batches.batches(arguments.signal, arguments.mark)
    sets = [[batch.copy() for batch in first] for _ in range(arguments.connections)]
    size = len(first[0].fill(time.time_ns()))
    begin = time.monotonic() + 0.05
    sending = Sending(Schedule(arguments.rate, RECORDS, begin), arguments.connections)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sending.stopped.set())
    threads = [
        threading.Thread(
            target=sending.drive,
            args=(requests, Connection(arguments.url, arguments.signal).post),
            daemon=True,
        )
        for requests in sets
    ]
    with arguments.out.open("w", buffering=1) as out:
        for thread in threads:
            thread.start()
        print(json.dumps({"ready": True, "bytes": size}), flush=True)
        while not sending.stopped.wait(1.0):
            if not all(thread.is_alive() for thread in threads):
                raise ValueError("a connection's thread ended")
            out.write(json.dumps(sending.said()) + "\n")
        stopped = time.monotonic()
        for thread in threads:
            thread.join(ANSWER_SECONDS + 1)
        sending.finish(stopped)
        out.write(json.dumps({**sending.said(), "done": True}) + "\n")


def main() -> None:
    """Parse the command line and send."""
    parser = argparse.ArgumentParser(prog="python -m harness.stack.generator", description=__doc__)
    parser.add_argument("--signal", choices=PATHS, required=True)
    parser.add_argument("--url", required=True, help="the Collector's OTLP/HTTP address")
    parser.add_argument("--rate", type=float, required=True, help="records a second")
    parser.add_argument("--mark", required=True, help="service.instance.id of all that is sent")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            run(parser.parse_args())
        except (OSError, ValueError) as error:
            print(f"The generator cannot go on: {error}.", file=sys.stderr)
            raise SystemExit(2) from error


if __name__ == "__main__":
    main()
