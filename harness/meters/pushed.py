"""Reads profiles that Pyroscope's clients pushed, as counts of samples; for `intake`.

A push holds profiles of series, each a pprof profile of its own, gzipped or not.
https://github.com/grafana/pyroscope/blob/main/api/push/v1/push.proto
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from harness.meters import wire_format
from harness.meters.otlp import Attributes, Point
from harness.meters.wire_format import Message
from harness.wire.telemetry import SAMPLES, SIGNALS

PATH = "/push.v1.PusherService/Push"
SCOPE = "pyroscope"
_SERIES = 1  # of a push
_PROFILES = 2  # of a series
_RAW = 1  # of a profile
_TYPES, _SAMPLES, _STRINGS, _TIME, _DURATION, _PERIOD = 1, 2, 6, 9, 10, 12  # of pprof
_VALUES = 2  # of a sample
_COUNTED, _TIMED = (SAMPLES, "count"), ("cpu", "nanoseconds")
_GZIP = b"\x1f\x8b"
_NOBODY: Attributes = frozenset()


def points(body: bytes) -> Iterator[Point]:
    """What each CPU profile of a push counted; ValueError if it is no push of profiles."""
    for series in wire_format.read(body).parts[_SERIES]:
        for profile in wire_format.read(series).parts[_PROFILES]:
            for raw in wire_format.read(profile).parts[_RAW]:
                yield from _of_cpu(wire_format.read(_plain(raw)))


def _plain(raw: bytes) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"a profile is not gzipped as it says: {error}") from error


def _of_cpu(profile: Message) -> Iterator[Point]:
    """Samples that a profile holds; nothing of one that is of memory or locks."""
    kinds = [_named(profile, wire_format.read(each)) for each in profile.parts[_TYPES]]
    kind = next((each for each in (_COUNTED, _TIMED) if each in kinds), None)
    if kind is None:
        return
    column, period = kinds.index(kind), profile.number(_PERIOD)
    values = [wire_format.read(each).repeated(_VALUES) for each in profile.parts[_SAMPLES]]
    if any(len(each) != len(kinds) for each in values) or (kind == _TIMED and not period):
        raise ValueError("a profile has not a value for each of its types, or no period")
    total = float(sum(each[column] for each in values))
    started, signal = profile.number(_TIME), SIGNALS[SAMPLES]
    yield Point(
        SCOPE,
        signal.counted_by,
        (_NOBODY, SCOPE, signal.counted_by, _NOBODY),
        total / period if kind == _TIMED else total,
        started,
        started + profile.number(_DURATION),
        delta=True,
        gauge=False,
    )


def _named(profile: Message, kind: Message) -> tuple[str, str]:
    """A type and its unit, which are numbers of the table of strings."""
    texts = profile.parts[_STRINGS]
    name, unit = kind.number(1), kind.number(2)
    if max(name, unit) >= len(texts):
        raise ValueError("a profile names strings that did not come")
    return texts[name].decode(errors="replace"), texts[unit].decode(errors="replace")
