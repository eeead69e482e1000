"""Reading and writing BPF maps and draining ring buffers; used by libbpf and the collectors."""

from __future__ import annotations

import ctypes
import errno
import functools
from collections.abc import Callable, Iterator
from ctypes import byref, c_uint32, create_string_buffer
from pathlib import Path
from typing import Any

from harness.agent.errors import FullError
from harness.agent.library import LIB, SAMPLE, checked, existing, failure

_PER_CPU_TYPES = {5, 6, 10}  # BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH
_RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF
_LEAST_RECORD_BYTES = 16  # with its header
_LEAST_BATCH, _BATCH = 16, 512
_UNSUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP, 524}  # 524: the kernel's own ENOTSUPP


@functools.cache
def cpu_count() -> int:
    """The number of possible CPUs: how many values an entry of a per-CPU map holds."""
    return checked(LIB.libbpf_num_possible_cpus(), "The CPUs cannot be counted.")


class Map:
    """A map of an Object; keys and values are bytes of exactly key_size and `stored` bytes."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer
        self.name: str = LIB.bpf_map__name(pointer).decode()
        self.key_size: int = LIB.bpf_map__key_size(pointer)
        self.value_size: int = LIB.bpf_map__value_size(pointer)
        self.is_ring = LIB.bpf_map__type(pointer) == _RINGBUF
        self.per_cpu = LIB.bpf_map__type(pointer) in _PER_CPU_TYPES
        padded = -(-self.value_size // 8) * 8
        self.stored = padded * cpu_count() if self.per_cpu else self.value_size
        self._held = 0  # entries, when they were read last

    @property
    def fd(self) -> int:
        """Its descriptor, after load."""
        return int(LIB.bpf_map__fd(self._pointer))

    @property
    def max_entries(self) -> int:
        """How many entries it holds at most."""
        return int(LIB.bpf_map__max_entries(self._pointer))

    def resize(self, entries: int) -> None:
        """Set its capacity, before load."""
        code = LIB.bpf_map__set_max_entries(self._pointer, entries)
        checked(code, f"The map {self.name} cannot be resized to {entries}.")

    def cut_keys(self, size: int) -> None:
        """Take only so many bytes of each key, before load; for maps whose keys have no type."""
        code = LIB.bpf_map__set_key_size(self._pointer, size)
        checked(code, f"The keys of {self.name} cannot have {size} bytes.")
        self.key_size = size

    def skip(self) -> None:
        """Do not create it, before load; no loaded program may use it."""
        checked(LIB.bpf_map__set_autocreate(self._pointer, False), f"{self.name} must be created.")

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        value = create_string_buffer(self.stored)
        code = LIB.bpf_map_lookup_elem(self.fd, self._key(key), value)
        if code == -errno.ENOENT:
            return None
        checked(code, f"The map {self.name} cannot be read.")
        return value.raw

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of `key`; FullError if there is no room for it."""
        if len(value) != self.stored:
            raise ValueError(f"{self.name} holds values of {self.stored} bytes, not {len(value)}")
        code = LIB.bpf_map_update_elem(self.fd, self._key(key), value, 0)
        if code == -errno.E2BIG:
            raise FullError(f"The map {self.name} is full.", f"It holds {self.max_entries}.")
        checked(code, f"The map {self.name} cannot be written.")

    def delete(self, key: bytes) -> bool:
        """Remove `key`; False if it was not there."""
        code = LIB.bpf_map_delete_elem(self.fd, self._key(key))
        if code == -errno.ENOENT:
            return False
        checked(code, f"The map {self.name} cannot be written.")
        return True

    def take(self, key: bytes) -> bytes | None:
        """The value of `key` as it was when it was removed, or None."""
        value = create_string_buffer(self.stored)
        code = LIB.bpf_map_lookup_and_delete_elem(self.fd, self._key(key), value)
        if code == -errno.ENOENT:
            return None
        if -code in _UNSUPPORTED:  # before Linux 5.14: what is counted in between is lost
            found = self.lookup(key)
            self.delete(key)
            return found
        checked(code, f"The map {self.name} cannot be written.")
        return value.raw

    def keys(self) -> Iterator[bytes]:
        """All keys; do not delete while iterating, the walk would start again."""
        key = None
        while True:
            following = create_string_buffer(self.key_size)
            if LIB.bpf_map_get_next_key(self.fd, key, following):
                return
            key = following
            yield following.raw

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, by one system call a few hundred where the kernel can."""
        return self._batches(LIB.bpf_map_lookup_batch, remove=False)

    def drain(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, removed as they are read (hash maps only)."""
        return self._batches(LIB.bpf_map_lookup_and_delete_batch, remove=True)

    def cpu_values(self, value: bytes) -> list[bytes]:
        """The value of each possible CPU, of value_size bytes, out of a per-CPU map's value."""
        step = self.stored // cpu_count()
        return [value[i : i + self.value_size] for i in range(0, self.stored, step)]

    def memory_bytes(self) -> int:
        """What the kernel locked for it."""
        lines = Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("memlock:")), 0)

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"{self.name} has keys of {self.key_size} bytes, not {len(key)}")
        return key

    def _batches(self, call: Any, *, remove: bool) -> Iterator[tuple[bytes, bytes]]:
        # first room for twice what there was the last time: all of it is cleared, and most maps
        # hold little
        most = min(_BATCH, self.max_entries)
        size, held = min(most, max(_LEAST_BATCH, 2 * self._held)), 0
        keys = create_string_buffer(size * self.key_size)
        values = create_string_buffer(size * self.stored)
        position, token = None, create_string_buffer(max(4, self.key_size))
        while True:
            count = c_uint32(size)
            code = call(self.fd, position, token, keys, values, byref(count), None)
            if -code in _UNSUPPORTED and position is None:
                yield from self._one_by_one(remove)
                return
            if -code == errno.ENOSPC and size < self.max_entries:  # one bucket beyond the buffer
                size = min(size * 4, self.max_entries)
                keys = create_string_buffer(size * self.key_size)
                values = create_string_buffer(size * self.stored)
                continue
            if code < 0 and code != -errno.ENOENT:
                raise failure(f"The map {self.name} cannot be read.", code)
            held += count.value
            raw_keys = ctypes.string_at(keys, count.value * self.key_size)
            raw_values = ctypes.string_at(values, count.value * self.stored)
            for i in range(count.value):
                yield (
                    raw_keys[i * self.key_size : (i + 1) * self.key_size],
                    raw_values[i * self.stored : (i + 1) * self.stored],
                )
            if code < 0:
                self._held = held
                return
            position = create_string_buffer(token.raw, len(token))
            if size < most:
                size = most
                keys = create_string_buffer(size * self.key_size)
                values = create_string_buffer(size * self.stored)

    def _one_by_one(self, remove: bool) -> Iterator[tuple[bytes, bytes]]:
        for key in list(self.keys()):
            value = self.lookup(key)
            if value is not None:
                if remove:
                    self.delete(key)
                yield key, value


class RingBuffer:
    """Hands what programs put into a BPF_MAP_TYPE_RINGBUF map to `handle`, when asked to."""

    def __init__(self, source: Map, handle: Callable[[bytes], None]) -> None:
        self._handle = handle
        self._error: Exception | None = None
        self._most = source.max_entries // _LEAST_RECORD_BYTES  # more than it can hold at a time
        self._handled = 0
        self._callback = SAMPLE(self._sample)  # must outlive the ring buffer
        pointer = LIB.ring_buffer__new(source.fd, self._callback, None, None)
        self._pointer = existing(pointer, f"The ring buffer {source.name} cannot be mapped.")

    def consume(self) -> int:
        """Handle everything that waits, without blocking; how many records there were.

        What comes meanwhile is handled too, but not for ever: programs may be faster than we are.
        What `handle` raises first is raised here, after the others were handled.
        """
        self._handled = 0
        code = LIB.ring_buffer__consume(self._pointer)
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._handled < self._most:
            checked(code, "The ring buffer cannot be read.")
        return self._handled

    def close(self) -> None:
        """Unmap it."""
        LIB.ring_buffer__free(self._pointer)

    def _sample(self, _: int, data: int, size: int) -> int:
        try:
            self._handle(ctypes.string_at(data, size))
        except Exception as error:  # it cannot pass through libbpf
            self._error = self._error or error
        self._handled += 1
        return -errno.ECANCELED if self._handled >= self._most else 0
