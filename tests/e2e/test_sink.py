"""The sink as a process: what is posted arrives once, whole, in order, and it ends cleanly."""

from __future__ import annotations

import gzip
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from harness.linux import processes, syscall
from harness.meters.coverage import count, data_latency
from harness.model import Part
from harness.wire.spool import read_all, read_spool
from tests.e2e.running_sink import Running
from tests.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "spool", tmp_path / "log")
    yield running
    running.stop()


def test_23_posts_arrive_as_23_records(sink: Running) -> None:
    before, before_unix = time.monotonic_ns(), time.time_ns()
    for number in range(23):
        assert sink.post("/v1/metrics", b"body %d" % number) == (200, b"")
    records = list(read_spool(sink.spool))
    assert [record.body for record in records] == [b"body %d" % n for n in range(23)]
    arrivals = [record.arrival_ns for record in records]
    assert arrivals == sorted(arrivals)
    assert before < arrivals[0] < arrivals[-1] < time.monotonic_ns()
    assert before_unix < records[0].arrival_unix_ns < time.time_ns()
    assert sink.stats()["posts"] == {"traces": 0, "metrics": 23, "logs": 0, "profiles": 0}


def test_signals_are_counted_apart_and_other_paths_refused(sink: Running) -> None:
    assert sink.post("/v1/traces", b"12345")[0] == 200
    assert sink.post("/v1/logs", b"")[0] == 200
    assert sink.post("/v1/other", b"x")[0] == 404
    sink.client.request("PUT", "/v1/logs", b"x")
    response = sink.client.getresponse()
    assert (response.status, response.read()) == (405, b"")
    assert sink.stats() == {
        "posts": {"traces": 1, "metrics": 0, "logs": 1, "profiles": 0},
        "bytes": {"traces": 5, "metrics": 0, "logs": 0, "profiles": 0},
        "refused": 2,
        "broken": 0,
    }


def test_compressed_and_json_posts_are_kept_as_they_came(sink: Running) -> None:
    body = gzip.compress(b"telemetry" * 100)
    assert sink.post("/v1/traces", body, **{"Content-Encoding": "gzip"})[0] == 200
    json_type = {"Content-Type": "application/json"}
    assert sink.post("/v1/logs", b'{"resourceLogs":[]}', **json_type) == (200, b"{}")
    first, second = read_spool(sink.spool)
    assert (first.body, first.encoding) == (body, "gzip")
    assert first.content() == b"telemetry" * 100
    assert (second.content_type, second.content()) == ("application/json", b'{"resourceLogs":[]}')


def test_chunked_bodies_and_split_packets_are_put_together(sink: Running) -> None:
    request = (
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\nWiki\r\n6;note=1\r\npedia \r\nB\r\nin \r\nchunks\r\n0\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        for index in range(len(request)):
            client.sendall(request[index : index + 1])
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    (record,) = read_spool(sink.spool)
    assert record.body == b"Wikipedia in \r\nchunks"


def test_pipelined_posts_are_all_answered(sink: Running) -> None:
    request = b"POST /v1/logs HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        client.sendall(request * 23 + b"GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 24
    assert len(list(read_spool(sink.spool))) == 23


def test_a_client_that_asks_first_is_told_to_continue(sink: Running) -> None:
    head = b"POST /v1/logs HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        client.sendall(head)
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v1/logs HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /v1/logs HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"x" * 70_000, b"431"),
    ],
)
def test_what_is_not_a_request_is_refused(sink: Running, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        client.sendall(sent)
        assert client.recv(100).split()[1] == status
    assert sink.post("/v1/logs", b"fine")[0] == 200


def test_what_is_refused_or_broken_off_is_noted_with_who_sent_it(sink: Running) -> None:
    named = {"User-Agent": "An-Agent/1.0"}
    assert sink.post("/v2/spans", b"x", **named)[0] == 404
    assert sink.post("/v1/traces", b"x", **{"Content-Encoding": "zstd"}, **named)[0] == 415
    assert sink.post("/v0.7/config", b"{}", **named)[0] == 404  # nobody loses by that
    head = b"POST /v1/logs HTTP/1.1\r\nUser-Agent: half\r\nContent-Length: 9\r\n\r\nabc"
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60) as client:
        client.sendall(head)
    with socket.create_connection(("127.0.0.1", sink.port), timeout=60):
        pass  # one that says nothing sent nothing
    assert until(lambda: sink.stats()["broken"] == 1)
    assert [(each.status, each.path, each.sender) for each in read_all(sink.spool)] == [
        (404, "/v2/spans", "An-Agent/1.0"), (415, "/v1/traces", "An-Agent/1.0"),
        (0, "/v1/logs", "half"),
    ]  # fmt: skip
    assert list(read_spool(sink.spool)) == []
    assert (sink.stats()["refused"], sink.stats()["broken"]) == (2, 1)


def test_it_listens_on_the_loopback_address_only(sink: Running) -> None:
    lines = Path("/proc/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in lines if f":{sink.port:04X} 00000000:0000" in line]
    assert listening == [f"0100007F:{sink.port:04X}"]


def test_sigterm_ends_it_with_0_and_the_spool_is_appended_to(tmp_path: Path) -> None:
    for number in (1, 2):
        running = Running(tmp_path / "spool", tmp_path / "log")
        assert running.post("/v1/logs", b"%d" % number)[0] == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        running.stop()
    assert [record.body for record in read_spool(tmp_path / "spool")] == [b"1", b"2"]
    assert processes.last_words(tmp_path / "log") == []


@pytest.mark.parametrize("status", [429, 503])
def test_it_refuses_on_command_until_it_is_told_to_take(sink: Running, status: int) -> None:
    assert sink.refuse(how=str(status)) == 200
    assert [sink.post("/v1/logs", b"lost")[0] for _ in range(23)] == [status] * 23
    assert list(read_spool(sink.spool)) == []
    assert sink.stats()["refused"] == 23
    assert sink.stats()["posts"]["logs"] == 0
    assert sink.tell("DELETE") == 200
    assert sink.post("/v1/logs", b"kept")[0] == 200
    assert [record.body for record in read_spool(sink.spool)] == [b"kept"]


def test_it_refuses_for_as_long_as_it_was_told(sink: Running) -> None:
    assert sink.refuse(how="503", seconds=0.5) == 200
    assert until(lambda: sink.post("/v1/logs", b"x")[0] != 503)
    assert len(list(read_spool(sink.spool))) == 1


def test_it_resets_connections_on_command(sink: Running) -> None:
    assert sink.refuse(how="reset") == 200
    with pytest.raises(ConnectionResetError):
        sink.post("/v1/logs", b"lost")
    sink.client.close()
    assert sink.stats()["refused"] == 1
    assert list(read_spool(sink.spool)) == []


def test_it_never_answers_on_command(sink: Running) -> None:
    assert sink.refuse(how="silence") == 200
    request = b"POST /v1/logs HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    with socket.create_connection(("127.0.0.1", sink.port), timeout=0.3) as client:
        client.sendall(request)
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert until(lambda: sink.stats()["refused"] == 1)
    assert sink.tell("DELETE") == 200
    assert sink.post("/v1/logs", b"kept")[0] == 200
    assert [record.body for record in read_spool(sink.spool)] == [b"kept"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'{"how": "418"}', b'{"how": "503", "seconds": "soon"}', b'"503"',
        b'{"how": "503", "seconds": NaN}', b'{"how": "503", "seconds": -1}',
        b'{"how": "503", "seconds": 1%s}' % (b"0" * 400), b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(),
)  # fmt: skip
def test_what_it_cannot_be_told_changes_nothing(sink: Running, body: bytes) -> None:
    assert sink.tell("PUT", body) == 400
    assert sink.tell("POST", b'{"how": "503"}') == 405
    assert sink.post("/v1/logs", b"kept")[0] == 200


@pytest.mark.parametrize("missing", [1, 30, 60])
def test_a_record_cut_off_by_a_crash_does_not_hide_what_follows(
    tmp_path: Path, missing: int
) -> None:
    spool = tmp_path / "spool"
    for body in (b"first", b"torn", b"after"):
        running = Running(spool, tmp_path / "log")
        try:
            assert running.post("/v1/logs", body)[0] == 200
        finally:
            running.stop()
        if body == b"torn":
            os.truncate(spool, spool.stat().st_size - missing)
    assert [record.body for record in read_spool(spool)] == [b"first", b"after"]


def test_a_file_that_is_no_spool_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"x" * 100)
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(tmp_path / "spool")]
    done = processes.run(argv, check=False)
    assert done.returncode == 2
    assert "is not a spool" in done.stderr
    assert (tmp_path / "spool").read_bytes() == b"x" * 100


def test_a_full_disk_is_answered_with_503_said_once_and_survived(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if processes.run(mounted, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted without root")
    running = Running(small / "spool", tmp_path / "log")
    try:
        assert running.post("/v1/logs", b"a" * 30_000)[0] == 200
        assert running.post("/v1/logs", b"b" * 60_000)[0] == 503
        assert running.post("/v1/logs", b"c" * 60_000)[0] == 503
        assert running.post("/v1/logs", b"d" * 20_000)[0] == 200
        kept = [record.body[:1] for record in read_spool(running.spool)]
        assert kept == [b"a", b"d"]
        assert processes.last_words(tmp_path / "log") == [
            "The spool cannot be written: No space left on device."
        ]
    finally:
        running.stop()
        syscall.unmount(small)


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
@pytest.mark.parametrize("temporality", list(AggregationTemporality)[1:])
def test_23_requests_told_by_the_opentelemetry_sdk_are_23_in_the_tally(
    sink: Running, compression: Compression, temporality: AggregationTemporality
) -> None:
    exporter = OTLPMetricExporter(
        f"http://127.0.0.1:{sink.port}/v1/metrics",
        compression=compression,
        preferred_temporality={Histogram: temporality},
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    duration = provider.get_meter("test").create_histogram("http.server.request.duration", "s")
    for _ in range(7):
        duration.record(0.001, {"http.route": "/"})
    provider.force_flush()
    since_ns = time.monotonic_ns()
    for number in range(23):
        duration.record(0.002, {"http.route": "/" if number % 2 else "/cpu"})
    provider.force_flush()
    provider.shutdown()
    part = Part("test", since_ns=since_ns)
    assert count(sink.spool, part, "requests") == 23
    assert count(sink.spool, Part("test"), "requests") == 30
    assert all(0 < latency < 60 for latency in data_latency(sink.spool, part, "metrics"))


def test_spans_of_the_opentelemetry_sdk_arrive_after_they_ended(sink: Running) -> None:
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{sink.port}/v1/traces")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for _ in range(23):
        provider.get_tracer("test").start_span("GET /").end()
    provider.shutdown()
    delays = data_latency(sink.spool, Part("test"), "spans")
    assert len(delays) == 23
    assert delays.min() > 0
