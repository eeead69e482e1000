"""How the caller of each address is found, out of a file's .eh_frame; used by unwind_tables.

The rows are those of bpf/profile_tables.bpf.h: from an address on, the CFA is so many words from
rsp or rbp, and rbp lies so many from the CFA. The return address lies just below the CFA, or the
row says why the stack cannot be followed.

DWARF 5, section 6.4 and 7.24; Linux Standard Base Core 5.0, 10.6 (.eh_frame, .eh_frame_hdr).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from harness.agent.elf import Elf

ROW = struct.Struct("=IhbB")  # struct row
_RBP, _RSP, _RETURN = 6, 7, 16  # numbers of DWARF on x86-64
_PT_GNU_EH_FRAME = 0x6474E550
_SORTED_TABLE = 0x3B  # pairs of signed 32-bit offsets from .eh_frame_hdr
_POINTERS = {0x0: "=Q", 0x2: "=H", 0x3: "=I", 0x4: "=Q", 0xA: "=h", 0xB: "=i", 0xC: "=q"}
_PC_RELATIVE = 0x10
# of .plt: rsp + 8 + ((rip & 15) >= N) * 8, N a literal between these
_PLT = bytes.fromhex("7708 8000 3f1a"), bytes.fromhex("2a33 2422")
_LITERAL = 0x30  # DW_OP_lit0
_LONGEST = 1 << 32  # addresses that a row can hold
_REMEMBERED, _SHORT = 1 << 14, 48  # call frame programs, and bytes of each
_PADDING = 15  # between functions: nothing runs there
# whoever writes the file is not to be trusted; libLLVM has 5 MB of it
_MOST_FUNCTIONS, _MOST_ROWS = 1 << 20, 1 << 21
_MOST_BYTES, _LONGEST_ENTRY = 1 << 25, 1 << 16


class Rule(IntEnum):
    """`enum rule` of bpf/profile_tables.bpf.h."""

    BY_RSP = 0
    BY_RBP = 1
    BY_PLT = 2
    OUTERMOST = 3
    UNCOVERED = 4
    EXPRESSION = 5
    OTHER_BASE = 6
    ELSEWHERE = 7
    FAR = 8


class Row(NamedTuple):
    """One row, its offsets in words of 8 bytes."""

    start: int
    rule: Rule
    cfa: int
    rbp: int


@dataclass
class _Cfa:
    """What the instructions have said by now; offsets in bytes."""

    register: int = -1
    offset: int = 0
    expression: bytes | None = None
    rbp: int | None = 0  # from the CFA; 0: as in the callee, None: elsewhere
    returns: int | None = 0  # from the CFA; None: elsewhere
    outermost: bool = False

    def copy(self) -> _Cfa:
        return _Cfa(**self.__dict__)

    def packed(self) -> int:
        """The row but for its start."""
        if self.outermost:
            return _pack(Rule.OUTERMOST)
        if self.rbp is None or self.returns != -8:
            return _pack(Rule.ELSEWHERE)
        if self.rbp % 8 or not -128 <= self.rbp // 8 <= 0:
            return _pack(Rule.FAR)
        rbp = self.rbp // 8
        if self.expression is not None:
            literal = _plt_literal(self.expression)
            return _pack(Rule.EXPRESSION) if literal is None else _pack(Rule.BY_PLT, literal, rbp)
        if self.register not in (_RBP, _RSP):
            return _pack(Rule.OTHER_BASE)
        if self.offset % 8 or not -(1 << 15) <= self.offset // 8 < 1 << 15:
            return _pack(Rule.FAR)
        rule = Rule.BY_RSP if self.register == _RSP else Rule.BY_RBP
        return _pack(rule, self.offset // 8, rbp)


@dataclass(frozen=True)
class _Cie:
    code: int
    data: int
    encoding: int
    augmented: bool
    initial: _Cfa


def rows(elf: Elf) -> array[int]:
    """The rows of a file by address, packed as the kernel half reads them; ValueError without."""
    try:
        return _Reader(elf).rows()
    except (LookupError, struct.error, OverflowError) as error:
        raise ValueError(f"its .eh_frame is damaged: {error}") from error


def unpack(packed: int) -> Row:
    """What a packed row says."""
    start, cfa, rbp, rule = ROW.unpack(packed.to_bytes(ROW.size, "little"))
    return Row(start, Rule(rule), cfa, rbp)


class _Reader:
    def __init__(self, elf: Elf) -> None:
        self._data = elf.data
        self._header = next((each for each in elf.segments() if each[0] == _PT_GNU_EH_FRAME), None)
        self._read = 0  # bytes of FDEs
        self._cies: dict[int, _Cie] = {}
        self._programs: dict[tuple[int, bytes], list[tuple[int, int]]] = {}

    def rows(self) -> array[int]:
        found = array("Q")
        ends, last = 0, -1
        uncovered = _pack(Rule.UNCOVERED)
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
            skipped, following = _uleb(self._data, following)
            following += skipped
        code = self._data[following:end]
        key = place, code
        found = self._programs.get(key)
        if found is None:
            found = _run(code, cie)
            if len(code) <= _SHORT and len(self._programs) < _REMEMBERED:
                self._programs[key] = found
        return start, size, found

    def _cie(self, at: int) -> _Cie:
        data = self._data
        length, number, version = struct.unpack_from("=IIB", data, at)
        if number or version not in (1, 3) or length > _LONGEST_ENTRY:
            raise ValueError("a CIE is of a kind that is not read")
        end = at + 4 + length
        limit = data.find(b"\0", at + 9, end)
        if limit < 0:
            raise ValueError("a CIE does not end")
        letters = data[at + 9 : limit].decode()
        code, at = _uleb(data, limit + 1)
        factor, at = _sleb(data, at)
        at = at + 1 if version == 1 else _uleb(data, at)[1]  # the column of return addresses
        encoding = 0
        if letters.startswith("z"):
            size, at = _uleb(data, at)
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
        cie = _Cie(code, factor, encoding, bool(letters), _Cfa())
        _run(data[at:end], cie, keep=True)
        return cie

    def _pointer(self, encoding: int, at: int, address: int) -> tuple[int, int]:
        """A pointer, and what follows it; `address` is where it is when the file is loaded."""
        kind, applied = encoding & 0xF, encoding & 0x70
        if kind not in _POINTERS or applied not in (0, _PC_RELATIVE):
            raise ValueError(f"its pointers are encoded as {encoding:#x}")
        (value,) = struct.unpack_from(_POINTERS[kind], self._data, at)
        return value + (address if applied else 0), at + struct.calcsize(_POINTERS[kind])


def _pack(rule: Rule, cfa: int = 0, rbp: int = 0) -> int:
    return (cfa & 0xFFFF) << 32 | (rbp & 0xFF) << 48 | rule << 56


def _plt_literal(expression: bytes) -> int | None:
    first, last = _PLT
    if len(expression) == 11 and expression[:6] == first and expression[7:] == last:
        literal = expression[6] - _LITERAL
        return literal if 0 <= literal < 16 else None
    return None


def _uleb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise ValueError("a number does not end")
        if byte < 0x80:
            return value, at


def _sleb(data: bytes, at: int) -> tuple[int, int]:
    value, following = _uleb(data, at)
    bits = 7 * (following - at)
    return (value - (1 << bits) if value >> (bits - 1) else value), following


def _run(code: bytes, cie: _Cie, *, keep: bool = False) -> list[tuple[int, int]]:
    """The rows that call frame instructions make; with `keep` they are those of the CIE."""
    now = cie.initial if keep else cie.initial.copy()
    kept: list[_Cfa] = []
    found: list[tuple[int, int]] = []
    place = at = 0
    while at < len(code):
        byte = code[at]
        at += 1
        high, low = byte & 0xC0, byte & 0x3F
        if high == 0x40 or byte in (0x02, 0x03, 0x04):  # advance_loc
            found.append((place, now.packed()))
            if high:
                place += low * cie.code
            else:
                size = 1 << byte - 2
                place += int.from_bytes(code[at : at + size], "little") * cie.code
                at += size
        elif high == 0x80:  # offset
            value, at = _uleb(code, at)
            _saved(now, low, value * cie.data)
        elif high == 0xC0:  # restore
            _restore(now, low, cie.initial)
        else:
            at = _other(byte, code, at, now, kept, cie)
    found.append((place, now.packed()))
    return found


def _other(byte: int, code: bytes, at: int, now: _Cfa, kept: list[_Cfa], cie: _Cie) -> int:
    """One of the instructions without an operand in its own byte; where the next one is."""
    if byte == 0x00:  # nop
        return at
    if byte == 0x0A:  # remember_state
        kept.append(now.copy())
        return at
    if byte == 0x0B:  # restore_state
        now.__dict__.update(kept.pop().__dict__)
        return at
    first, at = _uleb(code, at) if byte != 0x13 else _sleb(code, at)
    if byte == 0x0C:  # def_cfa
        now.offset, at = _uleb(code, at)
        now.register, now.expression = first, None
    elif byte == 0x0D:  # def_cfa_register
        now.register, now.expression = first, None
    elif byte == 0x0E:  # def_cfa_offset
        now.offset = first
    elif byte == 0x0F:  # def_cfa_expression
        now.expression, at = code[at : at + first], at + first
    elif byte == 0x12:  # def_cfa_sf
        value, at = _sleb(code, at)
        now.register, now.offset, now.expression = first, value * cie.data, None
    elif byte == 0x13:  # def_cfa_offset_sf
        now.offset = first * cie.data
    elif byte in (0x05, 0x2F):  # offset_extended, GNU_negative_offset_extended
        value, at = _uleb(code, at)
        _saved(now, first, value * cie.data * (-1 if byte == 0x2F else 1))
    elif byte == 0x11:  # offset_extended_sf
        value, at = _sleb(code, at)
        _saved(now, first, value * cie.data)
    elif byte == 0x06:  # restore_extended
        _restore(now, first, cie.initial)
    elif byte == 0x07:  # undefined
        now.outermost |= first == _RETURN
    elif byte == 0x08:  # same_value
        _saved(now, first, None if first == _RETURN else 0)
    elif byte in (0x09, 0x14, 0x15):  # register, val_offset, val_offset_sf
        _, at = _uleb(code, at)
        _saved(now, first, None)
    elif byte in (0x10, 0x16):  # expression, val_expression
        size, at = _uleb(code, at)
        at += size
        _saved(now, first, None)
    elif byte != 0x2E:  # GNU_args_size
        raise ValueError(f"there is the call frame instruction {byte:#x} in it")
    return at


def _saved(now: _Cfa, register: int, offset: int | None) -> None:
    if register == _RBP:
        now.rbp = offset
    elif register == _RETURN:
        now.returns, now.outermost = offset, False


def _restore(now: _Cfa, register: int, initial: _Cfa) -> None:
    if register == _RBP:
        now.rbp = initial.rbp
    elif register == _RETURN:
        now.returns, now.outermost = initial.returns, initial.outermost
