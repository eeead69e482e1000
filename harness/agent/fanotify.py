"""Who opens certain files, told by fanotify marks on exactly these; used by opens and answerer.

group = Group(asks=False)     # told afterwards; Group(asks=True): openers wait for `answer`
group.mark("/etc/shadow")
for opened in group.read(): ...
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from ctypes import c_char_p, c_int, c_uint, c_uint64
from typing import NamedTuple

from harness.agent.errors import AgentError
from harness.agent.text import text

_FAN_CLOEXEC, _FAN_NONBLOCK, _FAN_CLASS_CONTENT = 0x1, 0x2, 0x4
_FAN_MARK_ADD, _FAN_MARK_FLUSH = 0x1, 0x80
_FAN_OPEN, _FAN_OPEN_PERM, _FAN_Q_OVERFLOW = 0x20, 0x10000, 0x4000
_FAN_ALLOW, _FAN_DENY = 1, 2
_AT_FDCWD = -100
_EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_RESPONSE = struct.Struct("=iI")
# the kernel opens each file again for its reader, who must not wait, as for the writer of a FIFO
_REOPENED = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

_C = ctypes.CDLL(None, use_errno=True)
_C.fanotify_init.argtypes = (c_uint, c_uint)
_C.fanotify_mark.argtypes = (c_int, c_uint, c_uint64, c_int, c_char_p)

File = tuple[int, int]  # device and inode


class Opened(NamedTuple):
    """A file that `pid` opened, or waits to open: then it is answered by `number`."""

    pid: int
    file: File
    path: str
    number: int


class Group:
    """Marks that are removed together, and their events. AgentError where the kernel has none."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self._mask = _FAN_OPEN_PERM if asks else _FAN_OPEN
        kind = _FAN_CLASS_CONTENT if asks else 0
        self.fd = _C.fanotify_init(_FAN_CLOEXEC | _FAN_NONBLOCK | kind, _REOPENED)
        if self.fd < 0:
            raise AgentError(
                "Opened files cannot be watched.",
                f"fanotify says: {os.strerror(ctypes.get_errno())}.",
                "Run it as root, or leave the open rules out of the policy.",
            )
        self.lost = 0
        self.unanswered = 0  # openers of an asking group that were read

    def mark(self, path: str) -> File | None:
        """Watch a file; its device and inode, or None if it is not there.

        A group that asks takes regular files only: an opener is refused what the kernel cannot
        open for the group's reader, and opening a device does something.
        """
        with contextlib.suppress(OSError):
            if self._asks and not stat.S_ISREG(os.stat(path).st_mode):
                return None
            name = os.fsencode(path)
            if not _C.fanotify_mark(self.fd, _FAN_MARK_ADD, self._mask, _AT_FDCWD, name):
                return _identity(os.stat(path))
        return None

    def unmark(self) -> None:
        """Watch nothing; what was opened before can still be read."""
        _C.fanotify_mark(self.fd, _FAN_MARK_FLUSH, 0, _AT_FDCWD, None)

    def read(self, most: int = 64) -> list[Opened]:
        """What waits, the oldest first, without blocking; answer all before reading again."""
        try:
            content = os.read(self.fd, most * _EVENT.size)
        except BlockingIOError:
            return []
        events = list(_EVENT.iter_unpack(content))
        self.unanswered += len(events) if self._asks else 0
        try:
            self.lost += sum(bool(mask & _FAN_Q_OVERFLOW) for *_, mask, _, _ in events)
            return [_opened(fd, pid) for *_, fd, pid in events if fd >= 0]
        finally:
            for *_, fd, _ in events:
                if fd >= 0:
                    os.close(fd)

    def answer(self, opened: Opened, *, allow: bool) -> None:
        """Let the opener of an asking group go on, or fail with EPERM."""
        # the kernel knows it by the number that its descriptor had, open or not
        with contextlib.suppress(FileNotFoundError):  # the opener was killed
            os.write(self.fd, _RESPONSE.pack(opened.number, _FAN_ALLOW if allow else _FAN_DENY))
        self.unanswered -= 1

    def close(self) -> None:
        """Remove the marks; whoever waits goes on."""
        os.close(self.fd)


def _opened(fd: int, pid: int) -> Opened:
    return Opened(pid, _identity(os.fstat(fd)), text(os.readlink(f"/proc/self/fd/{fd}")), fd)


def _identity(status: os.stat_result) -> File:
    return status.st_dev, status.st_ino
