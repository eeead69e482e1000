"""The rows of .eh_frame are those that readelf tells, for all of libc and of this Python."""

from __future__ import annotations

import bisect
import contextlib
import os
import platform
import random
import re
import shutil
import sys
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.agent import eh_frame
from harness.agent.call_frames import Cfa, Cie, Row, Rule, rows_of, unpack
from harness.agent.elf import Elf
from harness.agent.memory import Memory, mappings
from harness.linux import processes

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="rules are for x86_64")
_FUNCTION = re.compile(r" FDE .* pc=([0-9a-f]+)\.\.([0-9a-f]+)")
_OWN = {each.path for each in mappings(os.getpid())}
LIBC = next((Path(each) for each in _OWN if "/libc.so" in each), Path("/nowhere"))
FILES = (LIBC, Path(os.path.realpath(sys.executable)))


def rows(path: Path) -> array[int]:
    with closing(Elf(path)) as elf:
        return eh_frame.rows(elf)


def told(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """(address, CFA, rbp, return address) of each line of a function as readelf interprets it."""
    argv = ["readelf", "--debug-dump=frames-interp", "--debug-dump=no-follow-links", str(path)]
    text = processes.run(argv, timeout=300).stdout
    for entry in re.sub(r" \(\w+\)", "", text).split("\n\n"):
        function = _FUNCTION.search(entry)
        if function is None:
            continue
        header, *lines = [line.split() for line in entry.strip().splitlines()[1:]] or [[]]
        if not header:  # it has the line of its CIE alone, or says that nobody called it
            yield int(function[1], 16), "rsp+8", "u", "?"
        for line in lines:
            said = dict(zip(header, line, strict=True))
            yield int(said["LOC"], 16), said["CFA"], said.get("rbp", "u"), said["ra"]


def wanted(cfa: str, rbp: str, returns: str) -> set[Row]:
    """What may be in the row, its start left out."""
    outermost = Row(0, Rule.OUTERMOST, 0, 0)
    if returns == "u":
        return {outermost}
    if returns == "?":
        return {outermost, Row(0, Rule.BY_RSP, 1, 0)}
    if returns != "c-8" or rbp[0] in "erv":  # an expression, a register, a value
        return {Row(0, Rule.ELSEWHERE, 0, 0)}
    saved = int(rbp[1:]) // 8 if rbp.startswith("c") else 0
    if cfa == "exp":
        plts = {Row(0, Rule.BY_PLT, literal, saved) for literal in (10, 11)}
        return plts | {Row(0, Rule.EXPRESSION, 0, 0)}
    register, offset = re.fullmatch(r"([a-z0-9]+)([+-]\d+)", cfa).groups()  # type: ignore[union-attr]
    if register not in ("rsp", "rbp"):
        return {Row(0, Rule.OTHER_BASE, 0, 0)}
    rule = Rule.BY_RSP if register == "rsp" else Rule.BY_RBP
    return {Row(0, rule, int(offset) // 8, saved)}


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
@pytest.mark.parametrize("path", FILES, ids=lambda each: each.name)
def test_every_line_of_readelf_has_its_row(path: Path) -> None:
    found = rows(path)
    starts = [each & 0xFFFFFFFF for each in found]
    assert starts == sorted(set(starts))
    seen = 0
    for address, *rules in told(path):
        row = unpack(found[bisect.bisect(starts, address) - 1])
        assert row._replace(start=0) in wanted(*rules), f"{address:#x}: {rules}, and {row}"
        seen += 1
    assert seen > (10_000 if path == LIBC else 0)
    assert {unpack(each).rule for each in found} >= {Rule.BY_RSP, Rule.OUTERMOST}


def test_the_vdso_has_rows_and_a_damaged_one_an_error_of_one_kind() -> None:
    vdso = next((each for each in mappings(os.getpid()) if each.path == "[vdso]"), None)
    if vdso is None:
        pytest.skip("this kernel has none")
    with closing(Memory(os.getpid())) as memory:
        image = memory.read(vdso.start, vdso.limit - vdso.start)
    found = [unpack(each) for each in eh_frame.rows(Elf(Path(vdso.path), image))]
    assert {Rule.BY_RSP} <= {each.rule for each in found}
    dice = random.Random(15)
    for _ in range(300):
        damaged = bytearray(image)
        for _ in range(dice.randint(1, 60)):
            byte = dice.choice((0, 1, 0x7F, 0xFF, dice.getrandbits(8)))
            damaged[dice.randrange(5, len(image))] = byte
        with contextlib.suppress(ValueError):
            eh_frame.rows(Elf(Path(vdso.path), bytes(damaged)))


def test_what_is_cut_or_not_elf_is_an_error_of_one_kind(tmp_path: Path) -> None:
    whole = LIBC.read_bytes()
    for size in (64, 1 << 10, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / "cut").write_bytes(whole[:size])
        with contextlib.suppress(ValueError):
            rows(tmp_path / "cut")


@pytest.mark.parametrize(
    ("instructions", "row"),
    [
        ("0c0708 9001", Row(0, Rule.BY_RSP, 1, 0)),
        ("0c0708 9001 0e10 8602", Row(0, Rule.BY_RSP, 2, -2)),
        ("0c0708 9001 0e10 8602 0d06", Row(0, Rule.BY_RBP, 2, -2)),
        ("0c0708 9001 0e10 8602 0a 0c0708 0b", Row(0, Rule.BY_RSP, 2, -2)),
        ("0c0708 9001 8602 c6", Row(0, Rule.BY_RSP, 1, 0)),
        ("0c0708 9001 0710", Row(0, Rule.OUTERMOST, 0, 0)),
        ("0c0708 9001 0c0a00", Row(0, Rule.OTHER_BASE, 0, 0)),
        ("0c0708 9001 0ecc8080 04", Row(0, Rule.FAR, 0, 0)),
        ("0c0708 9001 0e09", Row(0, Rule.FAR, 0, 0)),
        ("0c0708 9001 10060276 00", Row(0, Rule.ELSEWHERE, 0, 0)),
        ("0c0708 9001 0f03770806", Row(0, Rule.EXPRESSION, 0, 0)),
        ("0c0708 9001 0f0b77088000 3f1a3b2a332422", Row(0, Rule.BY_PLT, 11, 0)),
        ("0c0708 9001 2e10 1006 0277 00", Row(0, Rule.ELSEWHERE, 0, 0)),
        ("0c0708", Row(0, Rule.ELSEWHERE, 0, 0)),
    ],
)
def test_instructions_make_the_row(instructions: str, row: Row) -> None:
    cie = Cie(1, -8, 0x1B, True, Cfa())
    ((place, packed),) = rows_of(bytes.fromhex(instructions), cie)
    assert (place, unpack(packed)) == (0, row)


def test_an_instruction_that_is_not_known_is_told() -> None:
    cie = Cie(1, -8, 0x1B, True, Cfa())
    with pytest.raises(ValueError, match="0x3c"):
        rows_of(b"\x3c\x01", cie)


def test_a_number_without_an_end_is_not_read_for_ever() -> None:
    cie = Cie(1, -8, 0x1B, True, Cfa())
    with pytest.raises(ValueError, match="does not end"):
        rows_of(b"\x0e" + 100 * b"\xff", cie)
