"""Tables of what traced processes have mapped, in BPF maps; used by unwinding.

A thread of its own reads files: a large one takes seconds, a file system may not answer. A file is
read once for all processes, and its rows are given back when no process has it mapped.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import queue
import struct
import threading
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

from harness.agent import eh_frame
from harness.agent.elf import Elf
from harness.agent.errors import AgentError
from harness.agent.extents import Extents
from harness.agent.maps import Map
from harness.agent.memory import Memory, mapped, start_stack
from harness.agent.pprof import Mapping

ROW_BYTES = 8
MAPPING = struct.Struct("=QQQII")  # struct mapping of bpf/profile_tables.bpf.h
_HEAD = struct.Struct("=QQ")  # of struct mappings
_WAITING = 4096  # processes that are to be looked at
_END_SECONDS = 2.0
_log = logging.getLogger("harness.agent")

_Found = list[tuple[Mapping, str]]
_File = tuple[str, str, int]  # device and inode, path, offset of the mapping


@dataclass(frozen=True)
class _Table:
    """The rows of a file, none if there is no table; `loaded`: see Elf.load_address."""

    first: int = 0
    count: int = 0
    loaded: int = 0


class Tables:
    """Writes the maps `mapped` and `rows` of profile_tables.bpf.h, until `close`."""

    def __init__(self, processes: Map, rows: Map) -> None:
        self._processes = processes
        self._rows = mmap.mmap(rows.fd, rows.max_entries * ROW_BYTES)
        self._extents = Extents(rows.max_entries)
        self._size = rows.max_entries
        self._most = (processes.value_size - _HEAD.size) // MAPPING.size
        self._tables: dict[_File, _Table] = {}
        self._entered: dict[int, tuple[int, _Found]] = {}  # by process: start of the stack
        self._full = 0
        self._without: set[int] = set()  # processes that found no room
        self._waiting: queue.Queue[tuple[int, int] | None] = queue.Queue(_WAITING)
        self._asked: set[tuple[int, int]] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)
        self._thread.start()

    def look(self, pid: int, parent: int = 0) -> None:
        """Look at what a process has mapped by now, soon; it may run another program."""
        if (pid, parent) not in self._asked:
            self._asked.add((pid, parent))
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait((pid, parent))
                return
            self._asked.discard((pid, parent))  # the next drain asks again

    def settle(self, seconds: float) -> bool:
        """Wait until all was looked at; False if it takes longer."""
        until = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)
        return not self._waiting.unfinished_tasks

    def forget(self) -> None:
        """Give back what ended processes had, soon."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)

    def counts(self) -> dict[str, int]:
        """Files that have tables, their rows and bytes; those that found no room."""
        used = self._size - self._extents.free
        return {
            "files": sum(1 for each in list(self._tables.values()) if each.count),
            "rows": used,
            "bytes": used * ROW_BYTES,
            "files_without_room": self._full,
            "processes_without_room": len(self._without),
        }

    def close(self) -> bool:
        """End the thread; False if it is held up, for then it still uses the maps."""
        self._closed = True
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():
            return False
        self._rows.close()
        return True

    def _run(self) -> None:
        while not self._closed:
            asked = self._waiting.get()
            try:
                if asked is None:
                    self._forget()
                else:
                    self._asked.discard(asked)  # before: it may exec meanwhile, and is asked again
                    self._look(*asked)
            except Exception:  # what comes next is looked at nevertheless
                _log.exception("A process has no tables.")
            self._waiting.task_done()

    def _look(self, pid: int, parent: int) -> None:
        stack = start_stack(pid)
        found = [each for each in mapped(pid) if _is_file(each[0].path)]
        if not stack or not found or start_stack(pid) != stack:
            return
        now = stack, found
        if self._entered.get(pid) == now:
            return
        if parent and start_stack(parent) == stack:
            self._look(parent, 0)
        self._leave(pid)
        if self._entered.get(parent) == now:  # what was forked is walked by its parent's
            return
        if len(self._entered) >= self._processes.max_entries:  # before files are read for it
            self._without.add(pid)
            return
        # a process may have more than fit: its largest
        largest = sorted(found, key=lambda each: each[0].start - each[0].limit)[: self._most]
        kept = sorted(largest, key=lambda each: each[0].start)
        packed = b"".join(self._mapping(pid, *each) for each in kept)
        value = _HEAD.pack(stack, len(kept)) + packed
        self._processes.update(_key(pid), value.ljust(self._processes.value_size, b"\0"))
        self._entered[pid] = now

    def _mapping(self, pid: int, mapping: Mapping, file: str) -> bytes:
        key = file, mapping.path, mapping.offset
        table = self._tables.get(key)
        if table is None:
            table = self._read(pid, mapping)
            if table.count or start_stack(pid):  # one that ended says nothing of its files
                self._tables[key] = table
        shift = (mapping.start - mapping.offset - table.loaded) % (1 << 64)
        return MAPPING.pack(mapping.start, mapping.limit, shift, table.first, table.count)

    def _read(self, pid: int, mapping: Mapping) -> _Table:
        try:
            image = None
            if mapping.path == "[vdso]":
                with contextlib.closing(Memory(pid)) as memory:
                    image = memory.read(mapping.start, mapping.limit - mapping.start)
            with contextlib.closing(Elf(_place(pid, mapping), image)) as elf:
                rows, loaded = eh_frame.rows(elf), elf.load_address(mapping.offset)
        except (OSError, ValueError, struct.error) as error:
            _log.info("%s has no table to unwind by: %s", mapping.path, error)
            return _Table()
        return self._keep(mapping.path, rows, loaded)

    def _keep(self, path: str, rows: array[int], loaded: int) -> _Table:
        first = self._extents.take(len(rows))
        if first is None:
            self._full += 1
            _log.warning("There is no room for the %d rows that %s has.", len(rows), path)
            return _Table()
        at = first * ROW_BYTES
        self._rows[at : at + len(rows) * ROW_BYTES] = rows.tobytes()
        return _Table(first, len(rows), loaded)

    def _forget(self) -> None:
        for pid, (stack, _) in list(self._entered.items()):
            if start_stack(pid) != stack:
                self._leave(pid)
        self._without = {pid for pid in self._without if start_stack(pid)}
        used = {
            (file, mapping.path, mapping.offset)
            for _, found in self._entered.values()
            for mapping, file in found
        }
        for key in self._tables.keys() - used:
            table = self._tables.pop(key)
            if table.count:
                self._extents.give(table.first, table.count)

    def _leave(self, pid: int) -> None:
        with contextlib.suppress(AgentError):
            self._processes.delete(_key(pid))
        self._entered.pop(pid, None)
        self._without.discard(pid)


def _key(pid: int) -> bytes:
    return struct.pack("=I", pid)


def _is_file(path: str) -> bool:
    """Whether there may be a table; other code was compiled at run time."""
    return path == "[vdso]" or (path.startswith("/") and not path.startswith("//"))


def _place(pid: int, mapping: Mapping) -> Path:
    """The file that is mapped, though another one may have its name by now, or none.

    Who may not follow that link has the name: proc(5), /proc/pid/map_files.
    """
    exact = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.limit:x}"
    return Path(exact if os.path.exists(exact) else f"/proc/{pid}/root{mapping.path}")


def told(counted: dict[str, int]) -> str:
    """What the ready line says of them."""
    return f"{counted['files']} files, {counted['bytes'] / (1 << 20):.1f} MiB of tables"
