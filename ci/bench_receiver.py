"""What the small sink costs for each thousand spans: OTLP by HTTP and by gRPC, side by side.

    .venv/bin/python ci/bench_receiver.py [--rate 20000] [--seconds 8] [--rounds 3]

Spans as agents make of a request, in batches of 512 as their exporters send, at a steady rate from
a process of its own to a sink of its own. The last row is a server of grpcio that does no more than
the sink does: it keeps each message in a file. Ends with 2 if a batch was lost, or if the sink took
more than a tenth of a core.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from bench_process import cpu_ns_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.errors import HarnessError
from harness.linux import processes
from harness.meters.memory import pss_bytes
from harness.stack.grpc import PATHS
from harness.wire.spool import read_spool

BATCH = 512
MOST = 100.0  # thousandths of a core
KEYS = (
    "http.request.method", "url.scheme", "url.path", "http.route", "user_agent", "server.address",
    "network.peer.address", "network.protocol.version",
)  # fmt: skip
SERVICE = next(path for path, told in PATHS.items() if told == "/v1/traces")
GRPCIO = """
import json, os, signal, sys, threading
from concurrent import futures
import grpc

file, kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), []

def keep(body, context):
    os.write(file, body)
    kept.append(len(body))
    return b""

class Every(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(keep)

server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Every()],
                     options=[("grpc.max_receive_message_length", 64 << 20)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"ready": True, "port": port}), flush=True)
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
done.wait()
print(len(kept), file=sys.stderr, flush=True)
os._exit(0)
"""

Send = Callable[[bytes], object]


@dataclass(frozen=True)
class Way:
    """A row: who receives, and how it is sent to."""

    name: str
    is_grpc: bool
    is_gzipped: bool = False
    is_ours: bool = True


WAYS = (
    Way("sink, HTTP", False),
    Way("sink, HTTP, gzip", False, True),
    Way("sink, gRPC", True),
    Way("sink, gRPC, gzip", True, True),
    Way("grpcio, gRPC", True, is_ours=False),
    Way("grpcio, gRPC, gzip", True, True, is_ours=False),
)


def main() -> int:
    """Measure in turn, print the table."""
    options = _options()
    batch = made()
    found: dict[Way, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS if number % 2 else WAYS[::-1]:
            found[way].append(_measured(way, batch, options.rate, options.seconds))
    print(f"{options.rate:,} spans/s in batches of {BATCH} ({len(batch) / 1e3:.0f} KB, "
          f"{len(gzip.compress(batch)) / 1e3:.0f} KB gzipped), {options.rounds} rounds of "
          f"{options.seconds:g} s")  # fmt: skip
    print(f"| {'receiver':<20} | thousandths of a core: median (each) | PSS, MB |")
    print("| --- | --- | --- |")
    for way, rounds in found.items():
        cores = [each for each, _ in rounds]
        told = ", ".join(f"{each:.1f}" for each in cores)
        print(f"| {way.name:<20} | {statistics.median(cores):.1f} ({told}) | "
              f"{max(pss for _, pss in rounds) / 1e6:.0f} |")  # fmt: skip
    worst = max(statistics.median(c for c, _ in found[way]) for way in WAYS if way.is_ours)
    return 0 if worst <= MOST else 2


def made() -> bytes:
    """A batch of server spans with the attributes that instrumentations of HTTP set."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key in ("service.name", "service.instance.id", "telemetry.sdk.name", "host.name"):
        resource.resource.attributes.add(key=key).value.string_value = f"a value of {key}"
    group = resource.scope_spans.add()
    group.scope.name = "opentelemetry.instrumentation.flask"
    for number in range(BATCH):
        span = group.spans.add(
            trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"),
            name="GET /api/users/<id>", kind="SPAN_KIND_SERVER",
            start_time_unix_nano=1_700_000_000 * 10**9 + number,
            end_time_unix_nano=1_700_000_001 * 10**9 + number,
        )  # fmt: skip
        for key in KEYS:
            span.attributes.add(key=key).value.string_value = f"{key} {number}"
        span.attributes.add(key="http.response.status_code").value.int_value = 200
    return request.SerializeToString()


def _measured(way: Way, batch: bytes, rate: int, seconds: float) -> tuple[float, float]:
    """Thousandths of a core, and its memory; HarnessError if a batch was lost."""
    with tempfile.TemporaryDirectory() as name:
        file, log = Path(name) / "spool", Path(name) / "log"
        argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(file)]
        if not way.is_ours:
            argv = [sys.executable, "-c", GRPCIO, str(file)]
        process = processes.spawn(argv, log=log)
        try:
            ready = processes.announced(process, 20)
            if ready is None:
                raise HarnessError("The receiver did not start.", log.read_text(), "Try again.")
            with _sender(way, int(ready["port"])) as send:
                for _ in range(5):
                    send(batch)
                before, begun = cpu_ns_of(process.pid), time.monotonic()
                number = _drive(send, batch, rate, seconds)
                lasted = time.monotonic() - begun
                used, pss = (cpu_ns_of(process.pid) - before) / 1e9, pss_bytes([process.pid])
        finally:
            processes.stop(process)
        kept = len(list(read_spool(file))) if way.is_ours else int(log.read_text().split()[-1])
        if kept != number + 5:
            raise HarnessError(f"{way.name}: {number + 5} batches were sent, {kept} came.")
        return 1000 * used / lasted, float(pss)


def _drive(send: Send, batch: bytes, rate: int, seconds: float) -> int:
    """Send at the rate; how many batches that was."""
    number, begun = math.ceil(rate * seconds / BATCH), time.monotonic()
    for index in range(number):
        time.sleep(max(0.0, begun + index * BATCH / rate - time.monotonic()))
        send(batch)
    return number


@contextmanager
def _sender(way: Way, port: int) -> Iterator[Send]:
    if way.is_grpc:
        how = grpc.Compression.Gzip if way.is_gzipped else grpc.Compression.NoCompression
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(SERVICE, None, None)
            yield lambda body: call(body, timeout=10, compression=how)
        return
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/x-protobuf"}
    if way.is_gzipped:
        headers["Content-Encoding"] = "gzip"

    def post(body: bytes) -> None:
        packed = gzip.compress(body) if way.is_gzipped else body
        client.request("POST", "/v1/traces", packed, headers)
        if (answer := client.getresponse()).status != 200:
            raise HarnessError(f"The sink answered {answer.status}.", "", "Try again.")
        answer.read()

    yield post
    client.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=int, default=20_000, help="spans a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
