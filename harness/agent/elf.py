"""What is needed of an ELF file: symbols, the build id, where a segment wants to be loaded.

Used by python_frames and images, which look for one symbol, by eh_frame and unwind_tables, and by
harness.node.file_symbols.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SHT_SYMTAB, _SHT_NOTE, _SHT_DYNSYM = 2, 7, 11
_NT_GNU_BUILD_ID = 3
_PT_LOAD = 1
_STT_FUNC, _STT_IFUNC = 2, 10


class Elf:
    """A 64-bit ELF file of this machine's byte order; ValueError if it is something else.

    `image` is its bytes, where there is no file: the kernel's vDSO.
    """

    def __init__(self, path: Path, image: bytes | None = None) -> None:
        self.data: Any = image
        if image is None:
            with path.open("rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        if self.data[:5] != b"\x7fELF\x02":
            raise ValueError(f"{path} is not a 64-bit ELF file")

    def close(self) -> None:
        """Unmap the file."""
        if isinstance(self.data, mmap.mmap):
            self.data.close()

    def build_id(self) -> str:
        """The GNU build id in hex, or an empty string."""
        for kind, _, start, size, *_ in self._sections():
            if kind == _SHT_NOTE and size > 16:
                name_size, id_size, note = struct.unpack_from("=III", self.data, start)
                if note == _NT_GNU_BUILD_ID:
                    first = start + 12 + (name_size + 3 & ~3)
                    return bytes(self.data[first : first + id_size]).hex()
        return ""

    def symbol(self, name: str) -> int | None:
        """The address of a symbol, as the file was linked."""
        wanted = name.encode() + b"\0"
        sections = list(self._sections())
        for kind, _, start, size, link, entry in sections:
            if kind in (_SHT_DYNSYM, _SHT_SYMTAB) and entry:
                strings = sections[link][2]
                for offset in range(start, start + size, entry):
                    text, value = struct.unpack_from("=I4xQ", self.data, offset)
                    at = strings + text
                    if value and self.data[at : at + len(wanted)] == wanted:
                        return int(value)
        return None

    def functions(self) -> Iterator[tuple[int, int, str]]:
        """(address, size, name) of each function; of a stripped file, of those that it exports."""
        sections = list(self._sections())
        tables = [
            each for kind in (_SHT_SYMTAB, _SHT_DYNSYM) for each in sections if each[0] == kind
        ]
        for _, _, start, size, link, entry in tables[:1]:
            strings = sections[link][2]
            for offset in range(start, start + size, entry):
                text, info, value, length = struct.unpack_from("=IB3xQQ", self.data, offset)
                if value and info & 0xF in (_STT_FUNC, _STT_IFUNC):
                    at = strings + text
                    name = self.data[at : self.data.find(b"\0", at)]
                    yield value, length, name.decode(errors="replace")

    def load_address(self, file_offset: int) -> int:
        """Where the segment that holds this offset wants to be loaded, less the offset."""
        for kind, offset, address, _, length in self.segments():
            if kind == _PT_LOAD and offset <= file_offset + 4095 and file_offset < offset + length:
                return address - offset
        return 0

    def segments(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(type, offset, address, physical address, size in the file) of each segment."""
        (table,) = struct.unpack_from("=Q", self.data, 32)
        size, count = struct.unpack_from("=HH", self.data, 54)
        for i in range(count):
            yield struct.unpack_from("=I4xQQQQ", self.data, table + i * size)

    def _sections(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """(type, address, offset, size, link, entry size) of each section."""
        (table,) = struct.unpack_from("=Q", self.data, 40)
        size, count = struct.unpack_from("=HH", self.data, 58)
        for i in range(count):
            at = table + i * size
            kind, _, address, offset, length, link = struct.unpack_from(
                "=IQQQQI", self.data, at + 4
            )
            (entry,) = struct.unpack_from("=Q", self.data, at + 56)
            yield kind, address, offset, length, link, entry
