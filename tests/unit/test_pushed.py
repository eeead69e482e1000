"""Profiles that Pyroscope's clients push are taken by the sink, and counted as samples."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent import pprof
from harness.meters import intake, pushed, wire_format
from harness.meters.coverage import count, data_latency
from harness.meters.otlp import Point
from harness.model import Part
from harness.stack import intake as taking
from harness.stack.http import Request
from harness.stack.sink import Sink
from harness.wire.spool import Record
from tests.unit.pushing import SECOND, number, part, profile, push, push_gzipped, varint

BOTH = (("samples", "count"), ("cpu", "nanoseconds"))
THREE = [[10_000_000], [20_000_000], [10_000_000]]


def _points(body: bytes, encoding: str = "") -> list[Point]:
    found = list(intake.items(Record(1, SECOND, pushed.PATH, "", encoding, body)))
    assert all(isinstance(each, Point) for each in found)
    return [each for each in found if isinstance(each, Point)]


@pytest.mark.parametrize("packed", [True, False])
def test_time_is_counted_in_samples_by_the_period(packed: bool) -> None:
    (found,) = _points(push_gzipped(profile(THREE, packed=packed)), "gzip")
    assert (found.scope, found.name, found.value) == ("pyroscope", "profile.samples", 4.0)
    assert (found.start_unix_ns, found.time_unix_ns) == (5 * SECOND, 15 * SECOND)
    assert found.delta
    assert not found.gauge


def test_samples_are_taken_as_they_are_counted_where_they_are() -> None:
    told = profile([[3, 30_000_000], [1, 99]], BOTH)
    assert [each.value for each in _points(push(told, gzip.compress(told)))] == [4.0, 4.0]


def test_a_profile_of_ours_is_read_as_its_schema_says() -> None:
    made = pprof.Builder(SECOND, SECOND, SECOND // 19)
    made.add([pprof.Frame(name="hot", file="app.py", line=3)], count=5, pid=42, tid=42)
    made.add([pprof.Frame(address=2**64 - 1)], count=300, pid=42, tid=43)
    (found,) = _points(push(made.profile.SerializeToString()))
    assert found.value == 305.0


def test_what_is_of_no_cpu_is_no_sample() -> None:
    assert _points(push(profile([[7]], [("inuse_space", "bytes")]))) == []
    assert _points(push()) == []


@pytest.mark.parametrize(
    "body",
    [
        push(profile(THREE))[:-1],
        push(profile([[1, 2]])),
        push(profile(THREE, period=0)),
        push(part(1, number(1, 9))),
        push(b"\x1f\x8bno gzip"),
        b"\x0b",
        b"\xff" * 11,
    ],
)
def test_what_is_no_push_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        _points(body)


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 2**29 - 1))
def test_numbers_are_read_as_they_are_written(values: list[int], key: int) -> None:
    packed = part(key, b"".join(map(varint, values)))
    each = b"".join(number(key, value) for value in values)
    assert wire_format.read(packed).repeated(key) == values
    assert wire_format.read(each).repeated(key) == values
    assert wire_format.read(each).number(key) == (values[-1] if values else 0)


def test_what_has_a_fixed_size_is_left_out() -> None:
    body = varint(1 << 3 | 1) + bytes(8) + varint(2 << 3 | 5) + bytes(4) + number(3, 7)
    assert wire_format.read(body).number(3) == 7
    with pytest.raises(ValueError, match="no message"):
        wire_format.read(body[:5])


def test_the_sink_takes_and_counts_them(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "spool")
    assert taking.PYROSCOPE == pushed.PATH
    headers = {"content-type": "application/proto", "content-encoding": "gzip"}
    for second in range(2):
        body = push_gzipped(profile(THREE, started=second))
        answer = sink.answer(Request("POST", pushed.PATH, headers, body))
        assert (answer.status, answer.body) == (200, b"")
        assert answer.content_type == "application/proto"
    assert sink.answer(Request("GET", pushed.PATH, {}, b"")).status == 405
    assert count(tmp_path / "spool", Part(pushed.SCOPE), "samples") == 8
    assert len(data_latency(tmp_path / "spool", Part(pushed.SCOPE), "metrics"))
