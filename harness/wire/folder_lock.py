"""Locks on a folder itself, without a file; for `results.folder`, `subject_source`, `undo_journal`.

The lock is the kernel's (flock): it ends with its holder. On a file system that has no such locks
nothing is held, and whoever asks goes on as if alone.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import time
from pathlib import Path

_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_AGAIN_SECONDS = 0.2
_TRIES = 1000  # to open what another one removes each time


def take(descriptor: int, *, waits: bool = False) -> bool:
    """Lock what is open there until it is closed; False if another one holds it.

    OSError if it cannot be locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def open_locked(folder: Path, seconds: float = math.inf) -> int:
    """A descriptor of the folder, made if there is none, that holds its lock until it is closed.

    Its holder may remove the folder: who waited then makes a new one. TimeoutError if another one
    holds it for so long, OSError if it cannot be made, opened or locked.
    """
    deadline = time.monotonic() + seconds
    while True:
        descriptor = _opened(folder)
        try:
            _await(descriptor, deadline)
            if _is_of(descriptor, folder):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed while we waited


def _opened(folder: Path) -> int:
    for _ in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileExistsError, FileNotFoundError) as error:
            refused = error  # its last holder removes it at this moment, or something else is there
    raise refused


def _await(descriptor: int, deadline: float) -> None:
    """Hold the lock; TimeoutError if another one holds it until then."""
    waits = math.isinf(deadline)  # then the kernel wakes us
    while not take(descriptor, waits=waits):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_AGAIN_SECONDS)


def _is_of(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
