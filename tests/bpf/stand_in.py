"""Stands for an eBPF collector that no package registry has: `python -m tests.bpf.stand_in NAME`.

It takes the flags and variables that the real one takes, says what the real one says when it
starts and when it is ready, loads a BPF program, counts on a page or sends as the real one does,
and leaves on SIGTERM what the real one leaves. For test_stand_ins.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from harness.linux import mount, syscall
from tests.unit.pushing import profile, push_gzipped

SPANS, SAMPLES = 12, 30  # what it sends of
TETRAGON = Path("/run/tetragon")  # what it told of itself
OTEL = Path("/sys/fs/bpf/otel")  # maps of OBI, and of what has its code or reads them
SYMBOLS, GADGETS = Path("/tmp/symb-cache"), Path("/run/ig")
_HOST_PORT = r"127\.0\.0\.1:\d+"
_FOLDER = r"/\S+"


@dataclass(frozen=True)
class Program:
    """How one is started and what it does; a flag maps to the form of its value, "" without one.

    `version` is what `--version` says; without it that flag is refused, as by Go's flag package.
    `attaches` are the hooks of its programs, `leaves` the folders that stay when it has ended.
    """

    said: tuple[str, ...]
    ready: str
    flags: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    page: str = ""
    listens: Callable[[dict[str, str]], int] = lambda _: 0
    works: Callable[[dict[str, str]], None] = lambda _: None
    attaches: tuple[str, ...] = ("perf_event", "tp")
    leaves: tuple[Path, ...] = ()


def _port_of(flag: str) -> Callable[[dict[str, str]], int]:
    return lambda told: int(told[flag].rpartition(":")[2])


def _send_spans(_: dict[str, str]) -> None:
    """To where the variables say, in scopes without a name; each request has an inner one."""
    for _each in range(3):
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add()
        spans.resource.attributes.add(key="otel.scope.name").value.string_value = "its-reporter"
        for _span in range(SPANS // 3):
            told = spans.scope_spans.add()
            told.spans.add(name="in queue", kind=Span.SPAN_KIND_INTERNAL)
            own = os.urandom(16)  # no post is another one sent again
            told.spans.add(name="GET /", kind=Span.SPAN_KIND_SERVER, trace_id=own)
        _post(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces", request.SerializeToString())


def _push(told: dict[str, str]) -> None:
    """To where its file says, of the process that its file says."""
    text = Path(told[""]).read_text()
    (pid,) = re.findall(r'"__process_pid__" = "(\d+)"', text)
    (url,) = re.findall(r'url = "(http://[^"]+)"', text)
    assert Path("/proc", pid).exists()
    (rate,) = map(int, re.findall(r"sample_rate = (\d+)", text))
    samples = profile([[SAMPLES * 10**9 // rate]], period=10**9 // rate)
    _post(f"{url}/push.v1.PusherService/Push", push_gzipped(samples), "gzip")


def _post(url: str, body: bytes, encoding: str = "") -> None:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": encoding}
    request = urllib.request.Request(url, body, {k: v for k, v in headers.items() if v})
    with urllib.request.urlopen(request, timeout=60):
        pass


def _leave(folder: Path) -> None:
    """A file in it, or a map pinned there, which those that do go on without."""
    if folder != OTEL:
        folder.mkdir(exist_ok=True)
        (folder / "told.json").write_text("{}")
    elif mount.find("bpf") == folder.parent:
        folder.mkdir(exist_ok=True)
        held = syscall.create_map(syscall.RINGBUF, 0, 0, resource.getpagesize())
        syscall.pin(held, folder / "traces_ctx_v1")
        os.close(held)


_SLOG = 'time=2026-11-27T11:00:00.000Z level=INFO msg="{}"'
_INSTRUMENTING = _SLOG.format("instrumenting process") + " component=discover.traceAttacher pid=7"
_OTLP = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": r"http://127\.0\.0\.1:\d+",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}
PROGRAMS = {
    "beyla": Program(
        (_SLOG.format("Grafana Beyla") + " Version=v2.7.1 Revision=0a1b2c3",),
        _INSTRUMENTING,
        variables={**_OTLP, "BEYLA_OPEN_PORT": r"\d+"},
        works=_send_spans,
        attaches=("kprobe", "uprobe"),
        leaves=(OTEL,),
    ),
    "obi": Program(
        (_SLOG.format("OpenTelemetry eBPF Instrumentation") + " Version=v0.9.0 Revision=0a1b2c3",),
        _INSTRUMENTING,
        variables={**_OTLP, "OTEL_EBPF_OPEN_PORT": r"\d+"},
        works=_send_spans,
        attaches=("kprobe", "uprobe"),
        leaves=(OTEL,),
    ),
    "tetragon": Program(
        ('time=2026-11-27T11:00:00.000Z level=info msg="Starting tetragon" version=v1.6.0',),
        'time=2026-11-27T11:00:00.000Z level=info msg="Listening for events..."',
        {
            "--server-address": "unix://" + _FOLDER, "--metrics-server": _HOST_PORT,
            "--export-filename": _FOLDER,
        },
        page='tetragon_events_total{binary="a",type="PROCESS_EXEC"} 40\n'
        'tetragon_events_total{binary="b",type="PROCESS_EXIT"} 2\ntetragon_errors_total{} 9\n'
        'tetragon_bpf_missed_events_total{error="EAGAIN",msg_op="5"} 3\n'
        "tetragon_observer_ringbuf_queue_events_lost_total 1\n",
        listens=_port_of("--metrics-server"),
        attaches=("kprobe", "tp"),
        leaves=(TETRAGON,),
    ),
    "falco": Program(
        (
            "Fri Nov 27 11:00:00 2026: Falco version: 0.41.0 (x86_64)",
            "Fri Nov 27 11:00:00 2026: Starting health webserver with threadiness 2",
        ),
        "Fri Nov 27 11:00:00 2026: Opening 'syscall' source with modern BPF probe.",
        {
            "engine.kind": "modern_ebpf", "metrics.enabled": "true",
            "webserver.enabled": "true", "webserver.prometheus_metrics_enabled": "true",
            "webserver.listen_address": r"127\.0\.0\.1", "webserver.listen_port": r"\d+",
        },
        page="# TYPE falcosecurity_scap_n_evts_total counter\n"
        "falcosecurity_scap_n_evts_total 17613\nfalcosecurity_scap_n_drops_total 4\n",
        listens=_port_of("webserver.listen_port"),
        attaches=("tp_btf", "ring buffer"),
    ),
    "parca-agent": Program(
        ('time="2026-11-27T11:00:00Z" level=info msg="eBPF tracer loaded"',),
        'time="2026-11-27T11:00:00Z" level=info msg="Attached tracer program"',
        {"--offline-mode-storage-path": _FOLDER, "--http-address": _HOST_PORT,
         "--analytics-opt-out": ""},
        version="parca-agent, version 0.42.0 (commit: 0a1b2c3, arch: amd64)",
    ),
    "ebpf-profiler": Program(
        (_SLOG.format("Starting OTEL profiling agent v0.0.202643"),),
        _SLOG.format("Attached tracer program"),
        {"-collection-agent": _HOST_PORT, "-disable-tls": ""},
        version="v0.0.202643",
    ),
    "alloy": Program(
        ('ts=2026-11-27T11:00:00Z level=info msg="now listening for http traffic" service=http',),
        'ts=2026-11-27T11:00:00Z level=info msg="Attached tracer program"',
        {"--disable-reporting": "", "--server.http.listen-addr": _HOST_PORT,
         "--storage.path": _FOLDER, "": _FOLDER},
        ("run",),
        version="alloy, version v1.20.0 (branch: HEAD, revision: 0a1b2c3)",
        works=_push,
        leaves=(OTEL, SYMBOLS),
    ),
    "ig": Program(
        (),
        json.dumps({"comm": "sh", "pid": 7, "args": "/bin/sh"}),
        {"--host": "", "--output": "json"},
        ("run", "trace_exec:latest"),
        attaches=("kprobe", "tp"),
        leaves=(GADGETS,),
    ),
    "coroot-node-agent": Program(
        ("I1127 11:00:00.000000    7 main.go:110] agent version: 1.27.1",),
        "I1127 11:00:00.000000    7 main.go:150] listening on: 127.0.0.1:1",
        {"--listen": _HOST_PORT, "--wal-dir": _FOLDER},
        listens=_port_of("--listen"),
        attaches=("kprobe", "tp"),
    ),
    "ebpf_exporter": Program(
        ("2026/11/27 11:00:00 Started with 1 programs found in the config in 20ms",),
        "2026/11/27 11:00:00 Listening on 127.0.0.1:1",
        {"--config.dir": _FOLDER, "--config.names": "syscalls", "--web.listen-address": _HOST_PORT},
        version="ebpf_exporter, version 2.5.1 (branch: HEAD, revision: 0a1b2c3)",
        page='ebpf_exporter_enabled_configs{name="syscalls"} 1\n'
        'ebpf_exporter_syscalls_total{syscall="read"} 5\n'
        'ebpf_exporter_syscalls_total{syscall="write"} 1.5e+03\n',
        listens=_port_of("--web.listen-address"),
        attaches=("tp_btf",),
    ),
}  # fmt: skip


def install(folder: Path) -> None:
    """Programs of these names, each of which runs this module."""
    folder.mkdir()
    root = Path(__file__).parents[2]
    for name in PROGRAMS:
        run = f'PYTHONPATH="{root}" exec "{sys.executable}" -m tests.bpf.stand_in {name} "$@"'
        (folder / name).write_text(f"#!/bin/sh\n{run}\n")
        (folder / name).chmod(0o755)


def _parsed(program: Program, words: list[str]) -> dict[str, str]:
    """The flags with their values; what the real one would not take ends it as it ends that."""
    told, rest, bare = dict[str, str](), list(words), list(program.words)
    while rest:
        word = rest.pop(0)
        if word == "-o":  # Falco's
            word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in program.flags:
            told[name] = value if equals else rest.pop(0) if program.flags[name] else ""
        elif bare and word == bare[0]:
            bare.pop(0)
        elif "" in program.flags and not word.startswith("-"):
            told[""] = word
        else:
            raise SystemExit(f"flag provided but not defined: {word}")
    found = {**told, **{name: os.environ.get(name, "") for name in program.variables}}
    for name, form in {**program.flags, **program.variables}.items():
        if not re.fullmatch(form, found.get(name, "missing")):
            raise SystemExit(f"{name} cannot be {found.get(name)!r}")
    return told


def _serve(port: int, text: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    """Start, be ready, work, wait."""
    name, *words = sys.argv[1:]
    program = PROGRAMS[name]
    if words == ["--version"] and program.version:
        print(program.version)
        return
    told = _parsed(program, words)
    for line in program.said:
        print(line, flush=True)
    held = syscall.load_program(syscall.SOCKET_FILTER, name="stands_in")
    time.sleep(0.3)  # which the real one takes to find the service
    if port := program.listens(told):
        _serve(port, program.page)
    print(program.ready, flush=True)
    program.works(told)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for folder in program.leaves:
        _leave(folder)
    os.close(held)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
