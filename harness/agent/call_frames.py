"""What the call frame instructions of a function say of its caller, as rows; used by eh_frame.

The rows are those of bpf/profile_tables.bpf.h: from an address on, the CFA is so many words from
rsp or rbp, and rbp lies so many from the CFA. The return address lies just below the CFA, or the
row says why the stack cannot be followed.

DWARF 5, section 6.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

ROW = struct.Struct("=IhbB")  # struct row
_RBP, _RSP, _RETURN = 6, 7, 16  # numbers of DWARF on x86-64
# of .plt: rsp + 8 + ((rip & 15) >= N) * 8, N a literal between these
_PLT = bytes.fromhex("7708 8000 3f1a"), bytes.fromhex("2a33 2422")
_LITERAL = 0x30  # DW_OP_lit0


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
class Cfa:
    """What the instructions have said of a caller by now; offsets in bytes."""

    register: int = -1
    offset: int = 0
    expression: bytes | None = None
    rbp: int | None = 0  # from the CFA; 0: as in the callee, None: elsewhere
    returns: int | None = 0  # from the CFA; None: elsewhere
    outermost: bool = False

    def copy(self) -> Cfa:
        """Another one that says the same."""
        return Cfa(**self.__dict__)

    def packed(self) -> int:
        """The row but for its start."""
        if self.outermost:
            return pack(Rule.OUTERMOST)
        if self.rbp is None or self.returns != -8:
            return pack(Rule.ELSEWHERE)
        if self.rbp % 8 or not -128 <= self.rbp // 8 <= 0:
            return pack(Rule.FAR)
        rbp = self.rbp // 8
        if self.expression is not None:
            literal = _plt_literal(self.expression)
            return pack(Rule.EXPRESSION) if literal is None else pack(Rule.BY_PLT, literal, rbp)
        if self.register not in (_RBP, _RSP):
            return pack(Rule.OTHER_BASE)
        if self.offset % 8 or not -(1 << 15) <= self.offset // 8 < 1 << 15:
            return pack(Rule.FAR)
        rule = Rule.BY_RSP if self.register == _RSP else Rule.BY_RBP
        return pack(rule, self.offset // 8, rbp)


@dataclass(frozen=True)
class Cie:
    """What entries of many functions have in common: factors, encoding, what holds at first."""

    code: int
    data: int
    encoding: int
    augmented: bool
    initial: Cfa


def unpack(packed: int) -> Row:
    """What a packed row says."""
    start, cfa, rbp, rule = ROW.unpack(packed.to_bytes(ROW.size, "little"))
    return Row(start, Rule(rule), cfa, rbp)


def pack(rule: Rule, cfa: int = 0, rbp: int = 0) -> int:
    """A row but for its start."""
    return (cfa & 0xFFFF) << 32 | (rbp & 0xFF) << 48 | rule << 56


def _plt_literal(expression: bytes) -> int | None:
    first, last = _PLT
    if len(expression) == 11 and expression[:6] == first and expression[7:] == last:
        literal = expression[6] - _LITERAL
        return literal if 0 <= literal < 16 else None
    return None


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128, and what follows it; ValueError if it has no end."""
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


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """A signed LEB128, and what follows it; ValueError if it has no end."""
    value, following = uleb(data, at)
    bits = 7 * (following - at)
    return (value - (1 << bits) if value >> (bits - 1) else value), following


def rows_of(code: bytes, cie: Cie, *, keep: bool = False) -> list[tuple[int, int]]:
    """The rows that call frame instructions make; with `keep` they are those of the CIE."""
    now = cie.initial if keep else cie.initial.copy()
    kept: list[Cfa] = []
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
            value, at = uleb(code, at)
            _saved(now, low, value * cie.data)
        elif high == 0xC0:  # restore
            _restore(now, low, cie.initial)
        else:
            at = _other(byte, code, at, now, kept, cie)
    found.append((place, now.packed()))
    return found


def _other(byte: int, code: bytes, at: int, now: Cfa, kept: list[Cfa], cie: Cie) -> int:
    """One of the instructions without an operand in its own byte; where the next one is."""
    if byte == 0x00:  # nop
        return at
    if byte == 0x0A:  # remember_state
        kept.append(now.copy())
        return at
    if byte == 0x0B:  # restore_state
        now.__dict__.update(kept.pop().__dict__)
        return at
    first, at = uleb(code, at) if byte != 0x13 else sleb(code, at)
    if byte == 0x0C:  # def_cfa
        now.offset, at = uleb(code, at)
        now.register, now.expression = first, None
    elif byte == 0x0D:  # def_cfa_register
        now.register, now.expression = first, None
    elif byte == 0x0E:  # def_cfa_offset
        now.offset = first
    elif byte == 0x0F:  # def_cfa_expression
        now.expression, at = code[at : at + first], at + first
    elif byte == 0x12:  # def_cfa_sf
        value, at = sleb(code, at)
        now.register, now.offset, now.expression = first, value * cie.data, None
    elif byte == 0x13:  # def_cfa_offset_sf
        now.offset = first * cie.data
    elif byte in (0x05, 0x2F):  # offset_extended, GNU_negative_offset_extended
        value, at = uleb(code, at)
        _saved(now, first, value * cie.data * (-1 if byte == 0x2F else 1))
    elif byte == 0x11:  # offset_extended_sf
        value, at = sleb(code, at)
        _saved(now, first, value * cie.data)
    elif byte == 0x06:  # restore_extended
        _restore(now, first, cie.initial)
    elif byte == 0x07:  # undefined
        now.outermost |= first == _RETURN
    elif byte == 0x08:  # same_value
        _saved(now, first, None if first == _RETURN else 0)
    elif byte in (0x09, 0x14, 0x15):  # register, val_offset, val_offset_sf
        _, at = uleb(code, at)
        _saved(now, first, None)
    elif byte in (0x10, 0x16):  # expression, val_expression
        size, at = uleb(code, at)
        at += size
        _saved(now, first, None)
    elif byte != 0x2E:  # GNU_args_size
        raise ValueError(f"there is the call frame instruction {byte:#x} in it")
    return at


def _saved(now: Cfa, register: int, offset: int | None) -> None:
    if register == _RBP:
        now.rbp = offset
    elif register == _RETURN:
        now.returns, now.outermost = offset, False


def _restore(now: Cfa, register: int, initial: Cfa) -> None:
    if register == _RBP:
        now.rbp = initial.rbp
    elif register == _RETURN:
        now.returns, now.outermost = initial.returns, initial.outermost
