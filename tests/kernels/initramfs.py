"""A first root file system for a kernel: busybox, the modules it needs and a script; for `machine`.

It is written here, for the tools of a distribution would take the modules of the running kernel.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.linux import processes
from tests.kernels.debian import Kernel

# to find the disk-less root, and what the tests mount; those that are built in are not looked for
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_HEADER = "070701" + "%08X" * 13


def write(path: Path, kernel: Kernel, script: Path, words: Sequence[tuple[str, str]]) -> None:
    """Write it to `path`; `words` are variables that `script`, its first process, is given."""
    modules = list(_needed(kernel))
    told = "".join(f"{name}='{value}'\n" for name, value in words)
    order = "".join(f"/modules/{name}.ko\n" for name, _ in modules)
    files = [
        ("bin/busybox", 0o755, kernel.busybox.read_bytes()),
        ("init", 0o755, script.read_bytes()),
        ("words", 0o644, told.encode()),
        ("order", 0o644, order.encode()),
        *((f"modules/{name}.ko", 0o644, content) for name, content in modules),
    ]
    path.write_bytes(gzip.compress(_archive(files), 1))


def _needed(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Each module after those it depends on: its name and what `insmod` takes."""
    places = {_plain(path.name): path for path in kernel.modules.rglob("*.ko*")}
    seen: set[str] = set()

    def follow(name: str) -> Iterator[tuple[str, bytes]]:
        if name in seen or name not in places:
            return
        seen.add(name)
        content = _unpacked(places[name])
        found = _DEPENDS.search(b"\0" + content)
        for each in found[1].decode().split(",") if found else []:
            yield from follow(_plain(each))
        yield name, content

    for name in MODULES:
        yield from follow(_plain(name))


def _plain(name: str) -> str:
    return name.partition(".")[0].replace("-", "_")


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".zst":
        processes.run(["zstd", "-dqk", str(path)])
        return path.with_suffix("").read_bytes()
    return content


def _archive(files: Sequence[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive (newc) of these, with the folders that they are in."""
    folders = sorted({os.path.dirname(name) for name, _, _ in files} - {""})
    entries = [
        (name, stat.S_IFDIR | 0o755, b"") for name in (*folders, "proc", "sys", "dev", "new")
    ]
    entries += [(name, stat.S_IFREG | mode, content) for name, mode, content in files]
    parts = [_entry(number, *each) for number, each in enumerate(entries, start=1)]
    return b"".join(parts) + _entry(0, "TRAILER!!!", 0, b"")


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    links = 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = (_HEADER % fields).encode() + encoded
    return _padded(head) + _padded(content)


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)
