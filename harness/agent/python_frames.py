"""Finds CPython in traced processes and names its code objects; used by the profile collector.

Where CPython keeps its structures is known by python_layouts. What was found is checked by a walk:
a layout that does not lead to one of the process's own threads is not used.
A process, or a file that it has mapped, may not answer: it is asked again at the next look.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from harness.agent.bounded import Answers, Unanswered
from harness.agent.elf import Elf
from harness.agent.errors import AgentError
from harness.agent.images import Image, folder
from harness.agent.maps import Map
from harness.agent.memory import Memory, mapped, mappings, start_stack
from harness.agent.pprof import Frame
from harness.agent.python_code import function
from harness.agent.python_layouts import Layout, layout

_MAX_THREADS = 256
_MAX_INTERPRETERS = 16
_MAX_LOOKS = 10
_MAX_LOOKS_WITHOUT = 3  # its libraries may not be there yet
_MAX_NAMES = 4096
_NAMED = re.compile(r"python3\.(\d+)|cpython-3(\d+)-")

# addresses of _PyRuntime and Py_Version (0 before 3.11), and what a file was loaded above, less it
_Symbols = tuple[int, int, int]


@dataclass
class _Process:
    runtime: int = 0
    layout: Layout | None = None
    version: str = ""
    looks: int = 0
    names: dict[int, Frame | None] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether another look would find nothing else: it may still be starting."""
        most = _MAX_LOOKS if self.runtime else _MAX_LOOKS_WITHOUT
        return self.layout is not None or self.looks >= most

    @property
    def told(self) -> str:
        """What runs in it, once that is sure."""
        if self.layout is not None or not self.version:
            return self.version
        return f"{self.version} (native frames only)" if self.settled else ""


class Interpreters:
    """The traced processes that run CPython, kept in the BPF map `interpreters` by process.

    Its methods are of any thread.
    """

    def __init__(self, table: Map, answers: Answers) -> None:
        self._table, self._answers = table, answers
        self._processes: dict[tuple[int, int], _Process] = {}  # by pid and start of the stack
        self._files: dict[str, _Symbols | None] = {}  # by device and inode
        self._lock = threading.Lock()

    @property
    def versions(self) -> set[str]:
        """What was found, such as `3.11`, or `3.8 (native frames only)`."""
        with self._lock:
            return {each.told for each in self._processes.values() if each.told}

    def look(self, pid: int, parent: int = 0) -> bool:
        """Look at a process that is new, or runs another program; whether nothing is left to find.

        An interpreter that is starting is to be looked at again.
        """
        with self._lock, contextlib.suppress(OSError, ValueError, struct.error, AgentError):
            stack = start_stack(pid)
            if not stack:
                return True
            known = self._processes.get((pid, stack))
            if known is None:
                self._table.delete(struct.pack("=I", pid))  # of what ran before
                forked = self._processes.get((parent, stack))
                settled = forked is not None and forked.settled
                known = replace(forked, names={}) if forked and settled else _Process()
                self._processes[pid, stack] = known
                self._enter(pid, known)
            if not known.settled:
                self._find(pid, known)
            return known.settled or not known.runtime
        return True

    def look_again(self) -> None:
        """Look at those that may have been starting."""
        with self._lock:
            unsettled = [pid for (pid, _), each in self._processes.items() if not each.settled]
        for pid in unsettled:
            self.look(pid)

    def forget(self) -> None:
        """Keep only what still runs."""
        with self._lock:
            for pid, stack in [*self._processes]:
                if start_stack(pid) != stack:
                    del self._processes[pid, stack]
                    if not any(other == pid for other, _ in self._processes):
                        self._table.delete(struct.pack("=I", pid))

    def frames(self, image: Image | None, code_objects: Sequence[int]) -> list[Frame]:
        """The functions of these code objects, each of which is read once.

        What an image that ended was forked with, its parent has in the same places.
        """
        if image is None or not code_objects:
            return []
        names: dict[int, Frame | None] = {}
        with self._lock:
            for pid in image.lenders:
                missing = [each for each in code_objects if each not in names]
                process = self._processes.get((pid, image.start_stack))
                if missing and process is not None:
                    self._read_names(process, pid, image.start_stack, missing)
                    names |= {
                        each: process.names[each] for each in missing if each in process.names
                    }
        return [frame for each in code_objects if (frame := names.get(each))]

    def _find(self, pid: int, process: _Process) -> None:
        process.looks += 1
        try:
            found = self._runtime(pid)
            if found is None:
                return
            process.runtime = found[0]
            version, at, walks = self._answers.ask(lambda: _laid_out(pid, *found), ("process", pid))
        except Unanswered:  # it was no look
            process.looks -= 1
            raise
        process.version = ".".join(map(str, version))
        if walks:
            process.layout = at
            self._enter(pid, process)
        elif at is None:
            process.looks = _MAX_LOOKS

    def _read_names(
        self, process: _Process, pid: int, stack: int, code_objects: Sequence[int]
    ) -> None:
        """Read those that are not known; what is gone with its process stays unknown."""
        at = process.layout
        missing = [each for each in code_objects if each not in process.names]
        if at is None or not missing or start_stack(pid) != stack:
            return
        if len(process.names) > _MAX_NAMES:
            process.names.clear()
            missing = list(code_objects)
        with contextlib.suppress(Unanswered):
            process.names |= self._answers.ask(
                lambda: _functions(at, pid, missing), ("process", pid)
            )

    def _enter(self, pid: int, process: _Process) -> None:
        if process.layout is not None:
            packed = process.layout.packed(process.runtime)
            self._table.update(struct.pack("=I", pid), packed)

    def _runtime(self, pid: int) -> tuple[int, int] | None:
        """Addresses of _PyRuntime and Py_Version (0 before 3.11) in a process that runs CPython."""
        for mapping, file in self._answers.ask(lambda: mapped(pid), ("process", pid)):
            if "python" not in os.path.basename(mapping.path):
                continue
            if file not in self._files:
                path, offset = Path(f"/proc/{pid}/root{mapping.path}"), mapping.offset
                self._files[file] = self._answers.ask(
                    partial(_symbols, path, offset), folder(mapping.path, file)
                )
            symbols = self._files[file]
            if symbols:
                runtime, version, loaded = symbols
                shift = mapping.start - mapping.offset - loaded
                return runtime + shift, version + shift if version else 0
        return None


def _symbols(path: Path, offset: int) -> _Symbols | None:
    with contextlib.closing(Elf(path)) as elf:
        runtime = elf.symbol("_PyRuntime")
        if not runtime:
            return None
        return runtime, elf.symbol("Py_Version") or 0, elf.load_address(offset)


def _version(memory: Memory, address: int) -> tuple[int, int] | None:
    if not address:
        return None
    number = memory.word(address)
    return number >> 24 & 0xFF, number >> 16 & 0xFF


def _version_by_name(pid: int) -> tuple[int, int]:
    """Before 3.11 only files tell: libpython3.9.so, _bz2.cpython-39-x86_64-linux-gnu.so."""
    names = "\n".join(os.path.basename(each.path) for each in mappings(pid))
    found = _NAMED.search(names)
    return (3, int(found[1] or found[2])) if found else (3, 0)


def _walks(memory: Memory, runtime: int, at: Layout, pid: int) -> bool:
    """Whether the layout leads to a thread of this process."""
    own = {_own_id(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}
    for state in _states(memory, runtime, at):
        thread = memory.word(state + at.thread)
        # what pthread_self() returns begins with a pointer to itself, on x86-64
        if memory.word(thread) == thread if at.by_pthread else thread in own:
            return True
    return False


def _states(memory: Memory, runtime: int, at: Layout) -> Iterator[int]:
    """The thread states of all interpreters, up to a bound."""
    interpreter = memory.word(runtime + at.head)
    for _ in range(_MAX_INTERPRETERS):
        if not interpreter:
            return
        state = memory.word(interpreter + at.threads)
        for _ in range(_MAX_THREADS):
            if not state:
                break
            yield state
            state = memory.word(state + at.next)
        interpreter = memory.word(interpreter + at.following)


def _own_id(pid: int, tid: int) -> int:
    """The thread's id in its own pid namespace, which is the last one listed."""
    for line in Path(f"/proc/{pid}/task/{tid}/status").read_bytes().splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return tid


def _laid_out(
    pid: int, runtime: int, version_address: int
) -> tuple[tuple[int, int], Layout | None, bool]:
    """The version, its layout if one is known, and whether that leads to one of its threads."""
    with contextlib.closing(Memory(pid)) as memory:
        version = _version(memory, version_address) or _version_by_name(pid)
        at = layout(memory, runtime, version)
        return version, at, at is not None and _walks(memory, runtime, at, pid)


def _functions(at: Layout, pid: int, code_objects: Sequence[int]) -> dict[int, Frame | None]:
    """Those that can be read."""
    found: dict[int, Frame | None] = {}
    with contextlib.suppress(OSError), contextlib.closing(Memory(pid)) as memory:
        for each in code_objects:
            with contextlib.suppress(OSError):
                found[each] = function(memory, at, each)
    return found
