"""Files that say whether their owner lives: it holds a lock on them, which goes with its process.

A lock (flock) is the same seen from every PID namespace, and never that of a stranger who was given
the number of a process that died. The undo journal and the note of the stack's CPUs are kept so.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def write(path: Path, text: str) -> int:
    """Put `text` at `path`, on the disk and whole or not at all, locked by this process.

    Returns the descriptor that holds the lock: closing it gives the file up. Whoever writes the
    same path at the same time must be kept out by the caller. OSError if it cannot be written; what
    was there before then stays.
    """
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before anybody can see it
        with open(descriptor, "w", closefd=False) as stream:
            stream.write(text)
        os.fsync(descriptor)
        draft.rename(path)
        _sync(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path) -> tuple[str, bool]:
    """What `path` says, and whether its owner lives; FileNotFoundError if it is gone."""
    while True:
        with path.open() as stream:
            text, owned = stream.read(), _is_locked(stream.fileno())
            if owned or os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return text, owned
        # its owner wrote it anew since it was opened


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: readers are no owners
    except BlockingIOError:
        return True
    return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
