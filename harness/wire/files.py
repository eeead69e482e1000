"""Files that are written whole or not at all; for the run directory, reports, load and agents.

Only the standard library is imported, because a resident agent pays for every import.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole(path: Path, *, lasting: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which appears under its name when the block ends without an error.

    Until then a reader sees what was there before. With `lasting` it is on the disk when the block
    has ended, and survives a loss of power. OSError where it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with draft.open("wb") as out:
            yield out
            if lasting:
                out.flush()
                os.fsync(out.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    if lasting:
        _sync(path.parent)


def write_whole(path: Path, data: str | bytes, *, lasting: bool = False) -> None:
    """Write a file as `whole` does."""
    with whole(path, lasting=lasting) as out:
        out.write(data.encode() if isinstance(data, str) else data)


def is_full(number: int | None) -> bool:
    """Whether an OSError of this errno says that a disk is full, or a quota used up."""
    return number in (errno.ENOSPC, errno.EDQUOT)


def _sync(folder: Path) -> None:
    """The file's name is on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
