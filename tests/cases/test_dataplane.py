"""bpf/dataplane.c against the same in Python on many made-up records, byte for byte; no kernel.

And by itself in memory of exactly the size that it is told, watched by the compiler's sanitizers.
"""

from __future__ import annotations

import ctypes
import logging
import random
import shutil
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.agent import encoding, http_native
from harness.agent.container import Container
from harness.agent.http_spans import EVENT_BYTES, ID_BYTES, HttpSpans, InPython, batches
from harness.agent.http_telemetry import ERRORS, METHODS, UNKNOWN, Event
from harness.agent.lanes import BATCH, Lane
from harness.agent.origin import Origin
from harness.agent.together import Together
from harness.linux import processes

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 20_000
OFFSET_NS = 1_700_000_000_000_000_000
IN_PYTHON = InPython()
_RECORD = struct.Struct("=QQQQ56sHHBBBxQ128sQ")  # struct http_event
PIECES = [
    b"/", b"/users", b"?", b"&", b"=", b"a", b"sig=1", b"Signature=", b"X-Amz-Signature=x&", b" ",
    b"AWSAccessKeyId", b"http://host:80/", b"HTTP://", b"HtTp://h", b"\xc3\xa9", b"\xc3", b"\xff",
    b"\xe2\x82\xac", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe0\x80\x80", b"%20", b"*", b"\0",
    b"PROPFIND ", b"k" * 40,
]  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    words = ["make", "-s", "-C", str(ROOT / "bpf"), f"OUTPUT={output}"]
    processes.run([*words, str(output / "dataplane.so")], timeout=120)
    return output


@pytest.fixture(scope="module")
def native(output: Path) -> Any:
    codec = http_native.codec(output)
    assert isinstance(codec, http_native.Native)
    return codec


def made_up(chance: random.Random) -> bytes:
    """A record of the kernel, mostly of a request that somebody would send."""

    def text(most: int) -> bytes:
        return b"".join(chance.choices(PIECES, k=chance.randint(0, 12)))[:most]

    def size() -> int:
        return chance.choice([0, 1, 127, 128, 300, 1 << 20, (1 << 63) - 1, UNKNOWN])

    start = chance.getrandbits(chance.randint(1, 60))
    return _RECORD.pack(
        start, start + chance.getrandbits(chance.randint(1, 40)), size(), size(),
        chance.choice([b"/", b"/users/{id}", text(56), chance.randbytes(56)]),
        chance.choice([0, 100, 200, 404, 499, 500, 503, 65535]), chance.choice([0, 80, 65535]),
        chance.randrange(len(METHODS)), chance.choice([0, 1, 9, 10, 255]),
        chance.randrange(len(ERRORS)), chance.randrange(4),
        chance.choice([text(128), text(128), chance.randbytes(128), b"/" + b"\xff" * 127]),
        chance.choice([0, 0, 1, 127, 128, 1_000_000, (1 << 63) - 1]),
    )  # fmt: skip


def ids_of(records: bytes) -> bytes:
    return random.Random(len(records)).randbytes(len(records) // EVENT_BYTES * ID_BYTES)


@pytest.mark.parametrize("seed", range(4))
def test_a_span_is_the_same_bytes_in_c_and_in_python(native: Any, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(1500):
        record = made_up(chance)
        expected = IN_PYTHON.encoded(record, ids_of(record), OFFSET_NS)
        assert native.encoded(record, ids_of(record), OFFSET_NS) == expected, record


def test_many_spans_are_the_same_bytes_whatever_room_they_take(native: Any) -> None:
    chance = random.Random(5)
    longest = _RECORD.pack(
        1, 2, 1 << 62, 1 << 62, b"\xff" * 56, 503, 1, METHODS.index("_OTHER"), 1, 1, 0,
        b"\xff" * 63 + b" /\xff?" + b"sig=&" * 12 + b"z", 1 << 62,
    )  # fmt: skip
    for records in (b"", longest * 50, b"".join(made_up(chance) for _ in range(700))):
        expected = IN_PYTHON.encoded(records, ids_of(records), OFFSET_NS)
        assert native.encoded(records, ids_of(records), OFFSET_NS) == expected
    assert len(IN_PYTHON.encoded(longest, ids_of(longest), OFFSET_NS)) < http_native._MOST_BYTES


def test_the_slowest_of_each_series_are_the_same(native: Any) -> None:
    chance = random.Random(6)
    for number in (0, 1, 2, 64, 500):
        kinds = [made_up(chance)[32:104] for _ in range(chance.randint(1, 20))]
        records = b"".join(
            struct.pack("=QQQQ", 5, 5 + took, 0, 0) + chance.choice(kinds) + bytes(136)
            for took in chance.choices(range(4), k=number)
        )
        assert list(native.slowest(records)) == list(IN_PYTHON.slowest(records))


def test_what_is_no_record_is_counted_and_not_taken(native: Any) -> None:
    record = made_up(random.Random(7))
    event = Event.from_buffer_copy(record)
    others = []
    for name, value in (("method", len(METHODS)), ("error", len(ERRORS))):
        wrong = Event.from_buffer_copy(record)
        setattr(wrong.key, name, value)
        others.append(bytes(wrong))
    for name in ("request_bytes", "response_bytes"):
        wrong = Event.from_buffer_copy(record)
        setattr(wrong, name, UNKNOWN - 1)
        others.append(bytes(wrong))
    wrong = Event.from_buffer_copy(record)
    wrong.first_byte_ns = UNKNOWN
    others.append(bytes(wrong))
    others += [record[:-1], b"", record[:1]]
    room = ctypes.create_string_buffer(EVENT_BYTES * 2)
    run = http_native._Run(ctypes.addressof(room), len(room), 0, 0)
    for each in others:
        assert native._take(ctypes.addressof(run), each, len(each)) == 0
    assert (run.used, run.odd) == (0, len(others))
    for longer in (record, bytes(event) + b"more"):
        code = native._take(ctypes.addressof(run), longer, len(longer))
    assert (run.used, run.odd) == (2 * EVENT_BYTES, len(others))
    assert code < 0  # no more have room: whoever reads is to stop
    assert room.raw == record * 2
    native._take(ctypes.addressof(run), record, len(record))
    assert (run.used, run.odd) == (2 * EVENT_BYTES, len(others) + 1)


def test_a_record_that_cannot_be_told_is_refused_like_in_python(native: Any) -> None:
    wrong = bytearray(made_up(random.Random(8)))
    wrong[16:24] = (UNKNOWN - 1).to_bytes(8, "little")
    for codec in (native, IN_PYTHON):
        with pytest.raises(ValueError, match=r"range|no struct"):
            codec.encoded(bytes(wrong), bytes(ID_BYTES), OFFSET_NS)


def test_threads_do_not_meet(native: Any) -> None:
    chance = random.Random(9)
    records = [b"".join(made_up(chance) for _ in range(300)) for _ in range(4)]
    expected = [IN_PYTHON.encoded(each, ids_of(each), OFFSET_NS) for each in records]
    found: dict[int, set[bytes]] = {i: set() for i in range(len(records))}

    def encode(i: int) -> None:
        for _ in range(50):
            found[i].add(native.encoded(records[i], ids_of(records[i]), OFFSET_NS))

    threads = [threading.Thread(target=encode, args=(i,)) for i in found]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [found[i] for i in found] == [{each} for each in expected]


def test_it_does_nothing_that_the_sanitizers_know(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    assert gcc is not None
    program = tmp_path / "fuzz"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    warnings = ["-Wall", "-Wextra", "-Werror"]
    source = str(Path(__file__).with_name("dataplane_fuzz.c"))
    words = [gcc, *flags, *warnings, f"-I{ROOT / 'bpf'}", source, "-o", str(program)]
    processes.run(words, timeout=120)
    said = processes.run([str(program), "42", str(ROUNDS)], timeout=300)
    assert int(said.stdout) == ROUNDS


def test_without_the_library_spans_are_made_by_python(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dataplane.so").write_text("of another processor")
    for folder in (tmp_path, tmp_path / "other"):
        caplog.clear()
        assert isinstance(http_native.codec(folder), InPython)
        assert "dataplane.so" in caplog.text
        assert "Run `make bpf`." in caplog.text


def test_a_request_is_what_protobuf_makes_of_it(native: Any) -> None:
    chance = random.Random(10)
    pod, origin = Container("c0ffee", "uid"), Origin("http", "shop", lambda: 1)
    records = [b"".join(made_up(chance) for _ in range(number)) for number in (1, 300, 7)]
    told = [
        (origin, HttpSpans(each, ids_of(each), container, native))
        for each, container in zip(records, (None, pod, None), strict=True)
    ]
    body = encoding.spans_request(told)
    request = ExportTraceServiceRequest.FromString(body)
    assert request.SerializeToString(deterministic=True) == body
    spans = [each.scope_spans[0].spans for each in request.resource_spans]
    assert [len(each) for each in spans] == [8, 300]  # those of a container together
    assert {each.scope_spans[0].scope.name for each in request.resource_spans} == {"harness.http"}


class Followed(Together):
    """Cgroups 1 and 3 are of a container, the others of none."""

    def find(self, cgroup: int) -> Container | None:
        return Container("c0ffee", "") if cgroup in (1, 3) else None


def test_records_of_a_container_are_apart_and_in_their_order() -> None:
    chance = random.Random(11)
    many = [made_up(chance) for _ in range(200)]
    found = {each.container: each for each in batches(b"".join(many), Followed(), IN_PYTHON)}
    expected: dict[Container | None, bytes] = {}
    for each in many:
        container = Followed().find(Event.from_buffer_copy(each).cgroup)
        expected[container] = expected.get(container, b"") + each
    assert {container: each.records for container, each in found.items()} == expected
    spans = [each.span(i) for each in found.values() for i in range(len(each))]
    assert len({(span.trace_id, span.span_id) for span in spans}) == len(many)


def test_what_waits_is_parted_and_nothing_of_it_is_lost() -> None:
    chance = random.Random(12)
    records = b"".join(made_up(chance) for _ in range(9)) * 500
    origin = Origin("http", "shop", lambda: 1)
    lane: Lane[HttpSpans] = Lane("spans", "http://receiver", lambda batch: 0, 10_000)
    lane.put(origin, HttpSpans(records, ids_of(records), None, IN_PYTHON))
    taken: list[HttpSpans] = []
    while len(lane):
        parts = [some for _, some in lane.take()]
        assert sum(map(len, parts)) <= BATCH
        taken += parts
        lane.done()
    assert b"".join(each.records for each in taken) == records
    assert b"".join(each.ids for each in taken) == ids_of(records)
