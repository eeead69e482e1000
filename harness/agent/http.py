"""The `http` collector: requests that the processes of one cgroup serve; see bpf/http.bpf.c.

Durations run from the arrival of a request's first segment to the departure of its response's last
byte, as the kernel of the serving machine sees them. Where nothing tells how long a response is,
its first segment ends it if its header is torn, the end of the connection if that is whole.
"""

from __future__ import annotations

import struct
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add

from harness.agent import containers, http_native, layouts
from harness.agent.http_spans import Codec, HttpSpans, InPython, batches
from harness.agent.http_telemetry import (
    DURATION_BOUNDS,
    FIGURES,
    KEY_BYTES,
    SIZE_BOUNDS,
    Event,
    Series,
    Totals,
    counted,
    metrics,
    totals,
)
from harness.agent.libbpf import Link, Map, Object, attached_to
from harness.agent.telemetry import (
    Counts,
    Metric,
    Point,
    Span,
    Telemetry,
    by_container,
    counter,
)
from harness.agent.together import Together

# enum http_lost in bpf/http.h
LOST = ("socket", "series", "span", "pipeline", "unseen")

_MAPS = ("series", "overflow")
_SERIES_OF_CONTAINERS = 4096  # of all containers of a node, in each of two maps
_FULL = 3 / 4  # of a map's entries: from there on idle series give way
_IDLE_EXPORTS = 20  # without a request
_EARLY_SECONDS = 120.0  # a client's request waits for a socket no longer: it never came
_STARTED_AT = 32  # in struct http_conn


class Http:
    """RED metrics of every request, spans of a share."""

    name = "http"

    def __init__(self, sample: int, containers: Together, codec: Codec | None = None) -> None:
        self._sample, self._containers = sample, containers
        self._codec = codec or InPython()
        self._generation = 0
        self._runs: list[bytes] = []  # of records
        self._batches: list[HttpSpans] = []
        self._slowest: dict[Series, Span] = {}
        # of cgroups that went before their container: counters only grow
        self._kept: dict[Series, list[int]] = {}
        self._forgotten = 0  # requests of series that are counted no more
        self._filled = 0  # entries of the first map
        self._idle: dict[bytes, tuple[int, int]] = {}  # requests, and exports without another
        self._unadopted = 0  # requests that no connection came for

    def configure(self, obj: Object) -> None:
        """Give the kernel the bounds of the histograms and the share of spans."""
        layouts.check(obj, "http_event", Event)
        layouts.check(obj, "http_totals", struct.Struct(f"={FIGURES}Q"))
        nanoseconds = [round(bound * 1e9) for bound in DURATION_BOUNDS]
        obj.set("targ_duration_bounds", struct.pack(f"={len(nanoseconds)}Q", *nanoseconds))
        obj.set("targ_size_bounds", struct.pack(f"={len(SIZE_BOUNDS)}Q", *SIZE_BOUNDS))
        obj.set("targ_sample", (1 << 32) // self._sample - 1)
        self._containers.prepare(obj, _MAPS, KEY_BYTES, _SERIES_OF_CONTAINERS)

    def start(self, obj: Object) -> None:
        """Map the ring buffer."""
        self._object = obj
        self._containers.start(obj)
        self._maps = [obj.map(name) for name in _MAPS]
        self._early = obj.map("early")
        self._events = self._codec.ring(obj.map("events"), self._runs.append)

    def aim(self, obj: Object, directory: int) -> None:
        """See the requests of this cgroup with the next `attach`."""
        self._directory = directory
        self._containers.look()

    def attach(self, obj: Object) -> Sequence[Link]:
        """Void the state of connections from before, then see both directions and their ends."""
        self._generation += 1
        obj.set("generation", self._generation)
        return attached_to(self._directory, obj.programs)

    def collect(self, *, metrics: bool) -> Telemetry:
        """Spans since the last call, and the totals if `metrics`."""
        try:
            self._events.consume()
        finally:  # what is no record does not keep the others
            self._gather()
        telemetry = self._telemetry() if metrics else Telemetry(batches=self._batches)
        self._batches = []  # not before: what fails is tried again
        return telemetry

    def counts(self) -> Counts:
        """Requests that ended, and those that were not kept, also by why."""
        return self._counts(self._totals({}))

    def close(self) -> bool:
        """Unmap the ring buffer."""
        self._events.close()
        self._containers.close()
        return True

    def _telemetry(self) -> Telemetry:
        slowest, self._slowest = self._slowest, {}
        self._forget()
        self._age()
        self._drop_early()
        series = list(self._totals(slowest))
        own, contained = by_container(series)
        told = {each: metrics(some) for each, some in contained.items()}
        all_told = [*metrics(own), *self._lost_metric()]
        return Telemetry(all_told, (), (), self._counts(series), told, self._batches)

    def _lost_metric(self) -> Iterator[Metric]:
        points = [Point({"error.type": why}, n) for why, n in self._lost().items() if n]
        if points:
            said = "Requests that were not counted, and spans (span) that were not told."
            yield counter("http.events.lost", "{event}", points, said)

    def _counts(self, series: Iterable[Totals]) -> Counts:
        events = sum(sum(each.duration) for each in series)
        lost = self._lost()
        by_reason = {f"lost_{why}": float(n) for why, n in lost.items()}
        return Counts(events + self._forgotten, sum(lost.values()), by_reason)

    def _lost(self) -> dict[str, int]:
        """By why."""
        lost = dict(
            zip(LOST, struct.unpack(f"={len(LOST)}Q", self._object.get("lost")), strict=True)
        )
        lost["unseen"] += self._unadopted
        return lost

    def _gather(self) -> None:
        """Make spans of the records, and remember the slowest of each series."""
        while self._runs:
            found = list(batches(self._runs[0], self._containers, self._codec))
            del self._runs[0]
            self._batches += found
            for each in found:
                for series, number, took in each.slowest():
                    slowest = self._slowest.get(series)
                    if slowest is None or took > slowest.end_ns - slowest.start_ns:
                        self._slowest[series] = each.span(number)

    def _totals(self, examples: Mapping[Series, Span]) -> Iterator[Totals]:
        """Each series once: a container may have several cgroups, a map what another overflowed."""
        added = dict(self._kept)
        entries = [list(each.items()) for each in self._maps]
        self._filled = len(entries[0])
        for each, some in zip(self._maps, entries, strict=True):
            for key, value in some:
                series = self._containers.find(_cgroup(key)), key[:KEY_BYTES]
                figures, before = _figures(each, value), added.get(series)
                added[series] = figures if before is None else list(map(add, before, figures))
        for series, figures in added.items():
            yield totals(series, figures, examples.get(series))

    def _forget(self) -> None:
        """Give the room of containers that are long gone to those that come."""
        gone = self._containers.forgotten()
        for each in self._maps if gone else ():
            for key, value in list(each.items()):
                if (cgroup := _cgroup(key)) in gone:
                    series = gone[cgroup], key[:KEY_BYTES]
                    figures, before = _figures(each, value), self._kept.get(series)
                    self._kept[series] = list(map(add, before, figures)) if before else figures
                    each.delete(key)
        for series in [each for each in self._kept if not self._containers.lasts(each[0])]:
            self._forgotten += counted(self._kept.pop(series))

    def _age(self) -> None:
        """Where room runs out, give that of series that have long been idle to those that come.

        Routes are derived from paths: whoever asks for many of them must not hide the others for
        ever. What was asked for once, and told, gives way at once, as far as room is needed. A
        series that comes back begins anew, as after a restart of the agent.
        """
        room = self._maps[0]
        excess = self._filled - int(_FULL * room.max_entries)
        idle: dict[bytes, tuple[int, int]] = {}
        for key, value in list(room.items()) if excess > 0 else ():
            requests = counted(_figures(room, value))
            before, exports = self._idle.get(key, (0, 0))
            idle[key] = requests, exports + 1 if requests == before else 0
        gone = [key for key, (_, exports) in idle.items() if exports >= _IDLE_EXPORTS]
        once = [key for key, (n, exports) in idle.items() if n == 1 and 0 < exports < _IDLE_EXPORTS]
        once.sort(key=lambda each: -idle[each][1])
        for key in [*gone, *once[: max(0, excess - len(gone))]]:
            del idle[key]
            if (taken := room.take(key)) is not None:
                self._forgotten += counted(_figures(room, taken))
        self._idle = idle

    def _drop_early(self) -> None:
        """Forget clients whose handshake did not come to its end."""
        if not any(self._object.get("any_early")):  # nor began with a request, ever
            return
        oldest = time.monotonic_ns() - round(_EARLY_SECONDS * 1e9)
        for key, value in list(self._early.items()):
            started = int.from_bytes(value[_STARTED_AT : _STARTED_AT + 8], sys.byteorder)
            if 0 < started < oldest:
                self._unadopted += self._early.delete(key)


def add_options(parser: ArgumentParser) -> None:
    """`--sample N`: one span in N requests; --containers."""
    containers.add_option(parser)
    parser.add_argument("--sample", type=_positive, default=100, help="one span in N requests")


def create(options: Namespace) -> Http:
    """The collector as the command line asks for it."""
    return Http(options.sample, containers.asked(options), http_native.codec(options.bpf))


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _cgroup(key: bytes) -> int:
    """That of a struct http_series; 0 where keys have none."""
    return int.from_bytes(key[KEY_BYTES:], sys.byteorder)


def _figures(source: Map, value: bytes) -> list[int]:
    cpus = [struct.unpack(f"={source.value_size // 8}Q", each) for each in source.cpu_values(value)]
    return [sum(figure) for figure in zip(*cpus, strict=True)]
