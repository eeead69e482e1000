"""What the stack's programs say of themselves, read; and marks that measure the lag."""

from __future__ import annotations

import http.client
import time
from typing import Any

import pytest

from harness.errors import ComponentError
from harness.stack import catalog, client, counters
from harness.stack.config import prometheus, tempo
from harness.stack.marks import Marks

COLLECTOR = """\
# HELP otelcol_receiver_accepted_spans Number of spans
# TYPE otelcol_receiver_accepted_spans counter
otelcol_receiver_accepted_spans{receiver="otlp",transport="http"} 1500
otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc"} 500
otelcol_receiver_refused_spans{receiver="otlp",transport="http"} 3
otelcol_receiver_accepted_metric_points{receiver="otlp"} 77
otelcol_exporter_sent_spans{exporter="otlp_grpc/tempo"} 1.9e+03
otelcol_exporter_sent_log_records{exporter="otlp_http/loki"} 12
otelcol_exporter_queue_size{data_type="traces",exporter="otlp_grpc/tempo"} 100
otelcol_exporter_queue_size{data_type="logs",exporter="otlp_http/loki"} 7
otelcol_exporter_queue_capacity{exporter="otlp_grpc/tempo"} 1000000
otelcol_exporter_enqueue_failed_spans{exporter="otlp_grpc/tempo"} 2
"""
TEMPO = """\
tempo_distributor_spans_received_total{tenant="single-tenant"} 1900
tempo_discarded_spans_total{reason="rate_limited",tenant="single-tenant"} 5
tempo_discarded_spans_total{reason="live_traces_exceeded",tenant="single-tenant"} 1
tempo_distributor_bytes_received_total{tenant="single-tenant"} 1e+06
"""


def test_the_collectors_counters_are_of_one_signal() -> None:
    assert counters.collector(COLLECTOR, "traces", "tempo") == {
        "accepted": 2000, "refused": 3, "sent": 1900, "failed": 0, "unqueued": 2, "queue": 100,
    }  # fmt: skip
    assert counters.collector(COLLECTOR, "metrics", "prometheus")["accepted"] == 77
    logs = counters.collector(COLLECTOR, "logs", "loki")
    assert (logs["sent"], logs["queue"]) == (12, 7)


def test_a_backend_says_what_arrived_and_what_it_turned_away() -> None:
    known = catalog.known()
    assert counters.backend(TEMPO, known["tempo"]) == {
        "arrived": 1900, "discarded.rate_limited": 5, "discarded.live_traces_exceeded": 1,
    }  # fmt: skip
    loki = 'loki_distributor_lines_received_total{aggregated="false",tenant="fake"} 9\n'
    assert counters.backend(loki, known["loki"]) == {"arrived": 9}
    samples = 'prometheus_tsdb_head_samples_appended_total{type="float"} 5\n'
    assert counters.backend(samples, known["prometheus"]) == {"samples": 5}
    jaeger = (
        'otelcol_receiver_accepted_spans_total{receiver="otlp",transport="grpc"} 40\n'
        'otelcol_exporter_send_failed_spans_total{exporter="jaeger_storage_exporter"} 2\n'
    )
    assert counters.backend(jaeger, known["jaeger"]) == {
        "arrived": 40, "discarded.out of bounds": 2,
    }  # fmt: skip
    rows = 'vl_rows_ingested_total{type="opentelemetry_protobuf"} 9\n'
    rows += 'vl_rows_dropped_total{reason="too_small_timestamp"} 1\n'
    assert counters.backend(rows, known["victorialogs"]) == {
        "arrived": 9, "discarded.too_small_timestamp": 1,
    }  # fmt: skip


def test_labels_may_hold_anything() -> None:
    (sample,) = counters.parse('a_total{b="x\\"}y",c="1"} 2 1700000000\n', ["a"])
    assert sample.labels == {"b": 'x\\"}y', "c": "1"}
    assert sample.value == 2


def test_marks_say_how_long_each_took() -> None:
    sent: dict[str, float] = {}

    def found(name: str) -> bool:
        return name in sent and time.monotonic() - sent[name] > 0.1

    marks = Marks(lambda name: sent.update({name: time.monotonic()}), found, period=0.05, poll=0.01)
    marks.start()
    while len(sent) < 3:
        time.sleep(0.01)
    assert marks.oldest_seconds() >= 0
    lags = [mark.lag for mark in marks.stop(30.0)]
    assert len(lags) >= 3
    assert all(lag is not None and lag > 0.1 for lag in lags)
    assert marks.oldest_seconds() == 0


def test_a_mark_that_never_comes() -> None:
    marks = Marks(lambda name: None, lambda name: False, period=0.05, poll=0.01)
    marks.start()
    assert {mark.lag for mark in marks.stop(0.2)} == {None}


@pytest.mark.parametrize("error", [ComponentError("no"), http.client.BadStatusLine("")])
def test_a_mark_that_is_refused_or_not_answered(error: Exception) -> None:
    tried = []

    def refuse(name: str) -> None:
        tried.append(name)
        raise error

    marks = Marks(refuse, lambda name: pytest.fail("nothing to look for"), period=0.01, poll=0.01)
    marks.start()
    while len(tried) < 2:
        time.sleep(0.01)
    all_ = marks.stop(1.0)
    assert len(all_) >= 2
    assert all(mark.refused for mark in all_)


def test_a_search_without_an_answer_is_repeated() -> None:
    asked = []

    def search(name: str) -> bool:
        asked.append(name)
        if len(asked) == 1:
            raise http.client.IncompleteRead(b"")
        return True

    marks = Marks(lambda name: None, search, period=10, poll=0.01)
    marks.start()
    (mark,) = marks.stop(30.0)
    assert mark.lag is not None


def test_a_trace_is_whole_with_all_its_spans() -> None:
    spans = [{"spans": [{}, {}]}, {"spans": [{}, {}, {}]}]
    assert tempo.size({"batches": [{"scopeSpans": spans}]}) == 5
    assert tempo.size({"trace": {"resourceSpans": [{"scopeSpans": spans[:1]}]}}) == 2
    assert tempo.size({"resourceSpans": []}) == tempo.size(None) == 0


def test_samples_are_counted_name_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"ramp_a_total": 7.0, "ramp_b_seconds_bucket": 11.0}

    def ask(url: str, query: dict[str, str], *_: float) -> Any:
        if "match[]" in query:
            return {"data": ["target_info", *counts]}
        value = next((counts[name] for name in counts if name in query["query"]), None)
        return value and {"data": {"result": [{"value": [0, str(value)]}]}}

    monkeypatch.setattr(client, "ask", ask)
    assert prometheus.Prometheus("http://x").number("m", "ramp_", 60) == 18
    counts.pop("ramp_b_seconds_bucket")
    counts["ramp_c"] = 0.0  # no answer
    assert prometheus.Prometheus("http://x").number("m", "ramp_", 60) is None
