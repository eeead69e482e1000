"""bpf/profile_tables.bpf.h compiled for this machine, against plain Python on made-up stacks."""

from __future__ import annotations

import ctypes
import random
import shutil
import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from ctypes import c_bool, c_char, c_uint32, c_uint64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes

pytestmark = pytest.mark.bpf

HERE = Path(__file__).parent
CASES = 20_000
PROCESS, STRANGER = 7, 8
MAPPINGS = 128
WORD = 2**64
STACK = 0x7FFC_0000_0000
ROW = struct.Struct("=IhbB")  # struct row
BY_RSP, BY_RBP, BY_PLT, OUTERMOST, UNCOVERED, EXPRESSION, OTHER_BASE, ELSEWHERE, FAR = range(9)
GOES_ON, WHOLE, NO_TABLE, NO_EXPRESSION, NO_REGISTER, NO_PLACE, NO_OFFSET, NO_MAPPINGS = range(8)
UNREADABLE = 8
ENDS = {
    OUTERMOST: WHOLE, EXPRESSION: NO_EXPRESSION, OTHER_BASE: NO_REGISTER, ELSEWHERE: NO_PLACE,
    FAR: NO_OFFSET,
}  # fmt: skip


class Walk(ctypes.Structure):
    """struct walk."""

    _fields_ = (("ip", c_uint64), ("sp", c_uint64), ("bp", c_uint64))


class Mapping(ctypes.Structure):
    """struct mapping."""

    _fields_ = (
        ("start", c_uint64),
        ("limit", c_uint64),
        ("shift", c_uint64),
        ("first", c_uint32),
        ("count", c_uint32),
    )


class Mappings(ctypes.Structure):
    """struct mappings."""

    _fields_ = (("start_stack", c_uint64), ("count", c_uint64), ("each", Mapping * MAPPINGS))


@dataclass(frozen=True)
class At:
    """Where a walk is."""

    ip: int
    sp: int
    bp: int


@dataclass(frozen=True)
class Code:
    """A mapping and its rows: from where on, the CFA, rbp, and the rule."""

    start: int
    limit: int
    shift: int
    rows: Sequence[tuple[int, int, int, int]]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    gcc = shutil.which("gcc")  # which has its sanitizers with it
    assert gcc is not None
    library = tmp_path_factory.mktemp("host") / "tables_host.so"
    flags = ["-O1", "-shared", "-fPIC", "-fno-strict-aliasing", "-Wall", "-Werror"]
    checks = ["-fsanitize=undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=all"]
    source = str(HERE / "tables_host.c")
    argv = [gcc, *flags, *checks, f"-I{HERE.parents[1] / 'bpf'}", source, "-o", str(library)]
    processes.run(argv, timeout=120)
    loaded = ctypes.CDLL(str(library))
    loaded.row_of.restype = c_uint64
    loaded.mapping_of.argtypes = (c_uint32, c_uint64)
    return loaded


class Machine:
    """The maps and the stack of the process, as the programs have them."""

    def __init__(self, host: Any, codes: Sequence[Code], stack: bytes, mixed: bool) -> None:
        self._host = host
        own = Mappings.in_dll(host, "own")
        own.count, first, rows = len(codes), 0, b""
        for each, code in zip(own.each, codes, strict=False):
            each.start, each.limit, each.shift = code.start, code.limit, code.shift
            each.first, each.count = first, len(code.rows)
            first += len(code.rows)
            rows += b"".join(ROW.pack(*row) for row in code.rows)
        (c_char * max(len(rows), 1)).in_dll(host, "all_rows").raw = rows or b"\0"
        (c_char * 4096).in_dll(host, "stack").raw = stack.ljust(4096, b"\0")
        c_uint64.in_dll(host, "stack_start").value = STACK
        c_uint64.in_dll(host, "stack_size").value = len(stack)
        c_bool.in_dll(host, "targ_mixed").value = mixed

    def step(self, at: At, process: int, back: int) -> tuple[int, At]:
        walked = Walk.in_dll(self._host, "walked")
        walked.ip, walked.sp, walked.bp = at.ip, at.sp, at.bp
        end = self._host.step(process, back)
        return end, At(walked.ip, walked.sp, walked.bp)


def stepped(codes: Sequence[Code], stack: bytes, mixed: bool, at: At, back: int) -> tuple[int, At]:
    """What a step of the process must do: where it ends, and where that leaves the walk."""

    def into_caller(cfa: int, rbp: int) -> tuple[int, At]:
        cfa %= WORD
        places = [cfa - 8, *([cfa + rbp] if rbp else [])]
        words = [word(stack, place % WORD) for place in places]
        if cfa <= at.sp or None in words:
            return UNREADABLE, at
        ip, bp = words[0] or 0, words[-1] if rbp else at.bp
        return (GOES_ON, At(ip, cfa, bp or 0)) if ip else (WHOLE, at)

    def by_frame_pointer() -> tuple[int, At]:
        if not mixed:
            return NO_TABLE, at
        if not at.bp:
            return WHOLE, at
        return (NO_TABLE, at) if at.bp % 8 else into_caller(at.bp + 16, -16)

    place = (at.ip - back) % WORD
    code = next((each for each in codes if each.start <= place < each.limit), None)
    row = None if code is None else row_at(code.rows, (place - code.shift) % 2**32)
    if row is None or row[3] == UNCOVERED:
        return by_frame_pointer()
    _, cfa, rbp, rule = row
    if rule in ENDS:
        return ENDS[rule], at
    if rule == BY_PLT:
        return into_caller(at.sp + (16 if at.ip % 16 >= cfa % 2**16 else 8), 8 * rbp)
    return into_caller((at.bp if rule == BY_RBP else at.sp) + 8 * cfa, 8 * rbp)


def word(stack: bytes, place: int) -> int | None:
    at = place - STACK
    return int.from_bytes(stack[at : at + 8], "little") if 0 <= at <= len(stack) - 8 else None


def row_at(
    rows: Sequence[tuple[int, int, int, int]], address: int
) -> tuple[int, int, int, int] | None:
    found = bisect_right([row[0] for row in rows], address)
    return rows[found - 1] if found else None


def codes_of(chance: random.Random) -> list[Code]:
    codes, place = [], 0x40_0000
    for _ in range(chance.choice([0, 1, 2, 5, MAPPINGS])):
        place += chance.choice([0, 4096])
        size = 4096 * chance.randint(1, 3)
        count = chance.choice([0, 1, 2, 3, 40])
        starts = sorted(chance.sample(range(size), count))
        rows = [
            (
                start,
                chance.choice([1, 2, 3, 8, -1, 100, 32767, -32768]),
                chance.choice([0, 0, -2, -1, 1, 127, -128]),
                chance.choice([BY_RSP] * 5 + [BY_RBP] * 3 + list(range(9))),
            )
            for start in starts
        ]
        codes.append(Code(place, place + size, place, rows))
        place += size
    return codes


def walks(chance: random.Random, codes: Sequence[Code], stack: bytes) -> At:
    edges = [edge for code in codes for edge in (code.start, code.limit)]
    edges += [code.shift + row[0] for code in codes for row in code.rows]
    ip = chance.choice(edges or [0]) + chance.randint(-2, 20)
    sp = STACK + 8 * chance.randint(-1, len(stack) // 8)
    bp = chance.choice([0, sp, sp + 8, sp + 16, sp + 4, 8, WORD - 8, STACK])
    return At(ip % WORD, sp, bp % WORD)


def test_steps_as_the_reference_does(host: Any) -> None:
    chance = random.Random(15)
    ends = set()
    for _ in range(CASES // 40):
        codes, mixed = codes_of(chance), chance.random() < 0.5
        words = [chance.choice([0, chance.getrandbits(47)]) for _ in range(chance.randint(0, 64))]
        stack = struct.pack(f"={len(words)}Q", *words)
        machine = Machine(host, codes, stack, mixed)
        for _ in range(40):
            at, back = walks(chance, codes, stack), chance.randint(0, 1)
            expected = stepped(codes, stack, mixed, at, back)
            assert machine.step(at, PROCESS, back) == expected, (codes, stack, mixed, at, back)
            ends.add((expected[0], mixed))
    assert len(ends) > 14  # all ways to end, but that of who has no mappings


def test_a_process_that_is_not_known_has_no_mappings(host: Any) -> None:
    at = At(0x40_0001, STACK, STACK)
    stack = struct.pack("=3Q", STACK + 64, 0x1234, 0)
    assert Machine(host, [], stack, False).step(at, STRANGER, 0) == (NO_MAPPINGS, at)
    caller = replace(at, ip=0x1234, sp=STACK + 16, bp=STACK + 64)
    assert Machine(host, [], stack, True).step(at, STRANGER, 0) == (GOES_ON, caller)


def test_the_longest_tables_are_searched_to_their_ends(host: Any) -> None:
    count = (1 << 21) - 1
    rows = array("Q", (1 << 32 | 16 * i for i in range(count))).tobytes()  # struct row each
    (c_char * len(rows)).in_dll(host, "all_rows").raw = rows
    for at in (0, 1, 2, count // 2, count - 2, count - 1):
        for within in (0, 15):
            found = host.row_of(0, count, c_uint32(16 * at + within))
            assert found & (2**32 - 1) == 16 * at
