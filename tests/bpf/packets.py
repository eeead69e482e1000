"""Crafted packets, and BPF_PROG_TEST_RUN, which runs a program on one; used by tests."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from ctypes import c_int, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass

from harness.agent.libbpf import Program
from harness.agent.library import LIB, checked

IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP = 6, 17
ACK, SYN, FIN = 0x10, 0x02, 0x01
CLIENT, SERVER = 40000, 8080
HOP_BY_HOP, ROUTING, OPTIONS = 0, 43, 60
FRAGMENT, ESP = 44, 50
_GSO_SEGS = struct.Struct("=164xI")  # struct __sk_buff up to this member


class _Options(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


def run(program: Program, packet: bytes, protocol: int, segments: int = 0) -> int:
    """Run a program of type cgroup_skb on an IP packet; what it returns.

    One that will be or was so many `segments`, if there are any, as by GSO and GRO.
    """
    frame = bytes(12) + struct.pack("!H", protocol) + packet
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(_GSO_SEGS.pack(segments), _GSO_SEGS.size)
    options = _Options(
        sz=ctypes.sizeof(_Options),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=len(context),
        repeat=1,
    )
    code = LIB.bpf_prog_test_run_opts(program.fd, ctypes.byref(options))
    checked(code, f"{program.name} cannot be run on a packet.")
    return int(options.retval)


def tcp(
    payload: bytes,
    seq: int,
    ack: int,
    *,
    sent: bool = False,
    options: bytes = b"",
    flags: int = ACK,
) -> bytes:
    """A segment from the client to the server, or (`sent`) back."""
    ports = (SERVER, CLIENT) if sent else (CLIENT, SERVER)
    words = 5 + len(options) // 4
    head = struct.pack(
        "!HHIIBBHHH", *ports, seq % 2**32, ack % 2**32, words << 4, flags, 65535, 0, 0
    )
    return head + options + payload


def udp(payload: bytes, source: int, destination: int) -> bytes:
    """A datagram."""
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def ipv4(segment: bytes, options: bytes = b"", protocol: int = TCP) -> bytes:
    """An IPv4 packet of loopback."""
    words, length = 5 + len(options) // 4, 20 + len(options) + len(segment)
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, 1, 0, 64, protocol, 0)
    return head + bytes([127, 0, 0, 1, 127, 0, 0, 1]) + options + segment


def ipv6(segment: bytes, extensions: Sequence[int] = (), protocol: int = TCP) -> bytes:
    """An IPv6 packet of loopback, with an extension header of each of these types."""
    chain = [*extensions, protocol]
    headers = b"".join(
        bytes([following, 0]) + bytes(6) if i % 2 == 0 else bytes([following, 1]) + bytes(14)
        for i, following in enumerate(chain[1:])
    )
    head = struct.pack("!IHBB", 6 << 28, len(headers) + len(segment), chain[0], 64)
    loopback = bytes(15) + b"\1"
    return head + loopback + loopback + headers + segment


@dataclass
class Flow:
    """The two directions of a connection; each packet goes on where the one before it ended."""

    received: int = 1000
    sent: int = 2**32 - 500  # it wraps

    def request(self, payload: bytes) -> bytes:
        """The client's next segment; it has received all that was sent."""
        segment = tcp(payload, self.received, self.sent)
        self.received += len(payload)
        return segment

    def response(self, payload: bytes, flags: int = ACK) -> bytes:
        """The server's next segment."""
        segment = tcp(payload, self.sent, self.received, sent=True, flags=flags)
        self.sent += len(payload)
        return segment
