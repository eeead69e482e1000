"""BPF programs and links that are pinned in a BPF file system; for `subject_process`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.linux import mount, syscall


def remove(program_ids: Collection[int]) -> list[Path]:
    """Unpin what holds one of these programs; what was removed, and folders empty by that."""
    wanted, found = {*program_ids}, []
    for path in list(_pins()) if wanted else ():
        if _program_of(path) in wanted:
            with contextlib.suppress(OSError):  # it stays, and so do its programs
                path.unlink(missing_ok=True)
                found.append(path)
    root = mount.find("bpf")
    for path in found:
        if path.parent != root:
            with contextlib.suppress(OSError):  # somebody else's is in it
                path.parent.rmdir()
    return found


def _pins() -> Iterator[Path]:
    root = mount.find("bpf")
    for folder, _, names in os.walk(root) if root is not None else ():
        yield from (Path(folder) / name for name in names)


def _program_of(path: Path) -> int:
    """The id of the program that a pin is of, or of its link's; 0 if it is of none."""
    try:
        descriptor = syscall.pinned_fd(path)
    except OSError:  # an iterator's file, or it is gone
        return 0
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    return next((int(line.split()[1]) for line in lines if line.startswith("prog_id:")), 0)
