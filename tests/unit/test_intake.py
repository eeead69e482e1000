"""What agents post that speak no OTLP is taken by the sink, and counted as requests."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import msgpack as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.meters import intake, msgpack
from harness.meters.coverage import count, data_latency
from harness.model import Part
from harness.stack.http import Request, Response
from harness.stack.sink import Sink
from harness.wire.spool import Record, read_spool
from harness.wire.telemetry import SERVER_SPANS, SIGNALS

SECOND = 10**9
START = 1_700_000_000 * SECOND
LINES: list[dict[str, Any]] = [
    {"metadata": {"service": {"name": "shop"}}},
    {"transaction": {"type": "request", "name": "GET /", "timestamp": START // 1000,
                     "duration": 12.5}},
    {"span": {"type": "db", "name": "SELECT", "timestamp": START // 1000, "duration": 1}},
    {"transaction": {"type": "messaging", "name": "consume", "duration": 1}},
    {"metricset": {"samples": {}}},
]  # fmt: skip
ELASTIC = b"\n".join(json.dumps(line).encode() for line in LINES)


def _span(name: str, kind: str, parent: int) -> dict[str, Any]:
    return {
        "service": "shop", "name": name, "resource": "GET /", "trace_id": 2**63 + 1, "span_id": 7,
        "parent_id": parent, "start": START, "duration": 5_000_000, "error": 0,
        "meta": {"http.method": "GET"}, "metrics": {"_sampling_priority_v1": 1.0}, "type": kind,
    }  # fmt: skip


TRACE = [_span("flask.request", "web", 0), _span("wsgi.application", "web", 7)]


def _table(traces: list[list[dict[str, Any]]]) -> list[Any]:
    """As v0.5 has it: strings once, and numbers for them."""
    strings = [""]

    def number(text: str) -> int:
        if text not in strings:
            strings.append(text)
        return strings.index(text)

    spans = [
        [
            [
                number(s["service"]), number(s["name"]), number(s["resource"]), s["trace_id"],
                s["span_id"], s["parent_id"], s["start"], s["duration"], s["error"],
                {number(k): number(v) for k, v in s["meta"].items()},
                {number(k): v for k, v in s["metrics"].items()}, number(s["type"]),
            ]
            for s in trace
        ]
        for trace in traces
    ]  # fmt: skip
    return [strings, spans]


def _items(path: str, body: bytes, encoding: str = "") -> list[Any]:
    return list(intake.items(Record(1, START, path, "", encoding, body)))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("", ELASTIC), ("gzip", gzip.compress(ELASTIC)), ("deflate", zlib.compress(ELASTIC))],
)
def test_a_transaction_of_elastics_is_a_request(encoding: str, body: bytes) -> None:
    found = _items("/intake/v2/events", body, encoding)
    assert [(e.scope, e.name, e.counted) for e in found] == [
        ("elastic", "GET /", "SERVER"), ("elastic", "SELECT", "INTERNAL"),
        ("elastic", "consume", "INTERNAL"),
    ]  # fmt: skip
    assert found[0].time_unix_ns == START + 12_500_000


@pytest.mark.parametrize(
    ("path", "payload"),
    [("/v0.4/traces", [TRACE] * 40), ("/v0.5/traces", _table([TRACE] * 40))],
)
def test_a_root_span_of_datadogs_is_a_request(path: str, payload: Any) -> None:
    found = _items(path, oracle.packb(payload))
    assert [e.counted for e in found] == ["SERVER", "INTERNAL"] * 40
    assert {(e.scope, e.time_unix_ns) for e in found} == {("datadog", START + 5_000_000)}


@pytest.mark.parametrize("payload", [{"a": 1}, [[["", "x"]]], [[7]], [[""], [[[9] * 12]]]])
def test_what_is_no_trace_is_refused(payload: Any) -> None:
    for path in ("/v0.4/traces", "/v0.5/traces"):
        with pytest.raises(ValueError, match=r"\w"):
            _items(path, oracle.packb(payload))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_messagepack_is_read_as_its_library_does(value: Any) -> None:
    assert msgpack.read(oracle.packb(value)) == value


@pytest.mark.parametrize("size", [15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_long_ones_too(size: int) -> None:
    for value in ("x" * size, b"x" * size, [1] * size, dict.fromkeys(range(size), 1)):
        packed = oracle.packb(value)
        assert msgpack.read(packed) == value
        with pytest.raises(ValueError, match="cut off"):
            msgpack.read(packed[:-1])
        with pytest.raises(ValueError, match="come after"):
            msgpack.read(packed + b"\x01")


# --- at the sink ---------------------------------------------------------------------------------


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    return Sink(tmp_path / "spool")


def _ask(sink: Sink, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return sink.answer(Request(method, path, told, body))


def test_the_sink_takes_and_counts_what_they_post(sink: Sink, tmp_path: Path) -> None:
    posted = _ask(sink, "PUT", "/v0.4/traces", oracle.packb([TRACE] * 3))
    assert (posted.status, json.loads(posted.body)["rate_by_service"]["service:,env:"]) == (200, 1)
    sent = _ask(sink, "POST", "/intake/v2/events?flushed=true", gzip.compress(ELASTIC),
                content_encoding="gzip")  # fmt: skip
    assert sent.status == 200
    spool = tmp_path / "spool"
    assert count(spool, Part("datadog"), SERVER_SPANS) == 3
    assert count(spool, Part("elastic"), SERVER_SPANS) == 1
    assert len(data_latency(spool, Part("datadog"), "spans")) == 6
    stats = json.loads(_ask(sink, "GET", "/stats").body)
    assert (stats["posts"]["datadog"], stats["posts"]["elastic"]) == (1, 1)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("POST", "/telemetry/proxy/api/v2/apmtelemetry", 200),
        ("PUT", "/v0.6/stats", 200),
        ("GET", "/info", 404),
        ("GET", "/config/v1/agents", 404),
        ("GET", "/v0.4/traces", 405),
        ("PUT", "/v1/traces", 405),
        ("PUT", "/intake/v2/events", 405),
    ],
)
def test_what_else_they_ask_lets_them_go_on(
    sink: Sink, tmp_path: Path, method: str, path: str, status: int
) -> None:
    assert _ask(sink, method, path).status == status
    assert list(read_spool(tmp_path / "spool")) == []


def test_a_request_is_counted_by_its_span_as_by_a_metric() -> None:
    assert SIGNALS[SERVER_SPANS].made == SIGNALS["requests"].made == "requests"
