"""A file system of layers, as containers have theirs; for tests of opened files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.linux import processes


@contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    """An overlay that is mounted at `folder`/merged; its lower layer has the file `watched`."""
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "lower" / "watched").write_text("watched\n")
    layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    processes.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(folder / "merged")])
    try:
        yield folder / "merged"
    finally:
        processes.run(["umount", "--lazy", str(folder / "merged")])
