"""BPF objects, programs and links over ctypes on libbpf.so.1; used by runtime and the collectors.

    obj = Object(path)                      # opened, not loaded
    obj.set("filter_port", 8080)            # a global, `const volatile` or not
    obj.map("requests").resize(4096)
    obj.program("extra").skip()
    obj.load()                              # AgentError with the verifier's last words
    link = obj.program("ingress").attach_cgroup(fd)
    for key, value in obj.map("requests").items(): ...
    obj.set("generation", 2)                # .data and .bss stay writable after load
    link.destroy()
    obj.close()

Keys and values are bytes in the machine's byte order; a value of a per-CPU map is the
concatenation of all CPUs' values, each padded to 8 bytes (`Map.cpu_values` splits it).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from ctypes import byref, c_bool, c_char_p, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path

from harness.agent.errors import AgentError
from harness.agent.library import LIB, checked, existing, give_back_memory
from harness.agent.maps import Map, RingBuffer

__all__ = [
    "KERNEL_BTF", "Link", "Map", "Object", "Program", "ProgramInfo", "RingBuffer", "attached_to",
]  # fmt: skip

KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")
_WRITABLE = {".data", ".bss"}
_SECTIONS = (".rodata", *_WRITABLE)
_KIND_DATASEC = 15


class _OpenOptions(ctypes.Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("reserved", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    )


@dataclass(frozen=True)
class ProgramInfo:
    """What the kernel says of a loaded program; the run figures need kernel.bpf_stats_enabled.

    `recursion_misses` is how often it did not run because its CPU was in it already.
    """

    id: int
    name: str
    type: str
    run_time_ns: int
    run_cnt: int
    recursion_misses: int


class Link:
    """An attached program; it runs until the link is destroyed or this process dies."""

    def __init__(self, pointer: int, hook: str) -> None:
        self._pointer: int | None = pointer
        self.hook = hook

    def destroy(self) -> None:
        """Detach; harmless when already detached."""
        if self._pointer is not None:
            LIB.bpf_link__destroy(self._pointer)
            self._pointer = None


class Program:
    """A program of an Object."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer
        self.name: str = LIB.bpf_program__name(pointer).decode()
        self.section: str = LIB.bpf_program__section_name(pointer).decode()

    @property
    def fd(self) -> int:
        """Its descriptor after load; negative if it was skipped."""
        return int(LIB.bpf_program__fd(self._pointer))

    @property
    def loads(self) -> bool:
        """Whether it is to be loaded."""
        return bool(LIB.bpf_program__autoload(self._pointer))

    def skip(self) -> None:
        """Do not load it; before load."""
        checked(LIB.bpf_program__set_autoload(self._pointer, False), f"{self.name} must load.")

    def attach(self) -> Link:
        """Attach where its section says (tp_btf, raw_tp, tracepoint, fentry, ...)."""
        return self._link(LIB.bpf_program__attach(self._pointer), self.section)

    def attach_cgroup(self, directory_fd: int) -> Link:
        """Attach to an opened cgroup v2 directory (cgroup_skb, sock_ops, connect4, ...)."""
        link = LIB.bpf_program__attach_cgroup(self._pointer, directory_fd)
        return self._link(link, self.section)

    def attach_tracepoint(self, category: str, name: str) -> Link:
        """Attach to a classic tracepoint; slow to detach (about 70 ms), prefer tp_btf."""
        link = LIB.bpf_program__attach_tracepoint(self._pointer, category.encode(), name.encode())
        return self._link(link, f"tracepoint/{category}/{name}")

    def attach_perf_event(self, event_fd: int) -> Link:
        """Attach to an opened perf event, which the link then owns and closes."""
        link = LIB.bpf_program__attach_perf_event(self._pointer, event_fd)
        return self._link(link, "perf_event")

    def attach_uprobe(self, binary: Path, offset: int, *, pid: int = -1, ret: bool = False) -> Link:
        """Attach at a file offset of `binary`, in one process or (-1) in all."""
        link = LIB.bpf_program__attach_uprobe(self._pointer, ret, pid, str(binary).encode(), offset)
        return self._link(link, f"u{'ret' if ret else ''}probe/{binary.name}+{offset:#x}")

    def info(self) -> ProgramInfo:
        """Its id, name, type and run figures from the kernel."""
        raw, size = ctypes.create_string_buffer(256), c_uint32(256)
        code = LIB.bpf_obj_get_info_by_fd(self.fd, raw, byref(size))
        checked(code, f"The kernel says nothing of {self.name}.")
        kind, number = struct.unpack_from("=II", raw)
        run_time, run_cnt, misses = struct.unpack_from("=3Q", raw, 192)  # struct bpf_prog_info
        words = (LIB.libbpf_bpf_prog_type_str(kind) or b"unknown").decode()
        return ProgramInfo(number, self.name, words, run_time, run_cnt, misses)

    def _link(self, pointer: int | None, hook: str) -> Link:
        return Link(existing(pointer, f"{self.name} cannot be attached to {hook}."), hook)


def attached_to(directory_fd: int, programs: Iterable[Program]) -> list[Link]:
    """Attach each where its section says, to this cgroup where it is for one; all or none."""
    links: list[Link] = []
    try:
        for program in programs:
            of_cgroup = program.section.startswith("cgroup")
            links.append(program.attach_cgroup(directory_fd) if of_cgroup else program.attach())
    except AgentError:
        for link in links:
            link.destroy()
        raise
    return links


class Object:
    """A compiled .bpf.o: open on construction, `load` when configured, `close` at the end."""

    def __init__(self, path: Path, btf: Path = KERNEL_BTF) -> None:
        if not path.is_file():
            raise AgentError(
                f"The BPF object {path} is missing.", "It has not been built.", "Run `make bpf`."
            )
        if not btf.is_file():
            raise AgentError(
                f"The kernel's type information {btf} is missing.",
                "The kernel was built without CONFIG_DEBUG_INFO_BTF.",
                "Use a kernel with BTF; `profile` alone does with a file of it: --btf FILE.",
            )
        options = _OpenOptions(sz=ctypes.sizeof(_OpenOptions))
        if btf != KERNEL_BTF:
            options.btf_custom_path = str(btf).encode()
        pointer = LIB.bpf_object__open_file(str(path).encode(), byref(options))
        self.name = path.name.removesuffix(".bpf.o")
        self._pointer = existing(pointer, f"The BPF object {path} cannot be opened.")
        self._maps = {m.name: m for m in map(Map, self._each(LIB.bpf_object__next_map))}
        programs = map(Program, self._each(LIB.bpf_object__next_program))
        self._programs = {program.name: program for program in programs}
        self._globals = {name: place for part in _SECTIONS for name, place in self._variables(part)}
        self._live: dict[str, mmap.mmap] = {}  # globals shared with the kernel, after load

    @property
    def btf(self) -> int:
        """Its own types, for `layouts`."""
        return int(LIB.bpf_object__btf(self._pointer))

    @property
    def programs(self) -> list[Program]:
        """The programs that are (to be) loaded."""
        return [program for program in self._programs.values() if program.loads]

    def program(self, name: str) -> Program:
        """The program of this C function name."""
        return self._programs[name]

    def map(self, name: str) -> Map:
        """The map of this C name."""
        return self._maps[name]

    @property
    def rings(self) -> list[Map]:
        """Its ring buffers; a reader may wait for a program to wake it."""
        return [each for each in self._maps.values() if each.is_ring]

    def set(self, name: str, value: int | bytes) -> None:
        """Set a global; `const volatile` ones before load, the others at any time.

        An int fills the variable in the machine's byte order, bytes are padded with zeros.
        """
        section, offset, size = self._place(name)
        if isinstance(value, int):
            value = (value % (1 << 8 * size)).to_bytes(size, sys.byteorder)
        if len(value) > size:
            raise ValueError(f"{name} has {size} bytes, not {len(value)}")
        value = value.ljust(size, b"\0")
        if section in self._live:
            self._live[section][offset : offset + size] = value
        else:
            ctypes.memmove(self._initial(section) + offset, value, size)

    def get(self, name: str) -> bytes:
        """The bytes of a global as they are now."""
        section, offset, size = self._place(name)
        if section in self._live:
            return self._live[section][offset : offset + size]
        return ctypes.string_at(self._initial(section) + offset, size)

    def load(self) -> None:
        """Create maps and load programs into the kernel."""
        code = LIB.bpf_object__load(self._pointer)
        give_back_memory()  # libbpf has just freed the kernel's whole BTF, more than 10 MB
        checked(code, f"The kernel refused the collector `{self.name}`.")
        for section in _WRITABLE & {place[0] for place in self._globals.values()}:
            pointer = LIB.bpf_object__find_map_by_name(self._pointer, section.encode())
            size = LIB.bpf_map__value_size(pointer)
            self._live[section] = mmap.mmap(LIB.bpf_map__fd(pointer), size)

    def map_bytes(self) -> int:
        """Kernel memory locked by all its maps."""
        return sum(each.memory_bytes() for each in self._maps.values() if each.fd >= 0)

    def close(self) -> None:
        """Unload everything; links must have been destroyed."""
        for view in self._live.values():
            view.close()
        LIB.bpf_object__close(self._pointer)

    def _place(self, name: str) -> tuple[str, int, int]:
        if name not in self._globals:
            raise AgentError(
                f"The BPF object of `{self.name}` has no variable {name}.",
                "It was built from other sources than the code that loads it.",
                "Run `make bpf`, or install both anew.",
            )
        return self._globals[name]

    def _each(self, following: Callable[[int, int | None], int | None]) -> Iterator[int]:
        pointer = following(self._pointer, None)
        while pointer:
            yield pointer
            pointer = following(self._pointer, pointer)

    def _variables(self, section: str) -> Iterator[tuple[str, tuple[str, int, int]]]:
        """(name, (section, offset, size)) of each global, out of the object's own BTF."""
        types = self.btf
        number = LIB.btf__find_by_name_kind(types, section.encode(), _KIND_DATASEC)
        if number < 0:
            return
        datasec = LIB.btf__type_by_id(types, number)  # struct btf_type, then btf_var_secinfo[]
        count = struct.unpack("=III", ctypes.string_at(datasec, 12))[1] & 0xFFFF
        for i in range(count):
            variable, offset, size = struct.unpack(
                "=III", ctypes.string_at(datasec + 12 + 12 * i, 12)
            )
            (name,) = struct.unpack("=I", ctypes.string_at(LIB.btf__type_by_id(types, variable), 4))
            yield LIB.btf__name_by_offset(types, name).decode(), (section, offset, size)

    def _initial(self, section: str) -> int:
        found = LIB.bpf_object__find_map_by_name(self._pointer, section.encode())
        start = LIB.bpf_map__initial_value(found, byref(c_size_t()))
        return existing(start, f"{self.name} has no {section}.")
