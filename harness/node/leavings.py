"""What somebody else's collector leaves on the machine, found and removed; for `subject_process`.

What its definition names is its own. What else appears where such programs leave things may be
somebody else's: that is told, and left alone.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from harness.linux import cgroup, mount

_PLACES = (Path("/run"), Path("/var/lib"), Path("/sys/fs/bpf"))
_OURS = "harness"  # what we make there ourselves begins so


def named(patterns: Iterable[str]) -> set[str]:
    """What is there of these patterns."""
    return {path for pattern in patterns for path in glob.glob(pattern)}


def around() -> set[str]:
    """What lies in /run, /var/lib and the BPF file system, and the cgroups at the top; not ours."""
    return {str(path) for place in _places() for path in _entries(place)}


def remove(path: Path) -> bool:
    """A file, a folder with all that is in it, or a cgroup with its processes; whether it is gone.

    A folder in which something is mounted stays: what is in that may be of the whole machine.
    """
    with contextlib.suppress(OSError):  # what is still there is told
        # not Path.exists: a BPF file system refuses to look for a name with a dot in it
        if os.path.exists(path / "cgroup.procs"):
            cgroup.remove(path)
        elif not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
        elif not _holds_mount(path.resolve()):
            shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _holds_mount(folder: Path) -> bool:
    """Whether something is mounted at a folder or below it."""
    points = (each.point for each in mount.mounts())
    return any(folder == point or folder in point.parents for point in points)


def told(name: str, appeared: Collection[str]) -> str:
    """A sentence on what appeared meanwhile and nobody named."""
    return (
        f"While {name} was there, {', '.join(sorted(appeared))} appeared, which its definition "
        "does not name: it was left alone. If it is of that program, name it in `leaves`."
    )


def _places() -> Iterator[Path]:
    yield from _PLACES
    if (root := mount.find("cgroup2")) is not None:
        yield root


def _entries(place: Path) -> Iterator[Path]:
    try:
        yield from (path for path in place.iterdir() if not path.name.startswith(_OURS))
    except OSError:  # it is not there, or goes
        return
