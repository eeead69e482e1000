"""The BPF meter against the real kernel: 23 packets are 23 runs, and nothing stays switched on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.linux import syscall
from harness.meters import bpfstats, memory
from harness.meters.bpfstats import StatsEnabled
from tests.waiting import until

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]
SO_ATTACH_BPF = 50


class Filter:
    """A socket filter that keeps every packet (-1: its whole length), and a way to feed it."""

    KEEP = bytes.fromhex("b4000000ffffffff9500000000000000")

    def __init__(self) -> None:
        self.fd = syscall.load_program(syscall.SOCKET_FILTER, self.KEEP, name="test_filter")
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind(("127.0.0.1", 0))
        self.receiver.settimeout(60)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, self.fd)

    def feed(self, packets: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(packets):
                sender.sendto(b"packet", self.receiver.getsockname())
                assert self.receiver.recv(100) == b"packet"

    def close(self) -> None:
        self.receiver.close()
        os.close(self.fd)


@pytest.fixture
def loaded() -> Iterator[Filter]:
    program = Filter()
    yield program
    program.close()


def test_23_packets_are_23_runs(loaded: Filter) -> None:
    with StatsEnabled():
        before = bpfstats.programs()
        loaded.feed(23)
        after = bpfstats.programs()
    program = bpfstats.delta(before, after)[bpfstats.read(loaded.fd).id]
    assert (program.name, program.type) == ("test_filter", "socket_filter")
    assert program.run_cnt == 23
    assert 0 < program.run_time_ns < 1e9
    assert program.recursion_misses == 0


def test_statistics_go_off_again(loaded: Filter) -> None:
    if Path("/proc/sys/kernel/bpf_stats_enabled").read_text().strip() != "0":
        pytest.skip("BPF statistics are switched on for the whole machine")
    with StatsEnabled():
        loaded.feed(5)
    ran = bpfstats.read(loaded.fd).run_cnt
    assert ran >= 5
    loaded.feed(23)
    if bpfstats.read(loaded.fd).run_cnt != ran:
        pytest.skip("another process keeps BPF statistics on")


def test_a_program_loaded_in_between_counts_from_zero() -> None:
    with StatsEnabled():
        before = bpfstats.programs()
        late = Filter()
        late.feed(3)
        counted = bpfstats.delta(before, bpfstats.programs())
        program_id = bpfstats.read(late.fd).id
        late.close()
    assert counted[program_id].run_cnt == 3


def test_an_unloaded_program_is_gone() -> None:
    program = Filter()
    program_id = bpfstats.read(program.fd).id
    assert program_id in {each.id for each in bpfstats.programs()}
    program.close()
    # the kernel frees it after a grace period
    assert until(lambda: program_id not in {each.id for each in bpfstats.programs()})


def test_memory_of_a_map_is_found_in_fdinfo() -> None:
    before = memory.map_bytes(os.getpid())
    descriptor = syscall.create_map(syscall.RINGBUF, 0, 0, 1 << 16)
    assert memory.map_bytes(os.getpid()) - before >= 1 << 16
    os.close(descriptor)
    assert memory.map_bytes(os.getpid()) == before


def test_a_refused_program_says_why() -> None:
    jump_out = bytes.fromhex("0500ff00000000009500000000000000")
    with pytest.raises(OSError, match="Invalid argument"):
        syscall.load_program(syscall.SOCKET_FILTER, jump_out)
