"""The roots that processes of a cgroup see, and paths in them; used by `files`, `policy_maps`.

A link leads where it leads in its own root: /bin/sh is one program on this machine, and another
one in a container. The kernel half knows files by the path from the root of a mount namespace.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import fnmatch
import glob
import os
import struct
from collections.abc import Callable, Iterator
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from pathlib import Path

from harness.agent import cgroup

_OPENAT2 = 437  # on every architecture
_HOW = struct.Struct("=QQQ")  # struct open_how
_IN_ROOT = 0x10 | 0x02  # RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
_PATH = os.O_PATH | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_AT_FDCWD, _DONT_SYNC = -100, 0x4000
_STATX_BYTES, _STATX_INO, _STATX_INO_AT = 256, 0x100, 32  # struct statx

_C = ctypes.CDLL(None, use_errno=True)
_C.statx.argtypes = (c_int, c_char_p, c_int, c_uint, c_void_p)

Identity = tuple[int, ...]


class Root:
    """An open root; it is not kept open, for nothing could be unmounted there."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._descriptor = os.open(f"{place}/", os.O_DIRECTORY | _PATH)
        self._own = _name(self._descriptor).rstrip("/")

    def real(self, path: str) -> str:
        """What the kernel knows it by, all links followed; what is not there is as written."""
        head, tail = path, ""
        while (found := self._followed(head or "/")) is None:
            if not head:  # the root itself is gone
                return self._own + path
            head, _, name = head.rpartition("/")
            tail = f"/{name}{tail}"
        return (found.rstrip("/") + tail) or "/"

    def reached(self, real: str) -> str:
        """Where this process finds what the kernel knows by this path, without any link."""
        return self._place + real.removeprefix(self._own)

    def expanded(self, pattern: str) -> Iterator[str]:
        """The paths that a pattern with `*`, `?` or `[` stands for, as this root has them."""
        heads = [""]
        for part in pattern.strip("/").split("/"):
            if glob.has_magic(part):
                found = [(head, fnmatch.filter(self._names(head), part)) for head in heads]
                heads = [f"{head}/{name}" for head, names in found for name in names]
            else:
                heads = [f"{head}/{part}" for head in heads]
        yield from heads

    def is_file(self, reached: str) -> bool:
        """Whether there is one where this process reaches it."""
        return os.path.isfile(reached)

    def is_folder(self, reached: str) -> bool:
        """Whether there is one where this process reaches it."""
        return os.path.isdir(reached)

    def answers(self, reached: str) -> bool:
        """Whether its file system answers, if only that there is nothing."""
        os.path.exists(reached)
        return True

    def copy(self) -> Root:
        """The same, to be closed by itself."""
        made = copy.copy(self)
        made._descriptor = os.dup(self._descriptor)
        return made

    def close(self) -> None:
        """Let it go."""
        os.close(self._descriptor)

    def _followed(self, path: str) -> str | None:
        with contextlib.suppress(OSError):
            descriptor = _open(self._descriptor, path, _PATH)
            try:
                return _name(descriptor)
            finally:
                os.close(descriptor)
        return None

    def _names(self, folder: str) -> list[str]:
        with contextlib.suppress(OSError):
            descriptor = _open(self._descriptor, folder or "/", _FOLDER)
            try:
                return sorted(os.listdir(descriptor))
            finally:
                os.close(descriptor)
        return []


class Roots:
    """Whose roots there are: this process's own, and those of the cgroup `scope`.

    Of its processes those that `sees` takes: a pod that is not selected has no say in anything.
    """

    def __init__(self, scope: Path, sees: Callable[[int], bool] = lambda _: True) -> None:
        self._scope, self._sees = scope, sees
        self._known: dict[int, Identity | None] = {}  # by process
        self._opened: set[Identity | None] = set()
        self._again: set[int] = set()

    def came(self) -> bool:
        """Whether there is one that was not opened; of processes, only new ones are looked at.

        Of one thread at a time; `forget` is of any.
        """
        pids = [pid for pid in cgroup.pids(self._scope) if self._sees(pid)]
        again, self._again = self._again, set()
        for pid in again:
            self._known.pop(pid, None)
        self._known = {pid: self._known.get(pid) or _identity(pid) for pid in pids}
        return bool(set(self._known.values()) - self._opened)

    def forget(self, pid: int) -> None:
        """Look at this process again: it may have another root than when it came."""
        self._again.add(pid)

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[Root]]:
        """Each of them once, its own first."""
        self._known.clear()
        self.came()
        own = _identity(os.getpid())
        others = {identity: pid for pid, identity in reversed(self._known.items())}
        self._opened = {None, own, *others}
        with contextlib.ExitStack() as stack:
            found = [stack.enter_context(contextlib.closing(Root("")))]
            for pid in (pid for identity, pid in others.items() if identity not in (None, own)):
                with contextlib.suppress(OSError):  # it has ended
                    root = Root(f"/proc/{pid}/root")
                    found.append(stack.enter_context(contextlib.closing(root)))
            yield found


def _identity(pid: int) -> Identity | None:
    """The same folder may be the root of several mount namespaces, with other files in each."""
    try:
        return *_known(f"/proc/{pid}/root/"), os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:  # it has ended
        return None


def _known(path: str) -> tuple[int, ...]:
    """Device and inode of a folder as the kernel has them: its file system may not answer."""
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if _C.statx(_AT_FDCWD, os.fsencode(path), _DONT_SYNC, _STATX_INO, found):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return struct.unpack_from("=Q96xII", found, _STATX_INO_AT)


def _open(root: int, path: str, flags: int) -> int:
    """As if `root` were this process's own; OSError."""
    how = _HOW.pack(flags, 0, _IN_ROOT)
    arguments = c_int(root), c_char_p(os.fsencode(path)), c_char_p(how), c_size_t(len(how))
    descriptor = _C.syscall(c_long(_OPENAT2), *arguments)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(descriptor)


def _name(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
