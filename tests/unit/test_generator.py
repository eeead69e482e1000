"""The generator: requests that decode and count right, and an open loop that hides nothing."""

from __future__ import annotations

import http.client
import http.server
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from harness.benchmarks.ramp_step import Bench
from harness.errors import ComponentError
from harness.linux import processes
from harness.stack import batches
from harness.stack.generator import Connection, _rejected
from harness.stack.requests import BODY_BYTES, RECORDS, SAMPLES_PER_POINT, SERIES, SPANS_PER_TRACE
from harness.stack.sending import Answer, Schedule, Sending, Tally
from tests.waiting import PATIENCE_SECONDS, until

NOW = 1_800_000_000_000_000_000


def test_spans_are_whole_traces_of_now() -> None:
    batch, *_ = batches.batches("spans", "m")
    request = ExportTraceServiceRequest.FromString(batch.fill(NOW))
    spans = [s for g in request.resource_spans for scope in g.scope_spans for s in scope.spans]
    assert len(spans) == RECORDS == batch.records
    traces = Counter(span.trace_id for span in spans)
    assert set(traces.values()) == {SPANS_PER_TRACE}
    ids = {span.span_id: span for span in spans}
    assert len(ids) == RECORDS
    roots = [span for span in spans if not span.parent_span_id]
    assert len(roots) == len(traces)
    for span in spans:
        assert NOW - 2_000_000_000 < span.start_time_unix_nano < span.end_time_unix_nano <= NOW
        if span.parent_span_id:
            parent = ids[span.parent_span_id]
            assert parent.trace_id == span.trace_id
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
    assert bytes.fromhex(batch.trace) in traces


def test_each_sending_has_ids_of_its_own() -> None:
    batch, *_ = batches.batches("spans", "m")
    seen: set[bytes] = set()
    for _ in range(20):
        request = ExportTraceServiceRequest.FromString(batch.fill(NOW))
        spans = [s for g in request.resource_spans for scope in g.scope_spans for s in scope.spans]
        new = {span.trace_id for span in spans} | {span.span_id for span in spans}
        assert len(new) == RECORDS + RECORDS // SPANS_PER_TRACE
        assert not new & seen
        seen |= new


def test_points_are_of_the_stated_series_and_grow() -> None:
    series, samples, points = set(), 0, 0
    requests = batches.batches("points", "m")
    for batch in requests:
        first, later = (
            ExportMetricsServiceRequest.FromString(batch.fill(NOW + step))
            for step in (0, 1_000_000_000)
        )
        for old, new in zip(_points(first), _points(later), strict=True):
            (name, service, data), (_, _, more) = old, new
            key = (name, service, *(pair.value.string_value for pair in data.attributes))
            assert key not in series
            series.add(key)
            assert data.time_unix_nano == NOW
            assert more.time_unix_nano == NOW + 1_000_000_000
            points += 1
            if name.startswith("ramp.duration"):
                assert sum(data.bucket_counts) == data.count < more.count
                assert data.sum < more.sum
                samples += len(data.bucket_counts) + 2
            else:
                assert data.as_int < more.as_int
                samples += 1
    assert len(series) == points == SERIES
    assert samples == pytest.approx(SAMPLES_PER_POINT * SERIES)


def _points(request: ExportMetricsServiceRequest) -> list[tuple[str, str, Any]]:
    found = []
    for group in request.resource_metrics:
        service = group.resource.attributes[0].value.string_value
        for metric in group.scope_metrics[0].metrics:
            kind = metric.WhichOneof("data")
            found += [(metric.name, service, p) for p in getattr(metric, str(kind)).data_points]
    return found


def test_log_lines_are_of_the_stated_length_and_have_traces() -> None:
    for batch in batches.batches("logs", "m"):
        request = ExportLogsServiceRequest.FromString(batch.fill(NOW))
        (group,) = request.resource_logs
        lines = group.scope_logs[0].log_records
        assert len(lines) == RECORDS
        assert {len(line.body.string_value) for line in lines} == {BODY_BYTES}
        assert len({line.time_unix_nano for line in lines}) == RECORDS
        assert len({line.trace_id for line in lines}) == RECORDS
        assert all(NOW - 1_000_000_000 < line.time_unix_nano < NOW for line in lines)
        mark = {p.key: p.value.string_value for p in group.resource.attributes}
        assert mark["service.instance.id"] == "m"


def test_filling_is_cheap() -> None:
    batch, *_ = batches.batches("spans", "m")
    began = time.thread_time()
    for _ in range(100):
        batch.fill(NOW)
    assert (time.thread_time() - began) / (100 * RECORDS) < 2e-5  # of CPU; Tempo needs twice that


def test_a_schedule_is_due_by_its_rate() -> None:
    schedule = Schedule(1000, 200, 50.0)
    assert [schedule.take() for _ in range(5)] == [(n, 50.0 + 0.2 * n) for n in range(5)]
    assert [schedule.due(at) for at in (49.0, 50.1, 50.5)] == [0, 200, 600]


class Time:
    """A clock of one thread that sleeping and slow answers move, until a time at which it stops."""

    def __init__(self, end: float = 9.95, oversleep: float = 0.0) -> None:
        self.now, self._end, self._oversleep = 0.0, end, oversleep
        self.sending = Sending(Schedule(1000, RECORDS, 0.0), 1, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self._oversleep
        if self.now > self._end:
            self.sending.stopped.set()

    def drive(self, post: Callable[[], Answer]) -> Tally:
        """Send 50 requests, one each 0.2 s; the tally, which adds up."""
        self.sending.drive(batches.batches("spans", "m"), lambda body: post())
        self.sending.finish(self._end)
        tally = self.sending.tally
        gone = (tally.refused, tally.rejected, tally.failed, tally.held, tally.starved)
        assert tally.due == tally.accepted + sum(gone) >= 10_000
        return tally


def test_what_is_answered_is_accepted() -> None:
    time_ = Time()
    tally = time_.drive(lambda: Answer(200))
    assert tally.accepted == tally.due == 10_000
    assert tally.statuses == {"200": tally.posts} == {"200": 50}
    assert len(time_.sending.said()["trace"]) == 32


def test_refusals_are_counted_and_not_sent_again() -> None:
    tally = Time().drive(lambda: Answer(503))
    assert (tally.accepted, tally.refused, tally.posts) == (0, 10_000, 50)
    tally = Time().drive(lambda: Answer(200, rejected=3))
    assert (tally.accepted, tally.rejected) == (9_850, 150)


def test_retry_after_keeps_the_connection_away() -> None:
    tally = Time().drive(lambda: Answer(429, retry_after=3.0))
    assert tally.refused == tally.posts * RECORDS
    assert tally.posts < 10
    assert tally.held > 0
    assert tally.starved == 0


def test_slow_answers_hold() -> None:
    time_ = Time()

    def slow() -> Answer:
        time_.sleep(0.5)  # at five requests a second: every second or third can be sent
        return Answer(200)

    tally = time_.drive(slow)
    assert tally.held > 0
    assert tally.starved == 0
    assert tally.late_seconds <= 1.0


def test_a_process_that_is_late_starves() -> None:
    tally = Time(oversleep=3.0).drive(lambda: Answer(200))
    assert tally.starved > 0
    assert tally.held == 0


def test_what_is_overdue_at_the_end_is_counted() -> None:
    time_ = Time(end=4.0)
    time_.sending.finish(4.0)  # not one connection began
    assert time_.sending.tally.starved == time_.sending.tally.due == 20 * RECORDS


def test_no_answer_is_neither_accepted_nor_refused() -> None:
    def broken() -> Answer:
        raise http.client.BadStatusLine("")

    tally = Time().drive(broken)
    assert (tally.failed, tally.statuses) == (10_000, {"0": 50})


def test_several_connections_share_a_schedule() -> None:
    sending = Sending(Schedule(10_000, RECORDS, time.monotonic()), 4)
    threads = [
        threading.Thread(
            target=sending.drive, args=(batches.batches("spans", "m"), lambda body: Answer(200))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    accepted = until(lambda: sending.tally.accepted)
    sending.stopped.set()
    for thread in threads:
        thread.join()
    assert accepted
    tally = sending.tally
    assert tally.accepted == tally.posts * RECORDS > 0
    assert tally.due == tally.accepted + tally.starved + tally.held


def test_partial_success_is_read() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 7
    assert _rejected("spans", response.SerializeToString()) == 7


class Receiver(http.server.BaseHTTPRequestHandler):
    """Refuses every second post and asks to be left alone."""

    protocol_version = "HTTP/1.1"
    posts = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).posts += 1
        self.send_response(429 if self.posts % 2 == 0 else 200)
        if self.posts % 2 == 0:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_refusal_says_when_to_come_back(url: str) -> None:
    connection = Connection(url, "spans")
    try:
        answers = {connection.post(b"x"), connection.post(b"x")}
        assert answers == {Answer(200), Answer(429, retry_after=7.0)}
    finally:
        connection.close()


def told(out: Path) -> list[Any]:
    """By its whole lines."""
    return [json.loads(line) for line in out.read_text().splitlines(True) if line.endswith("\n")]


def test_the_process_tells_what_it_did_and_ends_when_told(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    process = processes.spawn(
        [sys.executable, "-m", "harness.stack.generator", "--signal", "logs", "--url", url,
         "--rate", "1000", "--mark", "m", "--out", str(out)],
        log=tmp_path / "log",
    )  # fmt: skip
    assert processes.announced(process, PATIENCE_SECONDS) is not None
    assert until(lambda: any(each["accepted"] and each["refused"] for each in told(out)))
    assert processes.stop(process, grace_seconds=30) == 0
    last = told(out)[-1]
    assert last["done"]
    assert last["due"] >= last["accepted"] + last["refused"] > 0


def test_a_generator_that_fails_is_no_step(tmp_path: Path) -> None:
    bench = object.__new__(Bench)
    bench._folder = tmp_path
    (tmp_path / "generator.jsonl").write_text('{"due": 200}\n')
    for script in ("raise SystemExit(2)", "import time; time.sleep(60)"):
        process = processes.spawn([sys.executable, "-c", script], log=tmp_path / "log")
        if "exit" in script.lower():
            processes.ended(process, PATIENCE_SECONDS)
        with pytest.raises(ComponentError, match="generator ended"):
            bench._end(process)
