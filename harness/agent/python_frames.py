"""Finds CPython in traced processes and names its code objects; used by the profile collector.

CPython 3.11 and 3.12 keep their structures where `_LAYOUTS` says (`offsetof` of a 64-bit build);
3.13 says itself where they are (`_Py_DebugOffsets`, the first member of `_PyRuntime`). What was
found is checked by a walk: a layout that does not lead to one of the process's own threads is
not used.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.agent.elf import Elf
from harness.agent.maps import Map
from harness.agent.memory import Memory, mappings
from harness.agent.pprof import Frame

_COOKIE = b"xdebugpy"
_MAX_THREADS = 128
_MAX_LOOKS = 10
_MAX_NAMES = 4096
_TYPE_NAME = 24  # PyTypeObject.tp_name
_COMPACT_ASCII = 0x60  # PyASCIIObject.state: compact and ascii
_WIDTHS = {1: "latin-1", 2: "utf-16", 4: "utf-32"}
_NO_PYTHON_NAME = "<interpreter trampoline>"  # 3.12 pushes it where C calls Python


@dataclass(frozen=True)
class Layout:
    """Offsets of the members that are walked; `cframe_frame` is -1 where there is no cframe."""

    head: int
    threads: int
    next: int
    native_id: int
    frame: int
    cframe_frame: int
    code: int
    previous: int
    filename: int
    qualname: int
    first_line: int
    ascii_size: int
    compact_size: int


_LAYOUTS = {
    (3, 11): Layout(40, 16, 8, 160, 56, 8, 32, 48, 112, 128, 72, 48, 72),
    (3, 12): Layout(40, 72, 8, 144, 56, 0, 0, 8, 112, 128, 68, 40, 56),
}
# places of the same members in _Py_DebugOffsets of 3.13, in words
_DEBUG_WORDS = {
    "head": 5,
    "threads": 9,
    "next": 21,
    "native_id": 25,
    "frame": 23,
    "previous": 29,
    "code": 30,
    "filename": 35,
    "qualname": 37,
    "first_line": 39,
}


@dataclass
class _Process:
    executable: tuple[int, int]
    runtime: int = 0
    layout: Layout | None = None
    version: str = ""


class Interpreters:
    """The traced processes that run CPython, kept in the BPF map `interpreters` by process."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._processes: dict[int, _Process] = {}
        self._names: dict[int, dict[int, Frame | None]] = {}
        self._looks: dict[int, int] = {}

    @property
    def versions(self) -> set[str]:
        """What was found, such as `3.11`, or `3.10 (native frames only)`."""
        return {each.version for each in self._processes.values() if each.version}

    def refresh(self, pids: Iterable[int]) -> None:
        """Look at processes that are new or run another program, and forget those that ended."""
        running = set(pids)
        for pid in [each for each in self._processes if each not in running]:
            self._forget(pid)
        for pid in running:
            with contextlib.suppress(OSError, ValueError, struct.error):
                executable = os.stat(f"/proc/{pid}/exe")
                identity = executable.st_dev, executable.st_ino
                known = self._processes.get(pid)
                if known is None or known.executable != identity:
                    self._forget(pid)
                    self._look(pid, identity)

    def frames(self, pid: int, code_objects: Sequence[int]) -> list[Frame]:
        """The functions of these code objects, each of which is read once."""
        process = self._processes.get(pid)
        if process is None or process.layout is None:
            return []
        names = self._names.setdefault(pid, {})
        if len(names) > _MAX_NAMES:
            names.clear()
        missing = [each for each in code_objects if each not in names]
        if missing:
            with contextlib.suppress(OSError), contextlib.closing(Memory(pid)) as memory:
                for each in missing:
                    names[each] = _code(memory, process.layout, each)
        return [frame for each in code_objects if (frame := names.get(each))]

    def _look(self, pid: int, identity: tuple[int, int]) -> None:
        process = _Process(identity)
        found = _runtime(pid)
        if found:
            process.runtime, version_address = found
            with contextlib.closing(Memory(pid)) as memory:
                version = _version(memory, version_address)
                process.layout = _layout(memory, process.runtime, version)
                if process.layout and not _walks(memory, process.runtime, process.layout, pid):
                    process.layout = None
                    self._looks[pid] = self._looks.get(pid, 0) + 1
                    if self._looks[pid] < _MAX_LOOKS:  # it may still be starting
                        return
            process.version = ".".join(map(str, version))
            if process.layout is None:
                process.version += " (native frames only)"
            else:
                self._table.update(struct.pack("=I", pid), _packed(process.runtime, process.layout))
        self._processes[pid] = process

    def _forget(self, pid: int) -> None:
        self._looks.pop(pid, None)
        if self._processes.pop(pid, None) is not None:
            self._names.pop(pid, None)
            self._table.delete(struct.pack("=I", pid))


def _packed(runtime: int, at: Layout) -> bytes:
    """struct interpreter of profile.bpf.c."""
    return struct.pack(
        "=QIIIIiII4x",
        runtime + at.head,
        at.threads,
        at.next,
        at.native_id,
        at.frame,
        at.cframe_frame,
        at.code,
        at.previous,
    )


def _runtime(pid: int) -> tuple[int, int] | None:
    """Addresses of _PyRuntime and Py_Version (0 before 3.11) in a process that runs CPython."""
    for mapping in mappings(pid):
        if "python" not in os.path.basename(mapping.path):
            continue
        with contextlib.closing(Elf(Path(f"/proc/{pid}/root{mapping.path}"))) as elf:
            runtime = elf.symbol("_PyRuntime")
            if runtime:
                shift = mapping.start - mapping.offset - elf.load_address(mapping.offset)
                version = elf.symbol("Py_Version")
                return runtime + shift, version + shift if version else 0
    return None


def _version(memory: Memory, address: int) -> tuple[int, int]:
    if not address:
        return 3, 10  # or older; Py_Version came with 3.11
    number = memory.word(address)
    return number >> 24 & 0xFF, number >> 16 & 0xFF


def _layout(memory: Memory, runtime: int, version: tuple[int, int]) -> Layout | None:
    if version == (3, 13) and memory.read(runtime, 8) == _COOKIE:
        words = struct.unpack("=40Q", memory.read(runtime, 320))
        if words[2]:  # free-threaded
            return None
        offsets = {name: words[place] for name, place in _DEBUG_WORDS.items()}
        return Layout(**offsets, cframe_frame=-1, ascii_size=40, compact_size=56)
    return _LAYOUTS.get(version)


def _walks(memory: Memory, runtime: int, at: Layout, pid: int) -> bool:
    """Whether the layout leads to a thread of this process."""
    own = {_own_id(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}
    interpreter = memory.word(runtime + at.head)
    state = memory.word(interpreter + at.threads) if interpreter else 0
    for _ in range(_MAX_THREADS):
        if not state or memory.word(state + at.native_id) in own:
            return bool(state)
        state = memory.word(state + at.next)
    return False


def _own_id(pid: int, tid: int) -> int:
    """The thread's id in its own pid namespace, which is the last one listed."""
    for line in Path(f"/proc/{pid}/task/{tid}/status").read_bytes().splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return tid


def _code(memory: Memory, layout: Layout, address: int) -> Frame | None:
    """The function of a code object; None for anything else that a frame may point to.

    A process that ends or goes on meanwhile may have put anything there.
    """
    try:
        if memory.text(memory.word(memory.word(address + 8) + _TYPE_NAME)) != "code":
            return None
        name = _string(memory, layout, memory.word(address + layout.qualname))
        file = _string(memory, layout, memory.word(address + layout.filename))
        (line,) = struct.unpack("=i", memory.read(address + layout.first_line, 4))
    except (OSError, KeyError):
        return None
    return None if name == _NO_PYTHON_NAME else Frame(name=name, file=file, line=line)


def _string(memory: Memory, layout: Layout, address: int) -> str:
    length = min(memory.word(address + 16), 1024)
    state = memory.read(address + 32, 1)[0]
    if state & _COMPACT_ASCII == _COMPACT_ASCII:
        return memory.read(address + layout.ascii_size, length).decode("ascii", "replace")
    width = state >> 2 & 7
    data = memory.read(address + layout.compact_size, length * width)
    return data.decode(_WIDTHS[width], "replace")
