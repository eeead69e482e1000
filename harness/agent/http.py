"""The `http` collector: requests that the processes of one cgroup serve; see bpf/http.bpf.c.

Durations run from the arrival of a request's first segment to the departure of its response's
first segment, as the kernel of the serving machine sees them.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ctypes import c_char, c_uint8, c_uint16, c_uint64
from dataclasses import dataclass
from itertools import accumulate
from operator import add

from harness.agent import containers
from harness.agent.container import Container
from harness.agent.containers import Together
from harness.agent.libbpf import Link, Map, Object, RingBuffer, attached_to
from harness.agent.telemetry import (
    Attributes,
    Buckets,
    Counts,
    Metric,
    Span,
    Telemetry,
    by_container,
    histogram,
)
from harness.agent.text import text

# enum http_method in bpf/http.h
METHODS = ("", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE")

# advised by the semantic conventions for http.server.request.duration, in seconds
DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
SIZE_BOUNDS = (0, *(1 << power for power in range(10, 26, 2)))  # 1 KiB to 16 MiB

_UNKNOWN = (1 << 64) - 1
_MAPS = ("series", "overflow")
_SERIES_OF_CONTAINERS = 4096  # of all containers of a node, in each of two maps


class _Key(ctypes.Structure):
    """struct http_key in bpf/http.h."""

    _fields_ = (
        ("route", c_char * 56),
        ("status", c_uint16),
        ("port", c_uint16),
        ("method", c_uint8),
        ("minor", c_uint8),
        ("unused", c_uint16),
    )


class _Event(ctypes.Structure):
    """struct http_event in bpf/http.h."""

    _fields_ = (
        ("start_ns", c_uint64),
        ("end_ns", c_uint64),
        ("request_bytes", c_uint64),
        ("response_bytes", c_uint64),
        ("key", _Key),
        ("cgroup", c_uint64),
        ("target", c_char * 128),
    )


_KEY_BYTES = ctypes.sizeof(_Key)
_Series = tuple[Container | None, bytes]  # and the bytes of a _Key


@dataclass(frozen=True)
class _Totals:
    """One series of struct http_totals, all CPUs added up."""

    container: Container | None
    attributes: Attributes
    duration: Sequence[int]
    duration_ns: int
    request: Sequence[int]
    request_bytes: int
    response: Sequence[int]
    response_bytes: int
    example: Span | None


class Http:
    """RED metrics of every request, spans of a share."""

    name = "http"

    def __init__(self, sample: int, containers: Together) -> None:
        self._sample, self._containers = sample, containers
        self._generation = 0
        self._spans: list[Span] = []
        self._slowest: dict[_Series, Span] = {}
        # of cgroups that went before their container: counters only grow
        self._kept: dict[_Series, list[int]] = {}
        self._forgotten = 0  # requests of series that are counted no more

    def configure(self, obj: Object) -> None:
        """Give the kernel the bounds of the histograms and the share of spans."""
        nanoseconds = [round(bound * 1e9) for bound in DURATION_BOUNDS]
        obj.set("targ_duration_bounds", struct.pack(f"={len(nanoseconds)}Q", *nanoseconds))
        obj.set("targ_size_bounds", struct.pack(f"={len(SIZE_BOUNDS)}Q", *SIZE_BOUNDS))
        obj.set("targ_sample", (1 << 32) // self._sample - 1)
        self._containers.prepare(obj, _MAPS, _KEY_BYTES, _SERIES_OF_CONTAINERS)

    def start(self, obj: Object) -> None:
        """Map the ring buffer."""
        self._object = obj
        self._maps = [obj.map(name) for name in _MAPS]
        self._events = RingBuffer(obj.map("events"), self._take)

    def aim(self, obj: Object, directory: int) -> None:
        """See the requests of this cgroup with the next `attach`."""
        self._directory = directory
        self._containers.look()

    def attach(self, obj: Object) -> Sequence[Link]:
        """Void the state of connections from before, then see both directions."""
        self._generation += 1
        obj.set("generation", self._generation)
        return attached_to(self._directory, obj.programs)

    def collect(self, *, metrics: bool) -> Telemetry:
        """Spans since the last call, and the totals if `metrics`."""
        self._events.consume()
        spans, self._spans = self._spans, []
        if not metrics:
            return Telemetry(spans=spans)
        slowest, self._slowest = self._slowest, {}
        self._forget()
        totals = list(self._totals(slowest))
        own, contained = by_container(totals)
        told = {each: _metrics(some) for each, some in contained.items()}
        return Telemetry(_metrics(own), spans, (), self._counts(totals), told)

    def counts(self) -> Counts:
        """Requests answered, and those that no map had room for."""
        return self._counts(self._totals({}))

    def close(self) -> None:
        """Unmap the ring buffer."""
        self._events.close()
        self._containers.close()

    def _counts(self, totals: Iterable[_Totals]) -> Counts:
        events = sum(sum(each.duration) for each in totals)
        return Counts(events + self._forgotten, int.from_bytes(self._object.get("lost"), "little"))

    def _take(self, record: bytes) -> None:
        event = _Event.from_buffer_copy(record)
        container = self._containers.find(event.cgroup)
        span, series = _span(event, container), (container, bytes(event.key))
        self._spans.append(span)
        slowest = self._slowest.get(series)
        if slowest is None or span.seconds > slowest.seconds:
            self._slowest[series] = span

    def _totals(self, examples: Mapping[_Series, Span]) -> Iterator[_Totals]:
        """Each series once: a container may have several cgroups, a map what another overflowed."""
        added = dict(self._kept)
        for each in self._maps:
            for key, value in each.items():
                series = self._containers.find(_cgroup(key)), key[:_KEY_BYTES]
                figures, before = _figures(each, value), added.get(series)
                added[series] = figures if before is None else list(map(add, before, figures))
        for series, figures in added.items():
            yield _added(series, figures, examples.get(series))

    def _forget(self) -> None:
        """Give the room of containers that are long gone to those that come."""
        gone = self._containers.forgotten()
        for each in self._maps if gone else ():
            for key, value in list(each.items()):
                if (cgroup := _cgroup(key)) in gone:
                    series = gone[cgroup], key[:_KEY_BYTES]
                    figures, before = _figures(each, value), self._kept.get(series)
                    self._kept[series] = list(map(add, before, figures)) if before else figures
                    each.delete(key)
        for series in [each for each in self._kept if not self._containers.lasts(each[0])]:
            self._forgotten += sum(self._kept.pop(series)[: len(DURATION_BOUNDS) + 1])


def add_options(parser: ArgumentParser) -> None:
    """`--sample N`: one span in N requests; --containers."""
    containers.add_option(parser)
    parser.add_argument("--sample", type=_positive, default=100, help="one span in N requests")


def create(options: Namespace) -> Http:
    """The collector as the command line asks for it."""
    return Http(options.sample, containers.asked(options))


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _cgroup(key: bytes) -> int:
    """That of a struct http_series; 0 where keys have none."""
    return int.from_bytes(key[_KEY_BYTES:], sys.byteorder)


def _figures(source: Map, value: bytes) -> list[int]:
    cpus = [struct.unpack(f"={source.value_size // 8}Q", each) for each in source.cpu_values(value)]
    return [sum(figure) for figure in zip(*cpus, strict=True)]


def _added(series: _Series, figures: Sequence[int], example: Span | None) -> _Totals:
    container, key = series
    durations, sizes = len(DURATION_BOUNDS) + 1, len(SIZE_BOUNDS) + 1
    ends = list(accumulate((durations, 1, sizes, 1, sizes, 1)))
    return _Totals(
        container,
        _attributes(_Key.from_buffer_copy(key)),
        figures[: ends[0]],
        figures[ends[0]],
        figures[ends[1] : ends[2]],
        figures[ends[2]],
        figures[ends[3] : ends[4]],
        figures[ends[4]],
        example,
    )


def _attributes(key: _Key) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "http.request.method": METHODS[key.method],
        "http.route": text(key.route),
        "http.response.status_code": key.status,
        "network.protocol.version": f"1.{key.minor}",
        "server.port": key.port,
        "url.scheme": "http",
    }
    if key.status >= 500:
        attributes["error.type"] = str(key.status)
    return attributes


def _metrics(totals: Sequence[_Totals]) -> list[Metric]:
    if not totals:
        return []
    durations = [Buckets(t.attributes, t.duration, t.duration_ns / 1e9, t.example) for t in totals]
    requests = [Buckets(t.attributes, t.request, t.request_bytes) for t in totals]
    responses = [Buckets(t.attributes, t.response, t.response_bytes) for t in totals]
    return [
        histogram("http.server.request.duration", "s", DURATION_BOUNDS, durations),
        histogram("http.server.request.body.size", "By", SIZE_BOUNDS, requests),
        histogram("http.server.response.body.size", "By", SIZE_BOUNDS, responses),
    ]


def _span(event: _Event, container: Container | None) -> Span:
    key = event.key
    attributes = _attributes(key)
    target = text(event.target.split(b" ", 1)[0])
    attributes["url.path"], _, query = target.partition("?")
    if query:
        attributes["url.query"] = query
    for name, size in (("request", event.request_bytes), ("response", event.response_bytes)):
        if size != _UNKNOWN:
            attributes[f"http.{name}.body.size"] = size
    return Span(
        f"{METHODS[key.method]} {attributes['http.route']}",
        event.start_ns,
        event.end_ns,
        attributes,
        error=key.status >= 500,
        container=container,
    )
