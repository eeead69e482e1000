"""What the answers of backends hold, and which of it is new."""

from __future__ import annotations

import re

import pytest

from harness.stack import counters, full
from harness.stack.config import jaeger, loki, prometheus, tempo, victorialogs
from harness.stack.questions import Series
from tests.unit.answered import COLLECTOR, JAEGER, LINES, ROWS, SAMPLES, SEARCH, SECOND, UNIX
from tests.unit.stacked import GRAFANAS


def test_samples_are_counted_across_a_restart() -> None:
    found = prometheus.series(SAMPLES)
    assert found[0].points[1] == ((UNIX * 1000 + 6501) * 10**6, 110.0)
    since = UNIX * SECOND + 2 * SECOND
    assert full.counted(found, since, None) == 10 + 4 + 0 + 7
    assert full.counted(found, since, ("http.route", "/cpu")) == 7
    assert full.counted(found, 0, None) == 100 + 10 + 4 + 7
    assert full.newest(found) == UNIX * SECOND + 16_500_000_000
    assert full.newest([]) == 0


def test_a_point_stands_for_delays_over_the_interval_that_it_counts() -> None:
    found, now = prometheus.series(SAMPLES), UNIX * SECOND + 7 * SECOND
    first = full.new_points(found, UNIX * SECOND, set(), now)
    ((_, delays), *others) = list(first)
    assert (min(delays), max(delays)) == pytest.approx((0.499, 5.5))
    assert others == []  # one that fell, or has no point before it, tells no interval


def test_spans_are_found_once_with_their_ends() -> None:
    assert [(s.key, s.time_unix_ns) for s in tempo.spans(SEARCH)] == [
        (("2f3e0cee77ae5dc9c17ade3689eb2e54", "563d623c76514f8e"), 1763000001003000000),
        (("ab", "cd"), 1763000002000000000),
    ]
    assert tempo.spans({"metrics": {}}) == []


def test_equal_lines_are_several_events() -> None:
    found = list(loki.lines(LINES))
    assert len({line.key for line in found}) == len(found) == 4
    assert {line.name for line in found} == {"process.exec"}
    assert found[0].time_unix_ns == 1763000001000000001


def test_jaeger_tells_the_spans_of_one_instance_with_their_ends() -> None:
    (span,) = jaeger.spans(JAEGER, "http-1")
    assert span.key == ("2f3e0cee77ae5dc9c17ade3689eb2e54", "563d623c76514f8e")
    assert (span.time_unix_ns, span.name) == (1763000001003000000, "GET /")
    assert list(jaeger.spans(JAEGER, "http-2")) == []
    assert list(jaeger.spans({"data": None}, "http-1")) == []


def test_a_span_that_is_found_tells_where_it_was_made() -> None:
    assert jaeger.origin(JAEGER, "span.kind", "server") == {
        "service.name": "go", "service.instance.id": "http-1", "host.name": "box",
    }  # fmt: skip
    assert jaeger.origin(JAEGER, "span.kind", "client") is None
    assert jaeger.origin({"data": None}, "span.kind", "server") is None
    tree = {
        "resource": {"attributes": [{"key": "k8s.pod.name", "value": {"stringValue": "go-1"}}]},
        "scopeSpans": [
            {"spans": [{"attributes": [{"key": "url.query", "value": {"stringValue": "a=1"}}]}]}
        ],
    }
    for answer in ({"batches": [{}, tree]}, {"trace": {"resourceSpans": [tree]}}):
        assert tempo.origin(answer, "url.query", "a=1") == {"k8s.pod.name": "go-1"}
        assert tempo.origin(answer, "url.query", "a=2") is None
    assert tempo.origin(None, "url.query", "a=1") is None


def test_victorialogs_tells_lines_to_the_nanosecond_and_equal_ones_apart() -> None:
    found = list(victorialogs.lines(ROWS))
    assert len({line.key for line in found}) == len(found) == 3
    assert [line.time_unix_ns for line in found] == [
        1763000001000000001, 1763000002000000000, 1763000001000000001,
    ]  # fmt: skip
    assert {line.name for line in found} == {"process.exec"}
    assert list(victorialogs.lines("")) == []


def test_what_the_collector_sent_is_told_by_kind() -> None:
    sent = {s: counters.collector(COLLECTOR, s, name)["sent"] for s, name in GRAFANAS.items()}
    assert sent == {"traces": 42.0, "metrics": 1500.0, "logs": 7.0}


def test_a_name_of_opentelemetry_is_matched_with_any_unit() -> None:
    wanted = prometheus.metric("http.server.request.duration")
    assert re.fullmatch(wanted, "http_server_request_duration_seconds_count")
    assert not re.fullmatch(wanted, "http_server_request_duration_seconds_sum")
    assert re.fullmatch(prometheus.metric("tcp.connections.opened"), "tcp_connections_opened_total")


def test_few_questions_go_far_back() -> None:
    assert [full.back_ns(n) // SECOND for n in range(1, 9)] == [5, 10, 5, 20, 5, 10, 5, 40]


def test_series_of_one_export_are_one_record() -> None:
    """The metrics of an export are stamped within a few ms."""
    found = [
        Series(
            frozenset({("service_instance_id", sender), ("route", str(shift))}),
            tuple((round((at + shift) * SECOND), float(at)) for at in (5, 10, 15)),
        )
        for sender in ("a", "b")
        for shift in (0.0, 0.001, 0.06)
    ]
    told = list(full.new_points(found, 0, set(), 20 * SECOND))
    assert len(told) == 2 * 2


def test_only_points_of_the_time_after_count() -> None:
    points = tuple((at * SECOND, float(at)) for at in range(5))
    assert full.counted([Series(frozenset(), points)], 2 * SECOND, None) == 2
