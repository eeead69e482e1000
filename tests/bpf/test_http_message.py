"""bpf/http_*.bpf.h compiled for this machine, against http_reference on many made-up messages."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
import time
from collections.abc import Sequence
from ctypes import c_char, c_uint32, c_uint64
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from tests.bpf import http_reference as reference
from tests.bpf import packets

pytestmark = pytest.mark.bpf

HERE = Path(__file__).parent
CASES = 20_000
MESSAGES = 5 * CASES
SEED = 15
MORE_SECONDS = float(os.environ.get("HARNESS_FUZZ_SECONDS", "0"))  # by another seed each time
NAMES = [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY", b"get"]
PIECES = [
    b"/", b"/users", b"/42", b"/a1", b"/deadbeefdeadbeef1", b"/\xc3\xa9t\xc3\xa9", b"?a=/1",
    b"http://host:80", b"HTTP://h", b"*", b"-", b"/x.y", b"/" + b"l" * 60, b" ", b"%20",
    b"/cus_9s6XKzkNRiz8", b"/01ARZ3NDEKTSV4RRFFQ69G5FAV", b"/A1B2C3D4E5F", b"_", b"Z", b";s=1",
]  # fmt: skip
LINES = [
    b"Host: x", b"Content-Length: 5", b"content-length:10000000", b"Content-Length:  \t7",
    b"Content-Length: 123456789012", b"Content-Length: 99999999999999999999",
    b"Content-Length: 5x", b"Content-Length:", b"Content-Lengths: 4", b"X-Content-Length: 3",
    b"Transfer-Encoding: chunked", b"Cookie: " + b"c" * 180, b"Cookie: " + b"c" * 300, b"a:b",
    b"", b"Content-Length: 7 ",
]  # fmt: skip


class Told(ctypes.Structure):
    """struct told in http_host.c."""

    _fields_ = (
        ("length", c_uint64),
        ("method", c_uint32),
        ("target", c_uint32),
        ("end", c_uint32),
        ("line", c_uint32),
        ("version", c_uint32),
        ("chunked", c_uint32),
        ("route", c_char * 56),
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    gcc = shutil.which("gcc")  # which has its sanitizers with it
    assert gcc is not None
    library = tmp_path_factory.mktemp("host") / "http_host.so"
    flags = ["-O1", "-shared", "-fPIC", "-fsigned-char", "-fno-strict-aliasing", "-Wall", "-Werror"]
    checks = ["-fsanitize=undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=all"]
    bpf = HERE.parents[1] / "bpf"
    source = str(HERE / "http_host.c")
    argv = [gcc, *flags, *checks, f"-I{bpf}", source, "-o", str(library)]
    processes.run(argv, timeout=120)
    loaded = ctypes.CDLL(str(library))
    loaded.request.restype = ctypes.c_bool
    loaded.payload.restype = loaded.transport.restype = c_uint32
    return loaded


def read(host: Any, message: bytes, parts: int) -> reference.Told | None:
    told = Told()
    if not host.request(message, len(message), parts, ctypes.byref(told)):
        return None
    return reference.Told(
        told.method, told.target, told.route, told.end, told.length,
        bool(told.line), told.version, bool(told.chunked),
    )  # fmt: skip


def made_up(chance: random.Random) -> bytes:
    """A request, mostly; then cut or with bytes changed."""
    target = b"".join(chance.choices(PIECES, k=chance.randint(1, 8)))
    version = chance.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b""])
    lines = [b" ".join([chance.choice(NAMES), target, version])]
    lines += chance.choices(LINES, k=chance.randint(0, 7))
    newline = chance.choice([b"\r\n"] * 9 + [b"\n"])
    message = bytearray(newline.join([*lines, b"", b"body"]))
    for _ in range(chance.choice([0, 0, 0, 1, 3])):
        message[chance.randrange(len(message))] = chance.choice(b"\r\n /?:0aZ\xff\0")
    return bytes(message[: chance.choice([len(message), chance.randint(0, len(message))])])


def test_agrees_with_the_reference_on_made_up_messages(host: Any) -> None:
    chance = random.Random(SEED)
    kinds = set()
    for _ in range(MESSAGES):
        told = agreed(host, chance)
        if told:
            kinds.add((told.method, told.end > 0, told.chunked, told.length < reference.UNKNOWN))
    assert len(kinds) > 30  # it was no fuzz of refusals
    seed, end, more = time.time_ns(), time.monotonic() + MORE_SECONDS, 0
    chance = random.Random(seed)
    while time.monotonic() < end:
        agreed(host, chance, seed)
        more += 1
    print(f"{more} messages more by the seed {seed}")


def agreed(host: Any, chance: random.Random, seed: int = SEED) -> reference.Told | None:
    message, parts = made_up(chance), chance.choice([1, 8, 12])
    told = read(host, message, parts)
    assert told == reference.request(message, parts), (seed, message, parts)
    return told


def test_an_id_that_has_no_room_leaves_nothing_of_what_was_before_it(host: Any) -> None:
    """Routes would differ by what the name was that became an id in front of it."""
    routes = set()
    for name in (b"01ARZ3NDEKTSV4RRFFQ69G5FAV", b"deadbeefdeadbeefdeadbeef1"):
        target = b"/" + b"l" * 44 + b"/" + name + b"/x/42"
        told = read(host, b"GET " + target + b" HTTP/1.1\r\n\r\n", 1)
        assert told is not None
        routes.add(told.route)
    assert routes == {b"/" + b"l" * 44 + b"/{id}/x/"}


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"Content-Length: 9999999", 9_999_999),
        (b"Content-Length: 10000000", 10_000_000),
        (b"Content-Length: 20000000000", 20_000_000_000),
        (b"content-length:\t 12 ", 12),
        (b"CONTENT-LENGTH:0", 0),
        (b"Content-Length: ", reference.UNKNOWN),
        (b"Content-Length: twelve", reference.UNKNOWN),
        (b"X: " + b"x" * 900 + b"\r\nContent-Length: 5", 5),
    ],
)
def test_lengths(host: Any, line: bytes, length: int) -> None:
    told = read(host, b"POST /cart HTTP/1.1\r\n" + line + b"\r\n\r\n", 8)
    assert told is not None
    assert (told.length, chr(told.version), told.end > 0) == (length, "1", True)


def chains(chance: random.Random) -> Sequence[int]:
    kinds = [packets.HOP_BY_HOP, packets.ROUTING, packets.OPTIONS, 44, 50]
    return chance.choices(kinds, [5, 5, 5, 1, 1], k=chance.randint(0, 5))


def test_finds_the_payload_of_made_up_packets(host: Any) -> None:
    chance = random.Random(15)
    found = 0
    for _ in range(CASES):
        text = chance.randbytes(chance.choice([0, 1, 7, 8, 400]))
        segment = packets.tcp(text, 1, 1, options=bytes(4 * chance.randint(0, 10)))
        extensions = chains(chance)
        if chance.random() < 0.5:
            packet = packets.ipv4(segment, bytes(4 * chance.randint(0, 10)))
            protocol, known = packets.IPV4, True
        else:
            packet, protocol = packets.ipv6(segment, extensions), packets.IPV6
            known = len(extensions) <= 4 and not {44, 50} & {*extensions}
        expected = len(packet) - len(text) if text and known else 0
        assert host.payload(packet, len(packet), protocol) == expected
        found += expected > 0
        cut = packet[: chance.randint(0, len(packet) - len(text))]
        assert host.payload(cut, len(cut), protocol) == 0
    assert found > CASES / 4


def transport_at(packet: bytes, protocol: int, wanted: int) -> int:
    """Where its header is, behind no more than four others and at most 2,048 bytes; else 0."""
    if protocol == packets.IPV4:
        return (packet[0] & 15) * 4 if len(packet) >= 20 and packet[9] == wanted else 0
    if protocol != packets.IPV6 or len(packet) < 40:
        return 0
    kind, at = packet[6], 40
    for _ in range(5):
        if kind == wanted:
            return at if at <= 2048 else 0
        if kind not in (packets.HOP_BY_HOP, packets.ROUTING, packets.OPTIONS):
            return 0
        if len(packet) < at + 2:
            return 0
        kind, at = packet[at], at + 8 * (packet[at + 1] + 1)
    return 0


def addresses(packet: bytes, protocol: int) -> bytes:
    if protocol == packets.IPV6:
        return packet[8:40]
    return b"".join(bytes(10) + b"\xff\xff" + packet[at : at + 4] for at in (12, 16))


def test_agrees_with_the_reference_on_packets_that_are_none(host: Any) -> None:
    """Whatever their headers say: what is read lies in the packet."""
    chance = random.Random(15)
    found = set()
    for _ in range(CASES):
        kind = chance.choice([packets.TCP, packets.UDP])
        text = chance.randbytes(chance.choice([0, 20, 3000]))
        if chance.random() < 0.3:
            made, protocol = packets.ipv4(text, protocol=kind), packets.IPV4
        else:
            made, protocol = packets.ipv6(text, chains(chance), protocol=kind), packets.IPV6
        packet = bytearray(made)
        for _ in range(chance.choice([0, 1, 2, 5])):
            at = chance.randrange(min(len(packet), 90))
            packet[at] = chance.choice([0, 6, 17, 43, 44, 60, 255, chance.randrange(256)])
        whole = bytes(packet[: chance.choice([len(packet), chance.randint(0, len(packet))])])
        wanted = chance.choice([kind, packets.TCP, packets.UDP])
        ends = ctypes.create_string_buffer(32)
        at = host.transport(whole, len(whole), protocol, wanted, ends)
        assert at == transport_at(whole, protocol, wanted), (whole, protocol, wanted)
        assert not at or ends.raw == addresses(whole, protocol)
        found.add(at)
    assert len(found) > 30


def test_no_ip_and_no_tcp_have_none(host: Any) -> None:
    packet = packets.ipv4(packets.tcp(b"GET / HTTP/1.1\r\n\r\n", 1, 1))
    udp = packet[:9] + struct.pack("B", 17) + packet[10:]
    assert host.payload(packet, len(packet), packets.IPV4) == 40
    assert host.payload(packet, len(packet), 0x0806) == 0
    assert host.payload(udp, len(udp), packets.IPV4) == 0
