"""What is mounted where, from /proc/self/mountinfo; used by the local target and `doctor`."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.linux import syscall

POINTS: dict[str, Path] = {
    "tracefs": Path("/sys/kernel/tracing"),
    "debugfs": Path("/sys/kernel/debug"),
    "bpf": Path("/sys/fs/bpf"),
}


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: Path
    fstype: str


def parse(mountinfo: str) -> list[Mount]:
    """The mounts of a mountinfo text, in the order in which they were made."""
    mounts = []
    for line in filter(None, mountinfo.split("\n")):  # a path may hold what else ends a line
        before, _, after = line.partition(" - ")
        mounts.append(Mount(Path(_unescape(before.split(" ")[4])), after.split()[0]))
    return mounts


def mounts() -> list[Mount]:
    """What this process sees mounted now."""
    return parse(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def find(fstype: str) -> Path | None:
    """Where a file system of this type is mounted first, or None."""
    return next((mount.point for mount in mounts() if mount.fstype == fstype), None)


def is_mounted(point: Path) -> bool:
    """Whether something is mounted at exactly this directory."""
    return any(mount.point == point for mount in mounts())


def remove(point: Path) -> None:
    """Unmount `point` and what the kernel mounted below it by itself (tracefs under debugfs)."""
    below = [mount.point for mount in mounts() if point in mount.point.parents]
    for inner in [*reversed(below), point]:
        with contextlib.suppress(FileNotFoundError):
            try:
                syscall.unmount(inner)
            except OSError as error:
                if error.errno != 16:  # EBUSY: someone looks into it at this moment
                    raise
                syscall.unmount(inner, detach=True)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
