"""Executions as the kernel has them: made up, and as guard_host.c reads them.

Used by guard_reference.py and test_guard_execution.py.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

Names = tuple[bytes, ...]  # from the top, whatever is mounted where and whose root is where
JAIL = (b"srv", b"jail")
NAMES = [
    b"srv", b"jail", b"a", b"evil.sh", b"ok", b"x.sh", b"...", b".hidden", b"\xff", b"dev", b"fd",
    b"n" * 200, b"m" * 255,
]  # fmt: skip
PROGRAMS = [
    b"python3", b"evil", b"evil.sh", b"ld-linux-x86-64.so.2", b"ld-2.31.so", b"ld-musl-x86_64.so.1",
    b"ld.so", b"ld", b"l",
]  # fmt: skip
VALUED = [
    b"--library-path", b"--inhibit-rpath", b"--audit", b"--preload", b"--argv0",
    b"--glibc-hwcaps-prepend", b"--glibc-hwcaps-mask",
]  # fmt: skip
PLAIN = [
    b"--list", b"--verify", b"--inhibit-cache", b"--list-tunables", b"--list-diagnostics",
    b"--help", b"--library-path=/a", b"--preload=b", b"--argv0=c", b"--",
]  # fmt: skip
LONGEST = 4095  # PATH_MAX - 1
_CLOSED = (2**32 - 1, 0)


@dataclass(frozen=True)
class Execution:
    """What there is when an execution is judged."""

    program: Names = (b"usr", b"bin", b"python3")  # what is executed in the end
    filename: bytes = b"/usr/bin/python3"  # as it was spelled
    args: Names = (b"python3",)
    is_script: bool = False
    root: Names = ()
    folder: Names = ()
    files: tuple[Names | None, ...] = ()  # by their descriptors, None for one that is closed
    mounts: frozenset[Names] = frozenset()  # where something is mounted
    in_no_folder: bool = False  # as what memfd_create makes
    unlinked: bool = False
    faults: bool = False  # its memory cannot be read just now


def encoded(cases: Iterable[Execution]) -> bytes:
    """What guard_host.c reads them from."""
    found = [_encoded(each) for each in cases]
    return struct.pack("=I", len(found)) + b"".join(found)


def _encoded(case: Execution) -> bytes:
    tree = _Tree(case.mounts)
    root, folder = tree.place(case.root), tree.place(case.folder)
    program = tree.apart(case.program[-1]) if case.in_no_folder else tree.place(case.program)
    opened = [_CLOSED if each is None else tree.place(each) for each in case.files]
    dentries = b"".join(struct.pack("=I", parent) + _text(name) for parent, name in tree.dentries)
    mounts = b"".join(struct.pack("=3I", *each) for each in tree.mounts)
    return b"".join(
        [
            struct.pack("=I", len(tree.dentries)) + dentries,
            struct.pack("=I", len(tree.mounts)) + mounts,
            struct.pack("=6I", *root, *folder, *program),
            struct.pack("=2I", not case.unlinked, len(opened)),
            *(struct.pack("=2I", *each) for each in opened),
            _text(case.filename + b"\0") + struct.pack("=I", case.is_script),
            _text(b"".join(each + b"\0" for each in case.args)),
            struct.pack("=2I", len(case.args), case.faults),
        ]
    )


def _text(text: bytes) -> bytes:
    return struct.pack("=I", len(text)) + text


@dataclass
class _Tree:
    """The kernel's: names by their parents, and what is mounted on them; parents by place."""

    mounted: frozenset[Names]
    dentries: list[tuple[int, bytes]] = field(default_factory=lambda: [(0, b"/")])
    mounts: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 0, 0)])
    places: dict[Names, tuple[int, int]] = field(default_factory=lambda: {(): (0, 0)})

    def place(self, names: Names) -> tuple[int, int]:
        """Mount and dentry."""
        if names not in self.places:
            above, parent = self.place(names[:-1])
            self.dentries.append((parent, names[-1]))
            found = above, len(self.dentries) - 1
            if names in self.mounted:
                self.dentries.append((len(self.dentries), b"/"))
                self.mounts.append((above, found[1], len(self.dentries) - 1))
                found = len(self.mounts) - 1, len(self.dentries) - 1
            self.places[names] = found
        return self.places[names]

    def apart(self, name: bytes) -> tuple[int, int]:
        """What is in no folder of a file system that is mounted nowhere."""
        self.dentries.append((len(self.dentries), b"/"))
        self.mounts.append((len(self.mounts), 0, len(self.dentries) - 1))
        self.dentries.append((len(self.dentries), name))
        return len(self.mounts) - 1, len(self.dentries) - 1


def made_up(chance: random.Random) -> Execution:
    """Any."""
    root = chance.choice([(), (), JAIL, JAIL[:1], _place(chance)])
    folder = _place(chance, root) if chance.random() < 0.8 else _place(chance)
    number = chance.choice([0, 1, 3, 12])
    files = tuple(_place(chance) if chance.random() < 0.8 else None for _ in range(number))
    program = (*_place(chance, root), chance.choice(PROGRAMS))
    places = [root, folder, program[:-1], *files]
    mounts = [each[: chance.randint(1, len(each))] for each in places if each]
    is_script = chance.random() < 0.4
    filename = _spelled(chance) if is_script else b"/" + program[-1]
    in_no_folder = chance.random() < 0.05
    return Execution(
        (b"memfd:" + program[-1],) if in_no_folder else program,
        filename,
        tuple(_args(chance, program[-1])),
        is_script,
        root,
        folder,
        files,
        frozenset(each for each in mounts if chance.random() < 0.4),
        in_no_folder,
        chance.random() < 0.1,
        chance.random() < 0.03,
    )


def _place(chance: random.Random, top: Names = ()) -> Names:
    if not top:
        top = chance.choice([(), JAIL[:1], JAIL])
    deep = (b"d" * chance.randint(190, 210),) * chance.randint(17, 24)
    more = tuple(chance.choices(NAMES, k=chance.randint(0, 3)))
    return (*top, *(deep if chance.random() < 0.03 else ()), *more)


def _spelled(chance: random.Random) -> bytes:
    number = chance.choice([0, 1, 2, 11, 12, 99, 1234567, 12345678])
    odd = [b"./", b"../", b"../../", b"//", b"/dev/fd/", b"/dev/fd/%d" % number]
    begin = chance.choice([b"/"] * 3 + [b""] * 3 + odd)
    more = chance.choices([*NAMES, b"..", b"..", b"..", b".", b""], k=chance.randint(0, 7))
    if chance.random() < 0.02:
        more += [chance.choice([b"..", b"d", b"w" * 200, b"v" * 300])] * chance.randint(10, 2000)
    end = chance.choice([b"evil.sh", b"evil", b"ok", b"--evil", b"", b"/"])
    text = begin + chance.choice([b"", b"", b"/"]) + b"/".join([*more, end])
    return text[:LONGEST] or b"x"


def _args(chance: random.Random, name: bytes) -> list[bytes]:
    """Of a loader, mostly: options, what it starts, and what that is told."""
    words = [name]
    for _ in range(chance.choice([0, 0, 1, 2, 5])):
        if chance.random() < 0.4:
            words.append(chance.choice(PLAIN))
            continue
        words += [chance.choice(VALUED), chance.choice([b"", b"/lib", b"--list", b"good"])]
        if chance.random() < 0.2:  # so that what follows is where reading ends
            so_far = sum(len(each) + 1 for each in words[:-1])
            words[-1] = b"/" * (LONGEST - so_far - 1 + chance.randint(-30, 3))
    if chance.random() < 0.9:
        words.append(_spelled(chance))
    return words + chance.choices([b"x", b"", b"/srv/jail/evil", b"y" * 90], k=chance.randint(0, 4))
