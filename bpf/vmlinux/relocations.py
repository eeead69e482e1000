"""The CO-RE relocations that a BPF object records, by names; trim.py and tests read them.

    relocations.py FOLDER OTHER    whether the objects in both are the same code, once loaded

The format: https://docs.kernel.org/bpf/btf.html, and include/uapi/linux/bpf.h of Linux (struct
bpf_core_relo, enum bpf_core_relo_kind).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = (
    "byte_off", "byte_sz", "field_exists", "signed", "lshift_u64", "rshift_u64", "local_type_id",
    "target_type_id", "type_exists", "type_size", "enumval_exists", "enumval_value",
    "type_matches",
)  # fmt: skip
_FIELDS, _ENUMS = KINDS[:6], KINDS[10:12]
_ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _ENUM64 = 3, 4, 5, 6, 8, 19
_MODIFIERS = {_TYPEDEF, 9, 10, 11, 18}  # volatile, const, restrict, type_tag
_WORDS = {_STRUCT: "struct ", _UNION: "union ", _ENUM: "enum ", _ENUM64: "enum "}
# bytes after the twelve of each type: these, and so many for each of `vlen`
_FIXED = {1: 4, _ARRAY: 12, 14: 4, 17: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, 13: 8, 15: 12, _ENUM64: 12}


@dataclass(frozen=True)
class Step:
    """A member on the way: of which type, by which name; an anonymous type is its outer one's."""

    type: str
    member: str


@dataclass(frozen=True)
class Relocation:
    """What the loader finds in the running kernel, and writes into the instruction at `offset`."""

    section: str
    offset: int
    kind: str
    root: str
    path: tuple[Step, ...]

    @property
    def named(self) -> tuple[str, str, str, str]:
        """It without numbers, which other headers have otherwise."""
        return self.section, self.kind, self.root, ".".join(s.member for s in self.path if s.member)


@dataclass(frozen=True)
class _Type:
    name: str
    kind: int
    of: int
    parts: tuple[tuple[str, int], ...]


def sections(path: Path) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file, by name."""
    data = path.read_bytes()
    (table,), (size, count, names) = (
        struct.unpack_from("<Q", data, 40), struct.unpack_from("<HHH", data, 58)
    )  # fmt: skip
    heads = [struct.unpack_from("<IIQQQQ", data, table + size * i) for i in range(count)]
    return {_text(data, heads[names][4] + h[0]): data[h[4] : h[4] + h[5]] for h in heads}


def relocations(path: Path) -> list[Relocation]:
    """Those of an object, in the order of its records."""
    found = sections(path)
    btf, ext = found[".BTF"], found[".BTF.ext"]
    header, strings = struct.unpack_from("<I", btf, 4)[0], struct.unpack_from("<I", btf, 16)[0]
    texts, types = btf[header + strings :], _types(btf)
    start, length = struct.unpack_from("<II", ext, 24)
    at = struct.unpack_from("<I", ext, 4)[0] + start
    end, size = at + length, struct.unpack_from("<I", ext, at)[0] if length else 0
    at, told = at + 4, []
    while at < end:
        name, count = struct.unpack_from("<II", ext, at)
        for i in range(count):
            record = struct.unpack_from("<IIII", ext, at + 8 + size * i)
            told.append(_relocation(_text(texts, name), record, texts, types))
        at += 8 + size * count
    return told


def _relocation(
    section: str, record: tuple[int, ...], texts: bytes, types: list[_Type]
) -> Relocation:
    offset, root, access, number = record
    kind, (name, place) = KINDS[number], _resolved(types, root, "")
    indexes = [int(each) for each in _text(texts, access).split(":")]
    if kind in _ENUMS:
        step = Step(name, types[place].parts[indexes[0]][0])
        return Relocation(section, offset, kind, name, (step,))
    if kind not in _FIELDS:
        return Relocation(section, offset, kind, name, ())
    path, outer = [], name
    for index in indexes[1:]:
        if types[place].kind == _ARRAY:
            member, place = "", types[place].of
        else:
            member, place = types[place].parts[index]
            path.append(Step(outer, member))
        outer, place = _resolved(types, place, outer)
    return Relocation(section, offset, kind, name, tuple(path))


def _resolved(types: list[_Type], place: int, outer: str) -> tuple[str, int]:
    """A type without what modifies it; without a name of its own it has a typedef's, or `outer`."""
    alias = ""
    while types[place].kind in _MODIFIERS:
        alias = types[place].name if types[place].kind == _TYPEDEF else alias
        place = types[place].of
    found = types[place]
    own = _WORDS.get(found.kind, "") + found.name if found.name else alias
    return own or outer, place


def _types(btf: bytes) -> list[_Type]:
    header, start, length, strings = struct.unpack_from("<IIII", btf, 4)
    texts, at, end = btf[header + strings :], header + start, header + start + length
    found = [_Type("void", 0, 0, ())]
    while at < end:
        name, info, of = struct.unpack_from("<III", btf, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        if kind == _ARRAY:
            (of,) = struct.unpack_from("<I", btf, at + 12)
        parts = tuple(_parts(btf, at + 12, kind, count, texts)) if kind in _WORDS else ()
        found.append(_Type(_text(texts, name), kind, of, parts))
        at += 12 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * count
    return found


def _parts(btf: bytes, at: int, kind: int, count: int, texts: bytes) -> Iterator[tuple[str, int]]:
    for i in range(count):
        name, of = struct.unpack_from("<II", btf, at + _EACH[kind] * i)
        yield _text(texts, name), of


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def differences(one: Path, other: Path) -> list[str]:
    """Where two objects differ in more than what the loader writes: members asked for, code."""
    told, others = relocations(one), relocations(other)
    asked = {each.named for each in told} ^ {each.named for each in others}
    found = [f"{one.name}: {' '.join(each)} is in one of them" for each in sorted(asked)]
    written = {(each.section, each.offset) for each in told}
    mine, theirs = sections(one), sections(other)
    for name in sorted(mine):
        if name.startswith(".") or mine[name] == theirs.get(name):
            continue
        pairs = [_instructions(each.get(name, b"")) for each in (mine, theirs)]
        same = len(pairs[0]) == len(pairs[1]) and all(
            a == b or ((name, 8 * i) in written and a[:2] == b[:2])  # code and registers
            for i, (a, b) in enumerate(zip(*pairs, strict=True))
        )
        found += [] if same else [f"{one.name}: {name} is other code"]
    return found


def _instructions(code: bytes) -> list[bytes]:
    return [code[at : at + 8] for at in range(0, len(code), 8)]


if __name__ == "__main__":
    folder, another = map(Path, sys.argv[1:])
    pairs = [(path, another / path.name) for path in sorted(folder.glob("*.bpf.o"))]
    sys.exit("\n".join(line for pair in pairs for line in differences(*pair)) or None)
