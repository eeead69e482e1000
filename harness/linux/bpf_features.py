"""What this kernel lets root load and attach, found by trying; `doctor` asks.

Every probe is a tiny program that is unloaded at once. Where one is attached, it is to what costs
nothing, and for a moment.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.linux import syscall
from harness.linux.syscall import RETURN_ONE, RETURN_ZERO

NAME = "harness_probe"
BTF = Path("/sys/kernel/btf/vmlinux")
_PMUS = Path("/sys/bus/event_source/devices")
_PERF_SOFTWARE, _CPU_CLOCK, _PERF_HARDWARE, _INSTRUCTIONS = 1, 0, 0, 1
_TYPEDEF, _FUNC = 8, 12
_RUNS = slice(200, 208)  # run_cnt of struct bpf_prog_info
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")  # of a kernel that counts it as locked memory, little
_COMPARE_AND_SWAP = bytes.fromhex(
    "7a0af8ff00000000"  # *(u64 *)(r10 - 8) = 0
    "b700000000000000"  # r0 = 0
    "b701000001000000"  # r1 = 1
    "db1af8fff1000000"  # r0 = cmpxchg(r10 - 8, r0, r1)
    "b7000000000000009500000000000000"  # return 0
)

# bytes after a BTF type's 12: fixed, and for each member; by kind, absent means none
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}

# by the section names of libbpf, so that they can be compared with what bpf/ uses
PROBES: dict[str, Callable[[], None]] = {
    "cgroup_skb": lambda: _load(syscall.CGROUP_SKB, RETURN_ONE),
    "sockops": lambda: _load(syscall.SOCK_OPS, RETURN_ONE, syscall.CGROUP_SOCK_OPS),
    "cgroup/connect4": lambda: _load(
        syscall.CGROUP_SOCK_ADDR, RETURN_ONE, syscall.CGROUP_INET4_CONNECT
    ),
    "cgroup/sock_release": lambda: _load(
        syscall.CGROUP_SOCK, RETURN_ONE, syscall.CGROUP_INET_SOCK_RELEASE
    ),
    "cgroup/getsockopt": lambda: _load(
        syscall.CGROUP_SOCKOPT, RETURN_ONE, syscall.CGROUP_GETSOCKOPT
    ),
    "tp": lambda: _load_for_pmu(syscall.TRACEPOINT, "tracepoint"),
    "raw_tp": lambda: _load(syscall.RAW_TRACEPOINT),
    "tp_btf": lambda: _trace(_TYPEDEF, "btf_trace_sched_process_exec", syscall.TRACE_RAW_TP),
    "iter": lambda: _load_tracing("bpf_iter_tcp", syscall.TRACING, syscall.TRACE_ITER),
    "perf_event": lambda: _sample(),
    "uprobe": lambda: _load_for_pmu(syscall.KPROBE, "uprobe"),
    "ring buffer": lambda: os.close(syscall.create_map(syscall.RINGBUF, 0, 0, _PAGE_BYTES)),
    "bpf_loop": lambda: _known("BPF_FUNC_loop"),
    "atomics": lambda: _load(syscall.SOCKET_FILTER, _COMPARE_AND_SWAP),
    "kprobe": lambda: _load_for_pmu(syscall.KPROBE, "kprobe"),
    "fentry": lambda: _trace(_FUNC, "bpf_fentry_test1", syscall.TRACE_FENTRY),
    "lsm": lambda: _run_by_security("bpf_lsm_file_open"),
    "tc": lambda: _load(syscall.SCHED_CLS),
    "xdp": lambda: _load(syscall.XDP),
    "hardware counters": lambda: os.close(
        syscall.open_perf_event(_PERF_HARDWARE, _INSTRUCTIONS, cpu=_some_cpu())
    ),
}


def refusal(name: str) -> str:
    """Why the named probe cannot be used here; empty if it can."""
    if name not in PROBES:
        return f"nobody knows how to try {name!r}"
    try:
        PROBES[name]()
    except (OSError, LookupError) as error:
        return (error.strerror or str(error)) if isinstance(error, OSError) else str(error.args[0])
    return ""


def find_type(btf: bytes, kind: int, name: str) -> int:
    """The id of a type in raw BTF; LookupError if it has none of this kind and name."""
    header_length, type_offset, type_length, text_offset, _ = struct.unpack_from("=5I", btf, 4)
    texts = header_length + text_offset
    wanted = btf.find(b"\0" + name.encode() + b"\0", texts)
    if wanted >= 0:
        start = header_length + type_offset
        for number, found in enumerate(_types(btf, start, start + type_length), start=1):
            if found == (kind, wanted + 1 - texts):
                return number
    raise LookupError(f"the kernel's type information has no {name}")


def _types(btf: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    """Kind and name offset of each type."""
    while position < end:
        name, info = struct.unpack_from("=II", btf, position)
        kind, members = info >> 24 & 0x1F, info & 0xFFFF
        yield kind, name
        position += 12 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * members


def _load(program_type: int, instructions: bytes = RETURN_ZERO, attach_type: int = 0) -> None:
    os.close(syscall.load_program(program_type, instructions, name=NAME, attach_type=attach_type))


def _load_for_pmu(program_type: int, pmu: str) -> None:
    _load(program_type)
    if not (_PMUS / pmu).exists():
        raise LookupError(f"the kernel was built without {pmu}s")


def _trace(kind: int, target: str, attach_type: int) -> None:
    btf_id = find_type(BTF.read_bytes(), kind, target)
    program = syscall.load_program(
        syscall.TRACING, name=NAME, attach_type=attach_type, btf_id=btf_id
    )
    try:
        os.close(syscall.attach_tracing(program))
    finally:
        os.close(program)


def _load_tracing(target: str, program_type: int, attach_type: int) -> None:
    btf_id = find_type(BTF.read_bytes(), _FUNC, target)
    os.close(syscall.load_program(program_type, name=NAME, attach_type=attach_type, btf_id=btf_id))


def _known(helper: str) -> None:
    """Each helper is a constant in the kernel's type information."""
    if b"\0" + helper.encode() + b"\0" not in BTF.read_bytes():
        raise LookupError(f"the kernel's type information has no {helper}")


def _run_by_security(target: str) -> None:
    """Where `bpf` is no active security module, such a program is loaded and never run."""
    btf_id = find_type(BTF.read_bytes(), _FUNC, target)
    info = ctypes.create_string_buffer(_RUNS.stop)
    program = syscall.load_program(
        syscall.LSM, name=NAME, attach_type=syscall.LSM_MAC, btf_id=btf_id
    )
    counting = syscall.enable_bpf_stats()
    try:
        attached = syscall.attach_tracing(program)
        os.close(os.open(os.devnull, os.O_RDONLY))
        os.close(attached)
        syscall.object_info(program, info)
    finally:
        os.close(counting)
        os.close(program)
    if not any(info.raw[_RUNS]):
        raise LookupError("the kernel never runs such programs: boot it with lsm=...,bpf")


def _sample() -> None:
    _load(syscall.PERF_EVENT)
    os.close(syscall.open_perf_event(_PERF_SOFTWARE, _CPU_CLOCK, cpu=_some_cpu()))


def _some_cpu() -> int:
    return min(os.sched_getaffinity(0))
