"""Names functions by the files that hold them, also of processes that have ended; for `symbols`.

Names that C++ and Rust mangle stay mangled, and of a stripped file only what it exports is known.
"""

from __future__ import annotations

import bisect
import contextlib
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from harness.agent.elf import Elf
from harness.agent.pprof import Frame, Mapping


class _Table(NamedTuple):
    """The functions of a file by address, and what is to be added to an offset in it."""

    functions: list[tuple[int, int, str]]
    loaded: int


class FileSymbols:
    """Names of functions, each file being read once."""

    def __init__(self, pids: Iterable[int]) -> None:
        # the ended process is gone with its root; those that live beside it mostly have the same
        self._roots = [*(Path(f"/proc/{pid}/root") for pid in pids), Path("/")]
        self._tables: dict[Mapping, _Table | None] = {}

    def name(self, frame: Frame) -> str:
        """The function of a frame; empty if it is not known."""
        mapping = frame.mapping
        if mapping is None:
            return ""
        if mapping not in self._tables:
            self._tables[mapping] = self._read(mapping)
        table = self._tables[mapping]
        if table is None:
            return ""
        address = frame.address - mapping.start + mapping.offset + table.loaded
        place = bisect.bisect_right(table.functions, (address, 1 << 64, "")) - 1
        if place < 0:
            return ""
        start, size, name = table.functions[place]
        return name if address < start + max(size, 1) else ""

    def _read(self, mapping: Mapping) -> _Table | None:
        for root in self._roots:
            path = root / mapping.path.lstrip("/")
            nothing = contextlib.suppress(OSError, ValueError, struct.error)
            with nothing, contextlib.closing(Elf(path)) as elf:
                if elf.build_id() == mapping.build_id:  # another file may be there by now
                    return _Table(sorted(elf.functions()), elf.load_address(mapping.offset))
        return None


class KernelSymbols:
    """Names of the kernel's functions by what it tells root of them, its modules' among them."""

    def __init__(self, kallsyms: Path = Path("/proc/kallsyms")) -> None:
        found = []
        with contextlib.suppress(OSError), kallsyms.open() as lines:
            for line in lines:
                address, kind, name, *_ = line.split()
                if kind in "tTwW":
                    found.append((int(address, 16), name))
        self._functions = sorted(found)

    def name(self, address: int) -> str | None:
        """The function at an address; None below the first, or where addresses are hidden."""
        place = bisect.bisect_right(self._functions, (address, "\U0010ffff")) - 1
        if place < 0 or not self._functions[place][0]:
            return None
        return self._functions[place][1]
