"""Cuts a full vmlinux.h down to what the programs of bpf/ use; `make -C bpf vmlinux` runs it.

    trim.py FULL SOURCES... > COMPILED            the whole, with no name that the programs define
    trim.py COMPILED SOURCES... -- OBJECTS... > HEADER

FULL is what `bpftool btf dump file ... format c` writes, OBJECTS are the programs compiled with
it. Of a struct those members stay to which an object records a relocation: the loader looks them
up in the running kernel by name, so that the others do not matter. Whole stay structs that
programs have by value, and those that hold nothing but numbers: they are formats (of packets, of
system calls), whose size counts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

if __package__:
    from bpf.vmlinux.relocations import Relocation, relocations
else:  # run as a script
    from relocations import Relocation, relocations  # type: ignore[import-not-found,no-redef]

# what libbpf's own headers ask of every vmlinux.h
BASIC = (
    "__s8", "__u8", "__s16", "__u16", "__s32", "__u32", "__s64", "__u64", "__be16", "__be32",
    "__be64", "__wsum", "bool", "u8", "u16", "u32", "u64",
)  # fmt: skip
_OPENS = re.compile(r"^(typedef )?(struct|union|enum)(?: (\w+))? \{$")
_CLOSES = re.compile(r"^\t*\}(?: (\w+))?(.*);$")
_TYPEDEF = re.compile(r"^typedef .*?(?:\(\*(\w+)\)\(.*\)|(\w+)(?:\[\w*\])*);$")
_MEMBER = re.compile(r"(?:\(\**(\w+)(?:\[\w*\])*\)\(.*\)|(\w+)(?:\[\w*\])*(?:: *\d+)?);$")
_TAGGED = re.compile(r"\b(struct|union|enum) (\w+)\b *(\*?)")
_BY_VALUE = r"\b{0} +\w|(?:sizeof|__type)\([^()]*\b{0}\)"
_ALIAS = re.compile(r"^__|_t$")
_ENUMERATOR = re.compile(r"^\t(\w+) = ", re.M)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"[^\"\n]*\"", re.S)


@dataclass
class Block:
    """A declaration, or a struct within one: a line, or head and tail with parts between."""

    name: str
    head: str
    tail: str = ""
    parts: list[Block] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As it is printed."""
        yield self.head
        if self.tail:
            for part in self.parts:
                yield from part.lines()
            yield self.tail

    def only(self, members: set[str]) -> Block:
        """It with these members alone, at any depth."""
        kept = [part.only(members) if part.tail else part for part in self.parts]
        kept = [each for each in kept if each.parts or (each.name in members and not each.tail)]
        return Block(self.name, self.head, self.tail, kept)


def parsed(full: str) -> dict[str, Block]:
    """The declarations by name, in order; `struct sock`, `u8`, and ` 7` of what has no name."""
    found: dict[str, Block] = {}
    rows = iter(full.splitlines())
    for row in rows:
        if opened := _OPENS.match(row):
            alias, word, name = opened.groups()
            block = _block(row, rows)
            block.name = block.name if alias else f"{word} {name}" if name else f" {len(found)}"
            found[block.name] = block
        elif (match := _TYPEDEF.match(row)) and (name := match[1] or match[2]):
            found[name] = Block(name, row)
    return found


def _block(head: str, rows: Iterator[str]) -> Block:
    block = Block("", head)
    for row in rows:
        if closed := _CLOSES.match(row):
            block.name, block.tail = closed[1] or "", row
            break
        if row.endswith("{"):
            block.parts.append(_block(row, rows))
        elif row.strip():
            member = _MEMBER.search(row) or re.match(r"\t(\w+)()", row)
            block.parts.append(Block(member[1] or member[2] if member else "", row))
    return block


class Trimming:
    """Follows what is used, from the sources and relocations to declarations of the full header."""

    def __init__(self, full: dict[str, Block], text: str, told: Iterable[Relocation]) -> None:
        self._full, self._text = full, _COMMENT.sub(" ", text)
        self._members: dict[str, set[str]] = {}
        self._whole: set[str] = set()
        self._used: set[str] = set()
        self._mentioned: set[str] = set()
        told = list(told)
        for each in told:  # all of them before the first declaration is cut
            for step in each.path:
                self._members.setdefault(step.type, set()).add(step.member)
        for name in [*BASIC, *self._roots(), *self._members, *(each.root for each in told)]:
            self._use(name)

    def header(self) -> Iterator[str]:
        """The lines of the trimmed header."""
        for name in sorted(each for each in self._mentioned if not each.startswith("enum ")):
            yield f"{name};"
        for name, block in self._full.items():
            if name in self._used:
                yield ""
                yield from self._cut(block).lines()

    def _roots(self) -> Iterator[str]:
        """What the sources name: types, and enumerations by what is in them."""
        words = set(re.findall(r"\w+", self._text)) - own_names(self._text)
        yield from (name for name in self._full if name in words and _ALIAS.search(name))
        for name, block in self._full.items():
            if block.head.startswith("enum") and {part.name for part in block.parts} & words:
                yield name
        for word, name, _ in _TAGGED.findall(self._text):
            tagged = f"{word} {name}"
            if re.search(rf"\b{tagged}\s*\{{", self._text):  # the sources' own
                continue
            self._mentioned.add(tagged)
            if re.search(_BY_VALUE.format(tagged), self._text):
                self._whole.add(tagged)
            yield tagged

    def _cut(self, block: Block) -> Block:
        if not block.tail or "enum" in block.head or block.name in self._whole:
            return block
        if not self._points(block.name):
            return block
        return block.only(self._members.get(block.name, set()))

    def _points(self, name: str, above: frozenset[str] = frozenset()) -> bool:
        """Whether it or what it holds has pointers: then it is an object of the kernel."""
        text, above = "\n".join(self._full[name].lines()), above | {name}
        inner = {f"{word} {tag}" for word, tag, _ in _TAGGED.findall(text)}
        inner = (inner | set(re.findall(r"\w+", text))) & self._full.keys() - above
        return "*" in text or any(self._points(each, above) for each in inner)

    def _use(self, name: str) -> None:
        if name in self._used or name not in self._full:
            return
        self._used.add(name)
        block = self._cut(self._full[name])
        own = name.rpartition(" ")[2]
        for line in block.lines():
            for word, tag, pointer in _TAGGED.findall(line):
                self._mentioned.add(f"{word} {tag}")
                if not pointer or word == "enum":
                    self._use(f"{word} {tag}")
            if "enum" not in block.head:
                for word in re.findall(r"\w+", line):
                    if word != own and not self._is_member(block, word):
                        self._use(word)

    def _is_member(self, block: Block, word: str) -> bool:
        return any(part.name == word and word not in BASIC for part in block.parts)


def own_names(text: str) -> set[str]:
    """Enumerators and macros that the sources define."""
    text = _COMMENT.sub(" ", text)
    bodies = re.findall(r"\benum(?: \w+)? \{([^}]*)\}", text)
    found = {name for body in bodies for name in re.findall(r"[A-Za-z_]\w*", body)}
    return found | set(re.findall(r"#define (\w+)", text))


def without_clashes(full: str, text: str) -> str:
    """The full header with other names for enumerators that the sources define, too.

    On arm64 a driver has an OPEN.
    """
    own = own_names(text)
    return _ENUMERATOR.sub(lambda m: f"\t{m[1]}{'___kernel' * (m[1] in own)} = ", full)


def main(arguments: list[str]) -> None:
    """Print the header."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    full, *sources = (Path(each).read_text() for each in arguments[:cut])
    text = "\n".join(sources)
    if cut == len(arguments):
        sys.stdout.write(without_clashes(full, text))
        return
    told = [each for path in arguments[cut + 1 :] for each in relocations(Path(path))]
    print(*Trimming(parsed(full), text, told).header(), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
