"""Parca: CPU profiles, in memory; agents write to it themselves, for 0.21 takes no OTLP."""

from __future__ import annotations

import gzip
import time
import urllib.request
from collections import Counter
from typing import Any

from harness.errors import ComponentError
from harness.stack import client
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.questions import LOOK, QUERY_SECONDS, READBACK, quoted
from harness.wire import grpc_web, parca
from harness.wire.pprof import Profile

MEMORY_MB = 256
"""What profiles may take before all go at once: a stack of an export takes 440 bytes of it."""
MARK = "mark"  # a label of what only proves that data flow
NOBODY = "127.0.0.1:9"  # discard: where nobody is to be called
AHEAD_NS = 10**9  # beyond now, for what has just happened
BACK_NS = 3600 * 10**9
NOT_FOUND = 5


def render(stack: Stack) -> Tree:
    """Its file: it scrapes nobody, and a bucket it must have is one on the disk."""
    where = {"directory": stack.data("parca")}
    return {"object_storage": {"bucket": {"type": "FILESYSTEM", "config": where}}}


def _arguments(stack: Stack) -> list[str]:
    """Nothing is kept on the disk: what is written there it never removes."""
    return [
        f"--config-path={stack.file('parca')}",
        f"--http-address={stack.listens('parca')}",
        f"--storage-active-memory={MEMORY_MB << 20}",
        f"--debuginfo-cache-dir={stack.data('parca')}",
        "--debuginfod-upstream-servers=",
        f"--profile-share-server={NOBODY}",
        "--log-level=warn",
    ]


class Parca:
    """What it is asked: all CPU profiles whose labels match, as one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has(self, mark: str) -> bool:
        """Whether it finds the profile with this mark."""
        return bool(self._profile(f"{MARK}={quoted(mark)}", time.time_ns() - BACK_NS).sample)

    def samples(self, attribute: str, value: str, since_unix_ns: int) -> dict[str, int]:
        """The CPU time (ns) since then of what has this attribute, by function or address."""
        found = self._profile(f"{parca.label(attribute)}={quoted(value)}", since_unix_ns)
        return dict(by_function(found))

    def _profile(self, selector: str, since_unix_ns: int) -> Any:
        """What matches; an empty one if nothing does."""
        asked = parca.query(selector, since_unix_ns, time.time_ns() + AHEAD_NS)
        try:
            answer = parca.QueryResponse.FromString(call(self._url, parca.QUERY, asked))
        except grpc_web.CallError as error:
            if error.status == NOT_FOUND:
                return Profile()
            raise ComponentError("Parca refused a query.", f"It said {error}.", LOOK) from error
        return Profile.FromString(gzip.decompress(answer.pprof))


def by_function(profile: Any) -> Counter[str]:
    """The first value of its samples by each function on the stack, or by address."""
    named = {each.id: profile.string_table[each.name] for each in profile.function}
    at = {
        each.id: [named[line.function_id] for line in each.line] or [hex(each.address)]
        for each in profile.location
    }
    found = Counter[str]()
    for sample in profile.sample:
        for name in {name for place in sample.location_id for name in at[place]}:
            found[name] += sample.value[0]
    return found


def write(url: str, mark: str) -> None:
    """One profile of one sample with this mark; ComponentError if it is not taken."""
    request = parca.WriteRawRequest()
    parca.add(request, {"service.name": READBACK, MARK: mark}, _of_one().SerializeToString())
    try:
        call(url, parca.WRITE, request.SerializeToString())
    except grpc_web.CallError as error:
        raise ComponentError("Parca did not take a profile.", f"It said {error}.", LOOK) from error


def call(url: str, path: str, message: bytes) -> bytes:
    """What it answers to a message; CallError if it is a refusal, else ComponentError."""
    request = urllib.request.Request(url + path, grpc_web.framed(message), grpc_web.HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=QUERY_SECONDS) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return grpc_web.answered(headers, answer.read())
    except (*client.FAILURES, ValueError) as error:
        raise ComponentError(
            f"Parca does not answer at {url}.", f"{getattr(error, 'reason', error)}.", LOOK
        ) from error


def _of_one() -> Any:
    texts = ["", "samples", "count", "cpu", "nanoseconds", "readback"]
    profile = Profile(
        string_table=texts, time_nanos=time.time_ns(), duration_nanos=10**9, period=10**7
    )
    for kind, unit in (("samples", "count"), ("cpu", "nanoseconds")):
        profile.sample_type.add(type=texts.index(kind), unit=texts.index(unit))
    profile.period_type.type, profile.period_type.unit = map(texts.index, ("cpu", "nanoseconds"))
    profile.function.add(id=1, name=texts.index("readback"))
    profile.location.add(id=1).line.add(function_id=1)
    profile.sample.add(location_id=[1], value=[1, 10**7])
    return profile


PROGRAM = Program(
    render,
    _arguments,
    lambda s: s.url("parca") + "/metrics",
    store=Store(
        exporter=None,
        ask=Parca,
        write=write,
        collectors=lambda url: {"profile": [f"--parca={url}"]},
        probe="/metrics",
    ),
)
