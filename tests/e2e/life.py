"""Something for dashboards to show: a service in use with collectors on it, and a cluster.

The service and its collectors are real. The cluster is made up: records as its collectors and
services would send them, with the attributes that Kubernetes gives them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.linux import cgroup, mount, processes
from harness.meters.bpfstats import StatsEnabled
from harness.model import Comparison
from harness.stack import results
from harness.stack.config import Stack

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "bpf" / "http_server.py"
COLLECTORS = {"http": ("--sample", "2"), "flows": (), "guard": ()}
PATHS = ("/", "/bytes/10", "/status/500")
BOUNDS = [0.005, 0.05, 0.5]
POD = {
    "k8s.cluster.name": "test", "k8s.namespace.name": "shop", "k8s.deployment.name": "cart",
    "k8s.pod.name": "cart-1", "k8s.node.name": "node-1",
}  # fmt: skip

Tree = dict[str, Any]


@contextlib.contextmanager
def begin(stack: Stack, folder: Path) -> Iterator[None]:
    """All of it, until the end of the block."""
    ended = threading.Event()
    with contextlib.ExitStack() as last:
        last.enter_context(StatsEnabled())
        place = last.enter_context(_cgroup())
        server = processes.spawn(
            [sys.executable, str(SERVER), "127.0.0.1"],
            log=folder / "server.log", cgroup=place,
        )  # fmt: skip
        last.callback(processes.stop, server)
        port = int(_ready(server)["port"])
        for name in COLLECTORS:
            last.enter_context(_agent(name, stack, place, folder))
        acts = (lambda: _use(port), lambda: _execute(place, port, folder), Cluster(stack).send)
        failures: list[Exception] = []
        for act, seconds in zip(acts, (0.05, 2.0, 2.0), strict=True):
            thread = threading.Thread(target=_repeat, args=(act, seconds, ended, failures))
            thread.start()
            last.callback(thread.join)
        last.callback(ended.set)
        yield
    if failures:
        raise failures[0]


def _repeat(
    act: Callable[[], None], seconds: float, ended: threading.Event, failures: list[Exception]
) -> None:
    """Until the end; what fails once is kept for it, and the next is tried."""
    while not ended.wait(seconds):
        try:
            act()
        except Exception as error:
            failures.append(error)


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    root = mount.find("cgroup2")
    assert root is not None
    path = root / f"harness-test-{os.getpid()}-life"
    cgroup.create(path)
    yield path
    cgroup.remove(path)


@contextlib.contextmanager
def _agent(name: str, stack: Stack, place: Path, folder: Path) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as sockets:  # a test's own folder may be too long for one
        argv = [
            sys.executable, "-m", "harness.agent", name, "--cgroup", str(place),
            "--otlp", stack.otlp_url, "--control", f"{sockets}/control",
            "--service-name", "watched", "--interval", "2", *COLLECTORS[name],
        ]  # fmt: skip
        process = processes.spawn(argv, log=folder / f"{name}.log", cwd=ROOT)
        try:
            _ready(process)
            yield
        finally:
            processes.stop(process)


def _ready(process: processes.Process) -> dict[str, Any]:
    told = processes.announced(process, 60)
    assert told is not None, process.log.read_text()
    assert told["ready"], told
    return told


def _use(port: int) -> None:
    """A connection with a few requests, one of which fails."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        for path in PATHS:
            client.request("GET", path)
            client.getresponse().read()


def _execute(place: Path, port: int, folder: Path) -> None:
    """Something that a service does not do every day: it runs a program that connects."""
    code = f"import socket; socket.create_connection(('127.0.0.1', {port})).close()"
    process = processes.spawn([sys.executable, "-c", code], log=folder / "run.log", cgroup=place)
    processes.ended(process, 60)


class Cluster:
    """What a node's collectors, a deployment's services and an evaluation send, again and again."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.otlp_url
        self._began, self._times = str(time.time_ns()), 0

    def send(self) -> None:
        """One of each; counters go on from the last time."""
        self._times += 1
        service = {"service.name": "cart", **POD}
        self._metrics(service, _histogram("http.server.request.duration", "s"))
        self._metrics(service, _sum("tcp.io", "By", 1000, {"network.io.direction": "transmit"}))
        own = {"harness.collector": "http", "harness.service": "cart"}
        self._metrics(
            {"service.name": "harness-agent", "service.instance.id": "node-1", **POD},
            _sum("process.cpu.time", "s", 0.01, {**own, "cpu.mode": "user"}),
            _sum("harness.agent.events", "{event}", 10, own),
            _sum("harness.agent.events.lost", "{event}", 0, own),
            _gauge("process.memory.usage", "By", 3e7, own),
        )
        results.send(self._url, "test", ROWS)
        self._post("logs", service, {"logRecords": [_line("cart is full")]})
        if self._times == 1:
            self._post("logs", service, {"logRecords": [_line("too old for Loki", days=30)]})
        self._spans(service)

    def _metrics(self, resource: Mapping[str, str], *metrics: Tree) -> None:
        now = str(time.time_ns())
        for metric in metrics:
            kind = next(kind for kind in ("sum", "gauge", "histogram") if kind in metric)
            (point,) = metric[kind]["dataPoints"]
            point |= {"startTimeUnixNano": self._began, "timeUnixNano": now}
            if kind == "sum":
                point["asDouble"] *= self._times
            elif kind == "histogram":
                counts = [self._times * count for count in point["bucketCounts"]]
                point |= {"bucketCounts": [str(count) for count in counts]}
                point |= {"count": str(sum(counts)), "sum": 0.02 * sum(counts)}
        self._post("metrics", resource, {"metrics": list(metrics)})

    def _spans(self, server: Mapping[str, str]) -> None:
        """A call from one service to another, told by both ends; every other one fails."""
        trace, calling = secrets.token_hex(16), secrets.token_hex(8)
        now = time.time_ns()
        span = {
            "traceId": trace, "name": "GET /cart", "status": {"code": 2 * (self._times % 2)},
            "startTimeUnixNano": str(now - 20_000_000), "endTimeUnixNano": str(now),
        }  # fmt: skip
        called = {**span, "spanId": secrets.token_hex(8), "parentSpanId": calling, "kind": 2}
        self._post("traces", {"service.name": "front"}, {"spans": [
            {**span, "spanId": calling, "kind": 3}]})  # fmt: skip
        self._post("traces", server, {"spans": [called]})

    def _post(self, signal: str, resource: Mapping[str, str], scope: Tree) -> None:
        of = {"traces": "Spans", "metrics": "Metrics", "logs": "Logs"}[signal]
        whole = {"resource": {"attributes": _attributes(resource)}, f"scope{of}": [scope]}
        request = urllib.request.Request(
            f"{self._url}/v1/{signal}",
            json.dumps({f"resource{of}": [whole]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200


ROWS = tuple(
    Comparison("go", "http", metric, unit, value, 0.9 * value, 1.1 * value, 9, 0.1, 0.0, "test")
    for metric, unit, value in (
        ("bill_percent", "%", 0.6),
        ("workload_cpu_percent", "%", 1.5),
        ("latency_p50_us", "us", 3.0),
        ("agent_memory_mb", "MB", 31.0),
        ("coverage_percent[requests]", "%", 99.0),
        ("data_latency_p99_s", "s", 2.0),
    )
)
"""What an evaluation found."""


def _attributes(values: Mapping[str, str]) -> list[Tree]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def _sum(name: str, unit: str, each: float, attributes: Mapping[str, str]) -> Tree:
    point = {"asDouble": float(each), "attributes": _attributes(attributes)}
    data = {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True}
    return {"name": name, "unit": unit, "sum": data}


def _gauge(name: str, unit: str, value: float, attributes: Mapping[str, str]) -> Tree:
    point = {"asDouble": value, "attributes": _attributes(attributes)}
    return {"name": name, "unit": unit, "gauge": {"dataPoints": [point]}}


def _histogram(name: str, unit: str) -> Tree:
    http = {"request.method": "GET", "route": "/cart", "response.status_code": "200"}
    asked = _attributes({f"http.{key}": value for key, value in http.items()})
    point = {"bucketCounts": [1, 8, 1, 0], "explicitBounds": BOUNDS, "attributes": asked}
    data = {"dataPoints": [point], "aggregationTemporality": 2}
    return {"name": name, "unit": unit, "histogram": data}


def _line(text: str, days: int = 0) -> Tree:
    when = time.time_ns() - days * 86_400 * 10**9
    return {"timeUnixNano": str(when), "body": {"stringValue": text}}
