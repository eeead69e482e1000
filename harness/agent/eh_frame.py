"""How the caller of each address is found, out of a file's .eh_frame; used by unwind_tables.

Linux Standard Base Core 5.0, 10.6 (.eh_frame, .eh_frame_hdr); what is in an entry: call_frames.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from harness.agent.call_frames import Cfa, Cie, Rule, pack, rows_of, sleb, uleb
from harness.agent.elf import Elf

_PT_GNU_EH_FRAME = 0x6474E550
_SORTED_TABLE = 0x3B  # pairs of signed 32-bit offsets from .eh_frame_hdr
_POINTERS = {0x0: "=Q", 0x2: "=H", 0x3: "=I", 0x4: "=Q", 0xA: "=h", 0xB: "=i", 0xC: "=q"}
_PC_RELATIVE = 0x10
_LONGEST = 1 << 32  # addresses that a row can hold
_REMEMBERED, _SHORT = 1 << 14, 48  # call frame programs, and bytes of each
_PADDING = 15  # between functions: nothing runs there
# whoever writes the file is not to be trusted; libLLVM has 5 MB of it
_MOST_FUNCTIONS, _MOST_ROWS = 1 << 20, 1 << 21
_MOST_BYTES, _LONGEST_ENTRY = 1 << 25, 1 << 16


def rows(elf: Elf) -> array[int]:
    """The rows of a file by address, packed as the kernel half reads them; ValueError without."""
    try:
        return _Reader(elf).rows()
    except (LookupError, struct.error, OverflowError) as error:
        raise ValueError(f"its .eh_frame is damaged: {error}") from error


class _Reader:
    def __init__(self, elf: Elf) -> None:
        self._data = elf.data
        self._header = next((each for each in elf.segments() if each[0] == _PT_GNU_EH_FRAME), None)
        self._read = 0  # bytes of FDEs
        self._cies: dict[int, Cie] = {}
        self._programs: dict[tuple[int, bytes], list[tuple[int, int]]] = {}

    def rows(self) -> array[int]:
        found = array("Q")
        ends, last = 0, -1
        uncovered = pack(Rule.UNCOVERED)
        for place in self._entries():
            start, size, lines = self._entry(place)
            if not 0 <= start < _LONGEST - size:
                raise ValueError("its addresses are too large")
            if start < ends or size <= 0:  # the same function twice: the first is taken
                continue
            if start > ends + _PADDING and last not in (-1, uncovered):
                found.append(ends | uncovered)
                last = uncovered
            for offset, packed in lines:
                if packed != last and offset < size:
                    found.append(start + offset | packed)
                    last = packed
            ends = start + size
            if len(found) > _MOST_ROWS:
                raise ValueError("it has too many rows")
        found.append(ends | uncovered)
        return found

    def _entries(self) -> Iterator[int]:
        """Where in the file each FDE is, by the address of its function."""
        if self._header is None or not self._header[4]:
            raise ValueError("it has no .eh_frame_hdr")
        _, offset, address, *_ = self._header
        self._shift = address - offset  # of .eh_frame, too, which is in the same segment
        version, frame, count, table = self._data[offset : offset + 4]
        if version != 1 or table != _SORTED_TABLE:
            raise ValueError("its .eh_frame_hdr has no sorted table")
        _, at = self._pointer(frame, offset + 4, 0)
        number, at = self._pointer(count, at, 0)
        if number > _MOST_FUNCTIONS:
            raise ValueError("it has too many functions")
        for _, entry in struct.iter_unpack("=ii", self._data[at : at + 8 * number]):
            yield offset + entry

    def _entry(self, at: int) -> tuple[int, int, list[tuple[int, int]]]:
        """Address and size of a function, and its rows, from its start on."""
        length, back = struct.unpack_from("=II", self._data, at)
        self._read += length
        if not back or length > _LONGEST_ENTRY:
            raise ValueError("an FDE is of a kind that is not read")
        if self._read > _MOST_BYTES:
            raise ValueError("it is too large")
        end = at + 4 + length
        place = at + 4 - back
        cie = self._cies.get(place) or self._cies.setdefault(place, self._cie(place))
        start, following = self._pointer(cie.encoding, at + 8, at + 8 + self._shift)
        size, following = self._pointer(cie.encoding & 0xF, following, 0)
        if cie.augmented:
            skipped, following = uleb(self._data, following)
            following += skipped
        code = self._data[following:end]
        key = place, code
        found = self._programs.get(key)
        if found is None:
            found = rows_of(code, cie)
            if len(code) <= _SHORT and len(self._programs) < _REMEMBERED:
                self._programs[key] = found
        return start, size, found

    def _cie(self, at: int) -> Cie:
        data = self._data
        length, number, version = struct.unpack_from("=IIB", data, at)
        if number or version not in (1, 3) or length > _LONGEST_ENTRY:
            raise ValueError("a CIE is of a kind that is not read")
        end = at + 4 + length
        limit = data.find(b"\0", at + 9, end)
        if limit < 0:
            raise ValueError("a CIE does not end")
        letters = data[at + 9 : limit].decode()
        code, at = uleb(data, limit + 1)
        factor, at = sleb(data, at)
        at = at + 1 if version == 1 else uleb(data, at)[1]  # the column of return addresses
        encoding = 0
        if letters.startswith("z"):
            size, at = uleb(data, at)
            following = at + size
            for letter in letters[1:]:
                if letter == "R":
                    encoding = data[at]
                    at += 1
                elif letter == "L":
                    at += 1
                elif letter == "P":
                    at += 1 + struct.calcsize(_POINTERS[data[at] & 0xF])
                elif letter not in "SB":
                    break
            at = following
        elif letters:
            raise ValueError(f"a CIE has the augmentation {letters}")
        cie = Cie(code, factor, encoding, bool(letters), Cfa())
        rows_of(data[at:end], cie, keep=True)
        return cie

    def _pointer(self, encoding: int, at: int, address: int) -> tuple[int, int]:
        """A pointer, and what follows it; `address` is where it is when the file is loaded."""
        kind, applied = encoding & 0xF, encoding & 0x70
        if kind not in _POINTERS or applied not in (0, _PC_RELATIVE):
            raise ValueError(f"its pointers are encoded as {encoding:#x}")
        (value,) = struct.unpack_from(_POINTERS[kind], self._data, at)
        return value + (address if applied else 0), at + struct.calcsize(_POINTERS[kind])
