"""Who opens certain files, told by fanotify marks on exactly these; used by guard.

group = Group(asks=False)     # told afterwards; Group(asks=True): openers wait for `answer`
group.mark("/etc/shadow")
for opened in group.read(): ...
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_uint, c_uint64
from dataclasses import dataclass

from harness.agent.errors import AgentError

_FAN_CLOEXEC, _FAN_NONBLOCK, _FAN_CLASS_CONTENT = 0x1, 0x2, 0x4
_FAN_MARK_ADD, _FAN_MARK_FLUSH = 0x1, 0x80
_FAN_OPEN, _FAN_OPEN_PERM, _FAN_Q_OVERFLOW = 0x20, 0x10000, 0x4000
_FAN_ALLOW, _FAN_DENY = 1, 2
_AT_FDCWD = -100
_EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_RESPONSE = struct.Struct("=iI")
_READ_BYTES = 16 * 1024

_C = ctypes.CDLL(None, use_errno=True)
_C.fanotify_init.argtypes = (c_uint, c_uint)
_C.fanotify_mark.argtypes = (c_int, c_uint, c_uint64, c_int, c_char_p)


@dataclass(frozen=True)
class Opened:
    """A file that `pid` opened, or (`fd` of an asking group) waits to open."""

    pid: int
    file: tuple[int, int]  # device and inode
    path: str
    fd: int


class Group:
    """Marks that are removed together, and their events. AgentError where the kernel has none."""

    def __init__(self, *, asks: bool) -> None:
        self._mask = _FAN_OPEN_PERM if asks else _FAN_OPEN
        kind = _FAN_CLASS_CONTENT if asks else 0
        self.fd = _C.fanotify_init(_FAN_CLOEXEC | _FAN_NONBLOCK | kind, os.O_RDONLY | os.O_CLOEXEC)
        if self.fd < 0:
            raise AgentError(
                "Opened files cannot be watched.",
                f"fanotify says: {os.strerror(ctypes.get_errno())}.",
                "Run it as root, or leave the open rules out of the policy.",
            )
        self._asks = asks
        self.lost = 0

    def mark(self, path: str) -> tuple[int, int] | None:
        """Watch a file; its device and inode, or None if it is not there."""
        code = _C.fanotify_mark(self.fd, _FAN_MARK_ADD, self._mask, _AT_FDCWD, os.fsencode(path))
        if code:
            return None
        with contextlib.suppress(OSError):
            return _identity(os.stat(path))
        return None

    def unmark(self) -> None:
        """Watch nothing; what was opened before can still be read."""
        _C.fanotify_mark(self.fd, _FAN_MARK_FLUSH, 0, _AT_FDCWD, None)

    def read(self) -> Iterator[Opened]:
        """What waits, without blocking; `fd` is open only until the next one is asked for."""
        while True:
            try:
                content = os.read(self.fd, _READ_BYTES)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    return
                raise
            for size, _, _, _, mask, fd, pid in _EVENT.iter_unpack(content):
                assert size == _EVENT.size
                if mask & _FAN_Q_OVERFLOW:
                    self.lost += 1
                if fd >= 0:
                    yield from self._opened(fd, pid)

    def answer(self, opened: Opened, *, allow: bool) -> None:
        """Let the opener of an asking group go on, or fail with EPERM."""
        os.write(self.fd, _RESPONSE.pack(opened.fd, _FAN_ALLOW if allow else _FAN_DENY))

    def close(self) -> None:
        """Remove the marks; whoever waits goes on."""
        os.close(self.fd)

    def _opened(self, fd: int, pid: int) -> Iterator[Opened]:
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
            yield Opened(pid, _identity(os.fstat(fd)), path, fd)
        finally:
            os.close(fd)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
