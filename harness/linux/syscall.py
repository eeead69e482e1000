"""The system calls that Python lacks: mount, fallocate, bpf and perf_event_open.

Called by the local target, the BPF meter and `doctor`. Nothing is parsed from programs' output
and no tool is needed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)
_BPF: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_PERF: Final = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "s390x": 331, "ppc64le": 319}

_MNT_DETACH = 2
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_PERF_CGROUP, _PERF_CLOEXEC = 4, 8
_MAP_CREATE, _PROG_LOAD, _PROG_NEXT_ID, _PROG_FD_BY_ID, _MAP_FD_BY_ID = 0, 5, 11, 13, 14
_OBJECT_PIN, _OBJECT_GET = 6, 7
_INFO_BY_FD = 15
_RAW_TRACEPOINT_OPEN, _TASK_FD_QUERY, _ENABLE_STATS = 17, 20, 32

SOCKET_FILTER, KPROBE, SCHED_CLS, TRACEPOINT, XDP, PERF_EVENT, CGROUP_SKB = 1, 2, 3, 5, 6, 7, 8
SOCK_OPS, RAW_TRACEPOINT, CGROUP_SOCK_ADDR, CGROUP_SOCKOPT, TRACING, LSM = 13, 17, 18, 25, 26, 29
TRACE_RAW_TP, TRACE_FENTRY, LSM_MAC, TRACE_ITER = 23, 24, 27, 28
CGROUP_SOCK_OPS, CGROUP_INET4_CONNECT, CGROUP_GETSOCKOPT = 3, 10, 21
CGROUP_SOCK, CGROUP_INET_SOCK_RELEASE = 9, 34
RINGBUF = 27

RETURN_ZERO: Final = bytes.fromhex("b7000000000000009500000000000000")
RETURN_ONE: Final = bytes.fromhex("b7000000010000009500000000000000")


def mount(fstype: str, point: Path) -> None:
    """Mount a pseudo file system; OSError if the kernel refuses."""
    name = fstype.encode()
    _checked(_LIBC.mount(name, str(point).encode(), name, 0, None))


def unmount(point: Path, *, detach: bool = False) -> None:
    """Unmount; `detach` takes it out of the tree now and lets its last user finish."""
    _checked(_LIBC.umount2(str(point).encode(), _MNT_DETACH if detach else 0))


def punch_hole(fd: int, begin: int, size: int) -> None:
    """Take these bytes of a file off its disk, and keep its length; OSError where it cannot."""
    place = (ctypes.c_longlong(begin), ctypes.c_longlong(size))
    _checked(_LIBC.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, *place))


def enable_bpf_stats() -> int:
    """Switch the kernel's BPF run-time statistics on until the returned descriptor is closed."""
    return _bpf(_ENABLE_STATS, bytearray(struct.pack("=I", 0)))


def next_program_id(program_id: int) -> int | None:
    """The next loaded program's id, or None after the last one."""
    attr = bytearray(struct.pack("=III", program_id, 0, 0))
    try:
        _bpf(_PROG_NEXT_ID, attr)
    except FileNotFoundError:
        return None
    return int(struct.unpack_from("=I", attr, 4)[0])


def program_fd(program_id: int) -> int:
    """A descriptor of a loaded program; FileNotFoundError if it was unloaded."""
    return _bpf(_PROG_FD_BY_ID, bytearray(struct.pack("=III", program_id, 0, 0)))


def map_fd(map_id: int) -> int:
    """A descriptor of a map; FileNotFoundError if it is gone."""
    return _bpf(_MAP_FD_BY_ID, bytearray(struct.pack("=III", map_id, 0, 0)))


def pin(fd: int, path: Path) -> None:
    """Keep a BPF object by a file in a BPF file system; OSError if refused."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    _bpf(_OBJECT_PIN, bytearray(struct.pack("=QII", *_at(name), fd, 0)))


def pinned_fd(path: Path) -> int:
    """A descriptor of the BPF object that a file keeps; OSError if it keeps none."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _bpf(_OBJECT_GET, bytearray(struct.pack("=QII", *_at(name), 0, 0)))


def object_info(fd: int, info: ctypes.Array[ctypes.c_char]) -> None:
    """Fill `info`, as long as the caller's struct, with what the kernel knows of a BPF object."""
    _bpf(
        _INFO_BY_FD, bytearray(struct.pack("=IIQ", fd, ctypes.sizeof(info), ctypes.addressof(info)))
    )


def attached_program(pid: int, fd: int) -> int:
    """The id of the program that this descriptor of a process attached; OSError if it did none."""
    attr = bytearray(struct.pack("=IIIIQIIQQ", pid, fd, 0, 0, 0, 0, 0, 0, 0))
    _bpf(_TASK_FD_QUERY, attr)
    return int(struct.unpack_from("=I", attr, 24)[0])


def load_program(
    program_type: int,
    instructions: bytes = RETURN_ZERO,
    *,
    name: str = "",
    attach_type: int = 0,
    btf_id: int = 0,
) -> int:
    """Load a BPF program of raw instructions and return its descriptor; OSError if refused."""
    code, licence = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b"GPL")
    attr = bytearray(128)
    struct.pack_into("=IIQQ", attr, 0, program_type, len(instructions) // 8, *_at(code, licence))
    struct.pack_into("=16s", attr, 48, name.encode()[:15])
    struct.pack_into("=I", attr, 68, attach_type)
    struct.pack_into("=I", attr, 108, btf_id)
    return _bpf(_PROG_LOAD, attr)


def create_map(map_type: int, key_size: int, value_size: int, max_entries: int) -> int:
    """Create a BPF map and return its descriptor; OSError if refused."""
    sizes = struct.pack("=IIII", map_type, key_size, value_size, max_entries)
    return _bpf(_MAP_CREATE, bytearray(sizes + bytes(56)))


def attach_tracing(program: int) -> int:
    """Attach a loaded tracing program (fentry, tp_btf) to what it was loaded for."""
    return _bpf(_RAW_TRACEPOINT_OPEN, bytearray(struct.pack("=QII", 0, program, 0)))


def open_perf_event(event_type: int, config: int, *, cpu: int = 0) -> int:
    """Open a disabled perf event on one CPU, for every process; OSError if there is none."""
    disabled = 1
    attr = ctypes.create_string_buffer(
        struct.pack("=IIQQQQQ", event_type, 112, config, 0, 0, 0, disabled), 112
    )
    number = _PERF[platform.machine()]
    return _checked(_LIBC.syscall(number, attr, -1, cpu, -1, ctypes.c_ulong(8)))


def open_counter(
    event_type: int,
    config: int,
    *,
    of: int,
    cpu: int = -1,
    is_cgroup: bool = False,
    leader: int = -1,
) -> int:
    """Open a perf event that counts at once; OSError if there is none, or not for these.

    `of` is a thread, with what it starts from now on, or the descriptor of a cgroup's folder,
    which needs a CPU. With the event `leader` it is counted at the same times. A reading is the
    count, ns in which it was to count, and ns in which it did (8 bytes each).
    """
    times, inherit = 0b11, 0 if is_cgroup else 0b10
    attr = ctypes.create_string_buffer(
        struct.pack("=IIQQQQQ", event_type, 112, config, 0, 0, times, inherit), 112
    )
    flags = ctypes.c_ulong(_PERF_CLOEXEC | (_PERF_CGROUP if is_cgroup else 0))
    return _checked(_LIBC.syscall(_PERF[platform.machine()], attr, of, cpu, leader, flags))


def _bpf(command: int, attr: bytearray) -> int:
    number = _BPF.get(platform.machine())
    if number is None:
        raise OSError(38, f"bpf(2) has no known number on {platform.machine()}")
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    return _checked(_LIBC.syscall(number, command, buffer, ctypes.c_uint(len(attr))))


def _at(*buffers: ctypes.Array[ctypes.c_char]) -> tuple[int, ...]:
    return tuple(ctypes.addressof(buffer) for buffer in buffers)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
