"""Memory of the maps of loaded BPF programs, here and on a machine of more CPUs; for `trial`."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.linux import syscall

# struct bpf_prog_info and bpf_map_info of linux/bpf.h; the kernel only ever appends
_PROGRAM_INFO_SIZE, _MAPS_OF = 224, (52, "=IQ")
_MAP_INFO_SIZE, _MAP = 80, "=6I16s"
_MOST_MAPS = 64  # of a program: the kernel's limit

HASH, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH = 1, 5, 6, 9, 10
_HASHES, _PER_CPU = {HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH}, {5, 6, 10}
_NO_PREALLOC = 1
# sizes of the kernel's structs on 64 bits: htab_elem before its key, bucket, a pointer, llist_node
_ELEMENT, _BUCKET, _POINTER, _NODE = 48, 16, 8, 8


@dataclass(frozen=True)
class BpfMap:
    """A map of the kernel, and `bytes` of memory that it is charged with now."""

    id: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    bytes: int

    @property
    def per_cpu(self) -> bool:
        """Whether an entry has a value for each possible CPU."""
        return self.type in _PER_CPU


def of_programs(program_ids: Iterable[int]) -> list[BpfMap]:
    """The maps that these loaded programs use, each once; of programs that are gone none."""
    return [_read(map_id) for map_id in sorted({m for p in program_ids for m in _ids(p)})]


def possible_cpus(path: Path = Path("/sys/devices/system/cpu/possible")) -> int:
    """How many values an entry of a per-CPU map has here."""
    return int(path.read_text().strip().rpartition("-")[2].rpartition(",")[2]) + 1


def full_bytes(each: BpfMap, cpus: int, entries: int = 0) -> int:
    """What a per-CPU map takes when it is full, on so many possible CPUs, with so many `entries`.

    Per entry and CPU the value, rounded up to 8 bytes; besides per entry the key and a pointer,
    of a hash its element and its buckets (array_map_mem_usage, htab_map_mem_usage in the kernel).
    """
    entries = entries or each.max_entries
    values = cpus * _up(each.value_size) * entries
    if each.type == PERCPU_ARRAY:
        return values + _POINTER * entries
    buckets = _BUCKET * (1 << (entries - 1).bit_length())
    late = _NODE + _NODE + _POINTER if each.flags & _NO_PREALLOC else 0
    return values + buckets + entries * (_ELEMENT + _up(each.key_size) + _POINTER + late)


def bytes_on(each: BpfMap, cpus: int, here: int, entries: int = 0) -> int:
    """The memory of a map on `cpus`, of one that takes `bytes` on the `here` possible CPUs.

    A per-CPU map is taken as full. Another one is taken as it is, with one element more for each
    CPU where the kernel sets that aside, and in proportion to `entries`, if it is made larger.
    """
    if each.per_cpu:
        return full_bytes(each, cpus, entries)
    spare = 0
    if each.type == HASH and not each.flags & _NO_PREALLOC:
        element = _ELEMENT + _up(each.key_size) + _up(each.value_size)
        spare = (cpus - here) * (element + _POINTER)
    larger = entries / each.max_entries if entries else 1  # a map of sockets has no number of them
    return round(each.bytes * larger) + spare


def total_on(maps: Iterable[BpfMap], cpus: int, larger: Mapping[str, int] | None = None) -> int:
    """The memory of all of these on `cpus`; `larger` are entries of maps that would have more."""
    here, entries = possible_cpus(), larger or {}
    return sum(bytes_on(each, cpus, here, entries.get(each.name, 0)) for each in maps)


def _up(size: int) -> int:
    return -(-size // 8) * 8


def _ids(program_id: int) -> Iterator[int]:
    try:
        descriptor = syscall.program_fd(program_id)
    except FileNotFoundError:
        return
    found = (ctypes.c_uint32 * _MOST_MAPS)()
    info = ctypes.create_string_buffer(_PROGRAM_INFO_SIZE)
    struct.pack_into(_MAPS_OF[1], info, _MAPS_OF[0], _MOST_MAPS, ctypes.addressof(found))
    try:
        syscall.object_info(descriptor, info)
    finally:
        os.close(descriptor)
    yield from found[: struct.unpack_from("=I", info, _MAPS_OF[0])[0]]


def _read(map_id: int) -> BpfMap:
    descriptor = syscall.map_fd(map_id)
    info = ctypes.create_string_buffer(_MAP_INFO_SIZE)
    try:
        syscall.object_info(descriptor, info)
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    kind, number, key, value, entries, flags, name = struct.unpack_from(_MAP, info)
    charged = next((int(line.split()[1]) for line in lines if line.startswith("memlock:")), 0)
    text = name.rstrip(b"\0").decode(errors="replace")
    return BpfMap(number, text, kind, key, value, entries, flags, charged)
