"""Mounts what a run needs and this machine lacks, noted in the journal first; for `Machine`."""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.errors import NeedError
from harness.linux import mount, syscall
from harness.linux.undo_journal import Entry, Journal


def complete(journal: Journal, entry: Entry) -> Path:
    """Mount what is missing; where cgroup v2 is. The journal is to be locked.

    NeedError if there is no cgroup v2; collectors that need the others say so themselves.
    """
    for fstype, point in mount.POINTS.items():
        with contextlib.suppress(OSError):
            _mount(journal, entry, fstype, point)
    root, own = mount.find("cgroup2"), journal.directory / "cgroup2"
    if root is not None and root != own:
        return root
    try:
        own.mkdir(exist_ok=True)
        _mount(journal, entry, "cgroup2", own)
    except OSError as error:
        raise NeedError(
            f"cgroup v2 cannot be mounted: {error.strerror}.",
            "The CPU time of the workload and the collectors is read from it.",
            "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified.",
        ) from error
    return own


def _mount(journal: Journal, entry: Entry, fstype: str, point: Path) -> None:
    if mount.is_mounted(point):
        if any(str(point) in other.mounts for other in journal.entries()):
            entry.mounts.append(str(point))  # another run's: whoever ends last unmounts it
            journal.write(entry)
        return
    entry.mounts.append(str(point))
    journal.write(entry)
    syscall.mount(fstype, point)
