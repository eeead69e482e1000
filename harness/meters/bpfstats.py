"""Time that the kernel spends in each BPF program; `bpf_time` and `idle` read it.

Switching the statistics on costs every run of every program about 20 ns, so it is done apart.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.errors import NeedError
from harness.linux import bpf_programs, syscall

# struct bpf_prog_info of linux/bpf.h: what is wanted, and where; the kernel only ever appends
_INFO_SIZE = 224
_TYPE_AND_ID, _NAME, _RUN = (0, "=II"), (64, "=16s"), (192, "=QQQ")

TYPES = (
    "unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp",
    "perf_event", "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops",
    "sk_skb", "cgroup_device", "sk_msg", "raw_tracepoint", "cgroup_sock_addr", "lwt_seg6local",
    "lirc_mode2", "sk_reuseport", "flow_dissector", "cgroup_sysctl", "raw_tracepoint_writable",
    "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm", "sk_lookup", "syscall", "netfilter",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A loaded program and its counters since it was loaded, counted while statistics are on."""

    id: int
    name: str
    type: str
    run_time_ns: int
    run_cnt: int
    recursion_misses: int


class StatsEnabled:
    """Keeps the kernel's run-time statistics on within a `with` block.

    A descriptor holds them, so that they go off again even when this process is killed.
    """

    def __enter__(self) -> StatsEnabled:
        try:
            self._fd = syscall.enable_bpf_stats()
        except OSError as error:
            raise NeedError(
                f"The kernel's BPF statistics cannot be switched on: {error.strerror}.",
                "The time inside BPF programs is read from them.",
                "Run as root on a kernel with BPF_ENABLE_STATS (5.8 or later).",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Watched:
    """Some programs, held open so that a reading takes microseconds; `close` lets them go."""

    def __init__(self, program_ids: Iterable[int]) -> None:
        self._files: list[int] = []
        for program_id in program_ids:
            try:
                self._files.append(syscall.program_fd(program_id))
            except FileNotFoundError:  # unloaded since
                continue

    def read(self) -> dict[int, Program]:
        """Each of them with its counters, by id."""
        return {program.id: program for program in map(read, self._files)}

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())


def programs() -> list[Program]:
    """Every BPF program that is loaded on this machine, by id."""
    found = []
    for program_id in sorted(bpf_programs.ids()):
        try:
            descriptor = syscall.program_fd(program_id)
        except FileNotFoundError:  # unloaded since
            continue
        try:
            found.append(read(descriptor))
        finally:
            os.close(descriptor)
    return found


def read(descriptor: int) -> Program:
    """The program behind a descriptor."""
    info = ctypes.create_string_buffer(_INFO_SIZE)
    syscall.object_info(descriptor, info)
    kind, program_id = struct.unpack_from(_TYPE_AND_ID[1], info, _TYPE_AND_ID[0])
    name = struct.unpack_from(_NAME[1], info, _NAME[0])[0].rstrip(b"\0").decode(errors="replace")
    type_name = TYPES[kind] if kind < len(TYPES) else f"type {kind}"
    return Program(program_id, name, type_name, *struct.unpack_from(_RUN[1], info, _RUN[0]))


def delta(before: Iterable[Program], after: Iterable[Program]) -> dict[int, Program]:
    """What each program ran between two snapshots, by id; one loaded between counts from zero."""
    old = {program.id: program for program in before}
    return {new.id: _minus(new, old[new.id]) if new.id in old else new for new in after}


def _minus(new: Program, old: Program) -> Program:
    return replace(
        new,
        run_time_ns=new.run_time_ns - old.run_time_ns,
        run_cnt=new.run_cnt - old.run_cnt,
        recursion_misses=new.recursion_misses - old.recursion_misses,
    )
