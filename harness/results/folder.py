"""A run's folder: made whole or not at all, and written into by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.errors import StoreError
from harness.wire import folder_lock
from harness.wire.files import is_full

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which has its name when the block ends without an error.

    StoreError if there is something of that name, or it cannot be made.
    """
    if os.path.lexists(path):
        raise _exists(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        shutil.rmtree(draft, ignore_errors=True)  # of a killed process that had this number
        draft.mkdir(parents=True)
        yield draft
        draft.rename(path)  # refused where something is in a folder of that name
    except OSError as error:
        if error.errno in _TAKEN:
            raise _exists(path) from error
        raise StoreError(
            f"Cannot create {path}: {error.strerror}.",
            next_step="Name another folder by --reports.",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def writing(path: Path, again: str, kept: str = "") -> Iterator[None]:
    """Make an OSError a StoreError that says what to mend, and the command that goes on then.

    `kept` is a sentence on what is not lost.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror}.",
            kept,
            f"{'Make room' if is_full(error.errno) else 'Mend that'}, then `{again}`.",
        ) from error


def unreadable(path: Path, error: OSError) -> StoreError:
    """That this user may not read what is there."""
    return StoreError(
        f"{path} cannot be read: {error.strerror}.",
        next_step="Ask its owner, or root, to let you read it and the folders above it.",
    )


def require_readable(folder: Path) -> None:
    """StoreError if what is in this folder cannot be seen: `glob` would find nothing."""
    try:
        os.stat(folder / ".")
        os.listdir(folder)
    except PermissionError as error:
        raise unreadable(folder, error) from error
    except OSError:  # there is none
        return


def _exists(path: Path) -> StoreError:
    return StoreError(f"{path} exists already.", next_step="Name another run.")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process is in this block for the same folder; StoreError, naming it, if one is.

    The lock is that of `folder_lock`: where its file system has none nothing is held.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(
            f"Cannot open {path}: {error.strerror}.",
            next_step="`harness runs` says which there are.",
        ) from error
    try:
        try:
            is_had = folder_lock.take(descriptor)
        except OSError as error:
            raise StoreError(
                f"Cannot lock {path}: {error.strerror}.",
                next_step="Name a folder on another file system with --reports.",
            ) from error
        if not is_had:
            raise StoreError(
                f"{path} is being written by {_holder(descriptor)}.",
                "Two at once would lose each other's results.",
                "Wait until it has ended, or name another run.",
            )
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> str:
    """Who measures into this folder now, without disturbing it; empty if nobody does."""
    return next(iter(_holders(str(path.stat().st_ino))), "")


def _holder(descriptor: int) -> str:
    """Who holds the lock, as far as the kernel tells."""
    found = _holders(str(os.fstat(descriptor).st_ino))
    return found.pop() if len(found) == 1 else "another process"


def _holders(inode: str) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == inode and int(pid) > 0:
                found.add(f"process {pid}")
    return found
