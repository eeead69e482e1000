"""The coverage meter on spools made up with OpenTelemetry's own protobuf classes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from harness.meters import otlp
from harness.meters.coverage import by_port, count, data_latency, of_port
from harness.meters.otlp import LOGS, METRICS, TRACES
from harness.model import Part
from harness.wire.spool import Record, pack, read_spool

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
SECOND = 10**9
UNIX = 1_700_000_000 * SECOND
DURATION = "http.server.request.duration"


class Spool:
    """Writes posts that arrive at given seconds on both clocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def post(self, at: float, path: str, message: Message, encoding: str = "") -> None:
        body = message.SerializeToString()
        content_type = "application/x-protobuf"
        if encoding == "json":
            body, content_type, encoding = MessageToJson(message).encode(), "application/json", ""
        if encoding == "gzip":
            body = gzip.compress(body)
        at_ns = round(at * SECOND)
        record = Record(at_ns, UNIX + at_ns, path, content_type, encoding, body)
        with self.path.open("ab") as stream:
            stream.write(pack(record))

    def histogram(
        self,
        at: float,
        counts: dict[str, int],
        *,
        temporality: int = CUMULATIVE,
        start: float = 0,
        scope: str = "harness.http",
        encoding: str = "",
        exponential: bool = False,
        port: int | str = 0,
    ) -> None:
        request, metric = _metric(DURATION, scope)
        data = metric.exponential_histogram if exponential else metric.histogram
        data.aggregation_temporality = temporality  # type: ignore[assignment]
        for route, number in counts.items():
            point = data.data_points.add(
                count=number,
                start_time_unix_nano=UNIX + round(start * SECOND),
                time_unix_nano=UNIX + round((at - 0.1) * SECOND),
            )
            point.attributes.add(key="http.route").value.string_value = route
            if port:
                value = point.attributes.add(key="server.port").value
                kind = "string_value" if isinstance(port, str) else "int_value"
                setattr(value, kind, port)
        self.post(at, METRICS, request, encoding)

    def counter(
        self, at: float, name: str, value: int, *, gauge: bool = False, peer: str = ""
    ) -> None:
        request, metric = _metric(name, "harness.flows")
        if not gauge:
            metric.sum.aggregation_temporality = CUMULATIVE
            metric.sum.is_monotonic = True
        points = metric.gauge.data_points if gauge else metric.sum.data_points
        point = points.add(
            as_int=value, start_time_unix_nano=UNIX, time_unix_nano=UNIX + round(at * SECOND)
        )
        if peer:
            point.attributes.add(key="network.peer.address").value.string_value = peer
        self.post(at, METRICS, request)

    def spans(self, at: float, ends: list[float], scope: str = "harness.http") -> None:
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add().scope_spans.add()
        group.scope.name = scope
        for end in ends:
            group.spans.add(name="GET /", end_time_unix_nano=UNIX + round(end * SECOND))
        self.post(at, TRACES, request)

    def logs(self, at: float, events: list[tuple[str, float]], path: str = "") -> None:
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add().scope_logs.add()
        group.scope.name = "harness.guard"
        for name, when in events:
            log = group.log_records.add(event_name=name, time_unix_nano=UNIX + round(when * SECOND))
            log.attributes.add(key="process.executable.path").value.string_value = path
        self.post(at, LOGS, request)


def _metric(name: str, scope: str) -> tuple[ExportMetricsServiceRequest, Metric]:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "go"
    group = resource.scope_metrics.add()
    group.scope.name = scope
    return request, group.metrics.add(name=name)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def _part(
    spool: Spool, since: float = 0, until: float | None = None, **changes: Any
) -> tuple[Path, Part]:
    until_ns = None if until is None else round(until * SECOND)
    scope = changes.pop("scope", "harness.http")
    return spool.path, Part(scope, since_ns=round(since * SECOND), until_ns=until_ns, **changes)


def _requests(spool: Spool, since: float, until: float | None = None) -> float:
    return count(*_part(spool, since, until), "requests")


def test_nothing_arrived(spool: Spool) -> None:
    assert _requests(spool, 0) == 0
    assert len(data_latency(*_part(spool), "spans")) == 0


@pytest.mark.parametrize("encoding", ["", "gzip", "json"])
@pytest.mark.parametrize("exponential", [False, True])
def test_cumulative_counts_are_differences(spool: Spool, encoding: str, exponential: bool) -> None:
    for at, counts in ((1, {"/": 100}), (2, {"/": 110, "/cpu": 4}), (3, {"/": 119, "/cpu": 4})):
        spool.histogram(at, counts, encoding=encoding, exponential=exponential)
    assert _requests(spool, 1.5) == 23
    assert _requests(spool, 1.5, 2.5) == 14
    assert _requests(spool, 0) == 123


def test_delta_counts_are_sums(spool: Spool) -> None:
    for at in (1, 2, 3):
        spool.histogram(at, {"/": 10, "/cpu": 1}, temporality=DELTA, start=at - 1)
    assert _requests(spool, 1.5) == 22


def test_a_collector_that_starts_again_counts_from_zero(spool: Spool) -> None:
    spool.histogram(1, {"/": 100}, start=0)
    spool.histogram(2, {"/": 23}, start=1.5)
    assert _requests(spool, 1.5) == 23


def test_a_counter_that_fell_counts_from_zero(spool: Spool) -> None:
    spool.histogram(1, {"/": 100})
    spool.histogram(2, {"/": 23})
    assert _requests(spool, 1.5) == 23


def test_two_collectors_in_one_spool_are_told_apart(spool: Spool) -> None:
    spool.histogram(1, {"/": 23}, scope="harness.http")
    spool.histogram(1, {"/": 7}, scope="other")
    spool.spans(2, [1.5], scope="other")
    assert _requests(spool, 0) == 23
    assert len(data_latency(*_part(spool), "spans")) == 0


def test_a_trial_reads_from_its_own_offset(spool: Spool) -> None:
    spool.histogram(1, {"/": 23})
    offset = spool.path.stat().st_size
    spool.histogram(2, {"/": 7}, start=1.5)
    assert count(*_part(spool, mark=offset), "requests") == 7


@pytest.mark.parametrize("encoding", ["", "json"])
def test_requests_are_counted_by_port(spool: Spool, encoding: str) -> None:
    for at, front, back in ((1, 50, 100), (2, 73, 146)):
        spool.histogram(at, {"/": front}, port=8080, encoding=encoding)
        spool.histogram(at, {"/": back}, port="8081", encoding=encoding)
        spool.histogram(at, {"/x": 10}, encoding=encoding)
    spool.histogram(3, {"/x": 11})
    assert by_port(*_part(spool, 1.5), "requests") == {8080: 23, 8081: 46, 0: 1}


def test_coverage_is_that_of_the_measured_port() -> None:
    assert of_port({8080: 23, 8081: 46, 8082: 0, 0: 1}, 8080) == (24, {8081: 46})
    assert of_port({8081: 46}, 8080) == (0, {8081: 46})
    assert of_port({0: 23}, 8080) == (23, {})
    assert of_port({}, 8080) == (0, {})


def test_connections_and_samples(spool: Spool) -> None:
    for at, opened, samples in ((1, 5, 100), (2, 28, 119)):
        spool.counter(at, "tcp.connections.opened", opened)
        spool.counter(at, "profile.samples", samples)
        spool.counter(at, "tcp.connections.active", 3, gauge=True)
    part = _part(spool, 1.5, scope="harness.flows")
    assert (count(*part, "connections"), count(*part, "samples")) == (23, 19)


def test_only_what_carries_an_attribute_is_counted(spool: Spool) -> None:
    """Connections and executions of the service itself are not taken for our probes."""
    for at, ours, theirs in ((1, 0, 400), (2, 10, 900)):
        spool.counter(at, "tcp.connections.opened", ours, peer="127.0.0.2")
        spool.counter(at, "tcp.connections.opened", theirs, peer="10.0.0.7")
    probes = ("network.peer.address", "127.0.0.2")
    assert count(*_part(spool, 1.5, scope="harness.flows", only=probes), "connections") == 10
    spool.logs(3, [("process.exec", 2.5), ("process.exec", 2.6), ("file.open", 1.0)], path="/p")
    spool.logs(3, [("process.exec", 2.5)], path="/bin/sh")
    probe = ("process.executable.path", "/p")
    assert count(*_part(spool, scope="harness.guard", only=probe), "executions") == 2


def test_latency_of_spans_and_logs(spool: Spool) -> None:
    spool.spans(1, [0.5])
    spool.spans(2, [1.0, 1.5, 1.75])
    spool.logs(3, [("process.exec", 2.5), ("file.open", 1.0)])
    np.testing.assert_allclose(data_latency(*_part(spool, 1), "spans"), [1.0, 0.5, 0.25])
    logs = data_latency(*_part(spool, scope="harness.guard"), "logs")
    np.testing.assert_allclose(logs, [0.5, 2.0])
    assert len(data_latency(*_part(spool, until=0.9), "spans")) == 0


def test_latency_of_a_metric_is_spread_over_what_it_adds(spool: Spool) -> None:
    spool.histogram(1, {"/": 10})  # its time is 0.9, its start 0
    spool.histogram(3, {"/": 20})  # adds what happened between 0.9 and 2.9
    spool.histogram(4, {"/": 20})  # adds nothing
    found = data_latency(*_part(spool, 1), "metrics")
    assert (found.min(), np.median(found), found.max()) == pytest.approx((0.1, 1.1, 2.1))


def test_a_series_that_begins_late_was_zero_in_the_export_before(spool: Spool) -> None:
    """Its start is that of all: what it counts first would else have waited since then."""
    spool.histogram(31, {"/": 10})
    spool.histogram(34, {"/": 10, "/late": 2})  # between 30.9 and 33.9
    found = data_latency(*_part(spool, 32), "metrics")
    assert (found.min(), np.median(found), found.max()) == pytest.approx((0.1, 1.6, 3.1))


def test_a_record_cut_off_by_a_crash_is_left_out(spool: Spool) -> None:
    spool.spans(1, [0.5])
    spool.spans(2, [1.5])
    whole = spool.path.read_bytes()
    for missing in (1, len(whole) // 2 - 10):
        spool.path.write_bytes(whole[:-missing])
        assert len(data_latency(*_part(spool), "spans")) == 1


def test_a_file_that_is_no_spool_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="is not a spool"):
        list(read_spool(path))


def test_a_post_that_is_not_otlp_is_named() -> None:
    record = Record(1, UNIX, TRACES, "application/x-protobuf", "", b"\xff\xff\xff")
    with pytest.raises(ValueError, match="/v1/traces is not OTLP"):
        list(otlp.items(record))
