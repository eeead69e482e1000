"""Who posted what; what of it was refused, cut off, not readable or sent twice is told."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.analysis import posts as analysed
from harness.analysis.summary import summarize
from harness.analysis.validity import Judged
from harness.meters import otlp
from harness.meters.coverage import count
from harness.meters.posts import posted
from harness.model import Measurement, Part, Posted, Trial
from harness.report import headline
from harness.results.run import TrialRecord
from harness.wire.spool import Record, pack
from tests.unit import synthetic

AGENT = "An-Agent/1.0"


def batch(*names: str, instance: str = "one") -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key=otlp.INSTANCE).value.string_value = instance
    group = resource.scope_spans.add()
    group.scope.name = "theirs"
    for name in names:
        group.spans.add(name=name, kind="SPAN_KIND_SERVER", end_time_unix_nano=1)
    return request.SerializeToString()


def profiles(*values: list[int], kind: tuple[str, str] = ("samples", "count")) -> bytes:
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", *kind])
    group = request.resource_profiles.add().scope_profiles.add()
    group.scope.name = "theirs"
    profile = group.profiles.add(time_unix_nano=5, duration_nano=10, period=50)
    profile.sample_type.type_strindex, profile.sample_type.unit_strindex = 1, 2
    for each in values:
        profile.samples.add(values=each)
    profile.samples.add(timestamps_unix_nano=[6, 7])
    return request.SerializeToString()


class Spool:
    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0
        path.touch()

    def add(
        self, body: bytes, path: str = "/v1/traces", encoding: str = "", status: int = 200,
        sender: str = AGENT,
    ) -> None:  # fmt: skip
        self._at += 1
        kind = "application/x-protobuf"
        record = Record(self._at, self._at, path, kind, encoding, body, status, sender)
        with self.path.open("ab") as stream:
            stream.write(pack(record))

    def outcomes(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for each, number in posted(self.path, 0).items():
            found[each.outcome] += number
        return found


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_posts_are_counted_by_instance(spool: Spool) -> None:
    spool.add(batch("a"))
    spool.add(batch("b"))
    spool.add(batch("a", instance="two"))
    assert posted(spool.path, 0) == {
        Posted("taken", AGENT, "one"): 2, Posted("taken", AGENT, "two"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
def test_a_batch_that_comes_twice_counts_once_and_is_told(spool: Spool, compressed: bool) -> None:
    body = batch("a", "b", "c")
    for second in (1, 2):  # which gzip notes
        packed = gzip.compress(body, mtime=second)
        spool.add(packed if compressed else body, encoding="gzip" if compressed else "")
    spool.add(batch("d"))
    assert spool.outcomes() == {"taken": 2, "repeated": 1}
    assert count(spool.path, Part("theirs"), "server_spans") == 4


def test_what_holds_nothing_or_is_of_another_sender_is_no_repeat(spool: Spool) -> None:
    for sender in ("one", "one", "two"):
        spool.add(b"\x90", "/v0.4/traces", sender=sender)
    for sender in ("one", "two"):
        spool.add(batch("a"), sender=sender)
    assert spool.outcomes() == {"taken": 5}
    assert count(spool.path, Part("theirs"), "server_spans") == 2


def test_what_was_refused_and_then_taken_counts_once_and_is_not_told_as_a_repeat(
    spool: Spool,
) -> None:
    spool.add(batch("a"), status=503)
    spool.add(batch("a"))
    assert spool.outcomes() == {"taken": 1, "refused": 1}
    assert Posted("refused", AGENT, "one", "503 /v1/traces") in posted(spool.path, 0)
    assert count(spool.path, Part("theirs"), "server_spans") == 1


@pytest.mark.parametrize(
    ("body", "path", "encoding"),
    [
        (b"\xff\xff\xff", "/v1/traces", ""),
        (b"no gzip", "/v1/traces", "gzip"),
        (b"\x1f\x8b\x08", "/v1/traces", "gzip"),
        (b"no zlib", "/v1/traces", "deflate"),
        (b'{"transaction": 5}', "/intake/v2/events", ""),
        (b'{"transaction": {"ty', "/intake/v2/events", ""),
        (b"\xc1", "/v0.4/traces", ""),
        (b"\x91" * 5000, "/v0.4/traces", ""),
        (b'{"transaction": {"type": "request", "timestamp": 1e400}}', "/intake/v2/events", ""),
    ],
)
def test_what_cannot_be_read_is_told_and_ends_nothing(
    spool: Spool, body: bytes, path: str, encoding: str
) -> None:
    spool.add(body, path, encoding)
    spool.add(batch("a"))
    assert spool.outcomes() == {"malformed": 1, "taken": 1}
    assert count(spool.path, Part("theirs"), "server_spans") == 1


def test_what_never_came_whole_is_told_with_its_path(spool: Spool) -> None:
    spool.add(b"", status=0)
    assert posted(spool.path, 0) == {Posted("broken", AGENT, "", "/v1/traces"): 1}


def test_profiles_by_otlp_are_counted_as_samples(spool: Spool) -> None:
    spool.add(profiles([3], [4, 5]), otlp.PROFILES)
    assert count(spool.path, Part("theirs"), "samples") == 3 + 4 + 5 + 2
    spool.add(profiles([300], [600], kind=("cpu", "nanoseconds")), otlp.PROFILES)
    assert count(spool.path, Part("theirs"), "samples") == 14 + 902 / 50
    spool.add(profiles([300], kind=("alloc_space", "bytes")), otlp.PROFILES)
    assert count(spool.path, Part("theirs"), "samples") == 14 + 902 / 50
    assert spool.outcomes() == {"taken": 3}


def judged(*told: tuple[int, dict[str, str]]) -> Judged:
    trial = Trial(0, "flask", 0, "theirs", "switched", 1)
    values = tuple(
        Measurement("posts", n, "{request}", "flask", "theirs", 0, "t", labels=labels)
        for n, labels in told
    )
    return Judged(TrialRecord(trial, "ok", values=values), ())


def test_who_was_refused_is_told_in_the_first_sentences() -> None:
    trials = [
        judged((30, {"outcome": "taken", "sender": AGENT})),
        judged(
            (3, {"outcome": "refused", "sender": AGENT, "said": "404 /v2/x"}),
            (1, {"outcome": "refused", "sender": AGENT, "said": "503 /v1/traces"}),
            (2, {"outcome": "repeated", "instance": "two"}),
        ),
    ]
    first, second = analysed.sentences(trials)
    assert first == (
        "flask, theirs: the receiver refused 4 of 34 posts of An-Agent/1.0 (3 times 404 /v2/x, 1 "
        "times 503 /v1/traces): what they told is in no coverage unless it was sent again, and "
        "what it costs to try again is in the costs."
    )
    assert "2 of 2 posts of two had come before" in second
    assert not list(analysed.sentences(trials[:1]))


def test_a_report_tells_it_above_the_tables(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path / "run", synthetic.experiment(workloads=("go",)))
    assert "refused" not in headline.verdict(summarize(run))
    record = next(each for each in run.records() if each.trial.kind == "switched")
    labels = {"outcome": "refused", "sender": AGENT, "said": "404 /v2/x"}
    value = Measurement("posts", 5, "{request}", "go", "http", 0, "t", labels=labels)
    told = replace(record, values=(*record.values, value))
    run.append(told, run.windows(record.trial))
    found = summarize(run)
    assert "the receiver refused 5 of 5 posts of An-Agent/1.0" in headline.verdict(found)
    assert any("the receiver refused 5 of 5" in text for text in found.warnings)
