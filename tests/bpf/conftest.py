"""A cgroup, an OTLP receiver and running agents for the tests that load real BPF programs."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.linux import cgroup, processes
from harness.wire import control
from tests.bpf.openers import Watched
from tests.waiting import until

ROOT = Path(__file__).parents[2]
READY_SECONDS = float(os.environ.get("HARNESS_READY_SECONDS", "60"))  # emulated CPUs take longer


def cgroup2_mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, source = line.partition(" - ")
        if source.split()[0] == "cgroup2":
            return Path(place.split()[4])
    return None


@pytest.fixture(scope="session", autouse=True)
def bpf_objects() -> Path:
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("this kernel has no BTF")
    processes.run(["make", "-s", "-C", str(ROOT / "bpf")], timeout=300)
    return ROOT / "bpf" / ".output"


@pytest.fixture(scope="module")
def http_programs(tmp_path_factory: pytest.TempPathFactory, bpf_objects: Path) -> Iterator[Any]:
    """Those of `http`, compiled with bpf/Makefile and with what is put in their maps' place."""
    from tests.bpf import http_bench  # where there is libbpf

    output = tmp_path_factory.mktemp("output")
    processes.run(
        ["make", "-s", "-C", str(bpf_objects.parent), f"OUTPUT={output}",
         f"VPATH={Path(__file__).parent}", "SOURCES=http_packets.bpf.c"],
        timeout=300,
    )  # fmt: skip
    obj = http_bench.loaded(output / "http_packets.bpf.o")
    yield obj
    obj.close()


@pytest.fixture
def bench(http_programs: Any) -> Iterator[Any]:
    """One connection that nothing was asked on yet."""
    from tests.bpf.http_bench import Bench

    bench = Bench(http_programs)
    yield bench
    bench.close()


@dataclass
class Service:
    """A cgroup with what was started in it."""

    path: Path
    log: Path
    started: list[processes.Process] = field(default_factory=list)

    def start(self, *argv: str) -> processes.Process:
        process = processes.spawn(argv, log=self.log, cgroup=self.path)
        self.started.append(process)
        return process

    def serve(self, *argv: str) -> int:
        """Start a server that says when it is ready; its port."""
        told = processes.announced(self.start(*argv), READY_SECONDS)
        assert told is not None, self.log.read_text()
        return int(told["port"])

    def remove(self) -> None:
        for process in self.started:
            processes.stop(process)
        remove_cgroup(self.path)


def remove_cgroup(path: Path) -> None:
    """Once it is empty: a killed process leaves its cgroup a little later."""

    def is_gone() -> bool:
        with contextlib.suppress(OSError):
            path.rmdir()
        return not path.exists()

    assert until(is_gone), f"{path} is not empty"


@pytest.fixture(scope="session", autouse=True)
def no_cgroups_of_the_killed() -> None:
    """A run of tests that was killed could not remove its own."""
    mount = cgroup2_mount()
    for path in mount.glob("harness-test-*-*") if mount else ():
        pid = path.name.split("-")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            cgroup.kill(path)
            cgroup.remove(path)


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    """Make services, each in a fresh cgroup; their processes are ended with the test."""
    mount = cgroup2_mount()
    if mount is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    with contextlib.ExitStack() as made:

        def make(name: str) -> Service:
            path = mount / f"harness-test-{os.getpid()}-{name}"
            path.mkdir()
            service = Service(path, tmp_path / f"{name}.log")
            made.callback(service.remove)
            return service

        yield make


@pytest.fixture
def service(make_service: Callable[[str], Service]) -> Service:
    """One fresh cgroup."""
    return make_service("service")


@pytest.fixture
def watched(service: Service, tmp_path: Path) -> Watched:
    """A file that somebody may watch."""
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    return Watched(secret, service, tmp_path)


class Receiver:
    """Decodes what arrives over OTLP/HTTP: `metrics`, `spans` and `logs` in order of arrival.

    Of `profiles` it keeps the requests: each has a dictionary of its own.
    """

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []
        self.metrics: list[Any] = []
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.profiles: list[ExportProfilesServiceRequest] = []
        self.told: list[tuple[dict[str, Any], Any]] = []  # each of them with its resource
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(self.attributes(resource.resource))
                self._take(resource, resource.scope_metrics, "metrics")
        elif path == "/v1/traces":
            for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                self._take(spans, spans.scope_spans, "spans")
        elif path == "/v1/logs":
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                self._take(logs, logs.scope_logs, "log_records")
        elif path == "/v1development/profiles":
            self.profiles.append(ExportProfilesServiceRequest.FromString(body))

    def _take(self, group: Any, scopes: Any, kind: str) -> None:
        of, records = self.attributes(group.resource), [r for s in scopes for r in getattr(s, kind)]
        getattr(self, "logs" if kind == "log_records" else kind).extend(records)
        self.told += [(of, record) for record in records]

    def points(self, name: str) -> list[Any]:
        """The data points of the metric `name` as it arrived last; [] if it never did."""
        found = [metric for metric in self.metrics if metric.name == name]
        return list(getattr(found[-1], found[-1].WhichOneof("data")).data_points) if found else []

    @staticmethod
    def attributes(item: Any) -> dict[str, Any]:
        """The attributes of a resource, data point, span or log record as Python values."""
        return {each.key: _value(each.value) for each in item.attributes}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [_value(each) for each in found.values] if kind == "array_value" else found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@dataclass
class Agent:
    """A running agent: `ready` is its first line, `call` sends a command."""

    process: processes.Process
    ready: dict[str, Any]
    client: control.Client
    socket: Path

    def call(self, command: str) -> dict[str, Any]:
        return self.client.call(command)

    def stop(self) -> dict[str, Any]:
        reply = self.call("stop")
        self.client.close()
        assert self.process.wait(60) == 0
        return reply


@pytest.fixture
def start_agent(
    service: Service, receiver: Receiver, tmp_path: Path
) -> Iterator[Callable[..., Agent]]:
    """Start agents: `start_agent("http", "--sample", "1", cgroup=..., otlp=...)`."""
    agents: list[Agent] = []
    sockets = tempfile.mkdtemp()  # tmp_path may be longer than a socket's path can be

    def start(
        name: str, *options: str, cgroup: Path = service.path, otlp: str = receiver.url
    ) -> Agent:
        socket = Path(sockets, f"{len(agents)}")
        process, ready = _launch(
            tmp_path / f"agent-{name}.log", name, socket, cgroup, otlp, *options
        )
        if not ready["ready"]:
            processes.stop(process)
            raise AssertionError(ready)
        agents.append(Agent(process, ready, control.Client(socket), socket))
        return agents[-1]

    yield start
    for agent in agents:
        agent.client.close()
        processes.stop(agent.process)
    for left in Path(sockets).iterdir():
        left.unlink()
    Path(sockets).rmdir()


@pytest.fixture
def launch() -> Callable[..., tuple[processes.Process, dict[str, Any]]]:
    """Start an agent by hand: for agents that must not become ready."""
    return _launch


def _launch(
    log: Path,
    name: str,
    socket: Path,
    cgroup: Path,
    otlp: str,
    *options: str,
    through: Sequence[str] = (),
) -> tuple[processes.Process, dict[str, Any]]:
    """Start an agent, by way of `through`, and read its ready line, whatever it says."""
    argv = [sys.executable, "-m", "harness.agent", name, "--cgroup", str(cgroup), "--otlp", otlp]
    process = processes.spawn(
        [*through, *argv, "--control", str(socket), *options], log=log, cwd=ROOT
    )
    ready = processes.announced(process, READY_SECONDS)
    assert ready is not None, log.read_text()
    return process, ready


@pytest.fixture
def agents() -> list[processes.Process]:
    """Those that `start_through` has started."""
    return []


@pytest.fixture
def start_through(
    launch: Any, service: Any, receiver: Any, tmp_path: Path, agents: list[processes.Process]
) -> Iterator[Callable[..., control.Client]]:
    """Start a collector by code that changes something of it before."""
    with contextlib.ExitStack() as stack:

        def started(name: str, code: str, *options: str) -> control.Client:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "socket")
            process, ready = launch(
                tmp_path / "agent.log", name, path, service.path, receiver.url, *options,
                through=(sys.executable, "-c", code),
            )  # fmt: skip
            agents.append(process)
            stack.callback(processes.stop, process)
            assert ready["ready"], ready
            client = control.Client(path)
            stack.callback(client.close)
            return client

        yield started
