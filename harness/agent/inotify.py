"""What comes to folders and goes, told by inotify; used by `containers` and `folders`."""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import c_char_p, c_int, c_uint32
from pathlib import Path
from typing import NamedTuple

from harness.agent.errors import AgentError

MOVED_TO = 0x80
_CREATE, _DELETE, _ISDIR, _ONLYDIR = 0x100, 0x200, 0x40000000, 0x01000000
_OVERFLOW = 0x4000
_EVENT = struct.Struct("=iIII")  # struct inotify_event, before its name
_READ_BYTES = 65536

_C = ctypes.CDLL(None, use_errno=True)
_C.inotify_add_watch.argtypes = (c_int, c_char_p, c_uint32)


class Change(NamedTuple):
    """`name` came below what `watch` is on, or went (`made` is False)."""

    watch: int
    name: str
    made: bool
    mask: int = _CREATE


class Inotify:
    """Watches on folders, for folders that come and go in them, or with `files` for all that comes.

    AgentError where the kernel has none left to give.
    """

    def __init__(self, *, files: bool = False) -> None:
        self.fd = _C.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise AgentError(
                "Folders cannot be watched.",
                f"inotify says: {os.strerror(ctypes.get_errno())}.",
                "Raise fs.inotify.max_user_instances.",
            )
        self.overflowed = False
        self._files = files
        self._mask = _CREATE | (MOVED_TO if files else _DELETE)

    def watch(self, folder: Path) -> int | None:
        """The watch on a folder, a new one or the one that there is; None if it is gone."""
        number = _C.inotify_add_watch(self.fd, os.fsencode(folder), self._mask | _ONLYDIR)
        if number >= 0:
            return int(number)
        error = ctypes.get_errno()
        if not folder.is_dir():
            return None
        raise AgentError(
            f"The folder {folder} cannot be watched.",
            f"inotify says: {os.strerror(error)}.",
            "Raise fs.inotify.max_user_watches.",
        )

    def forget(self, watch: int) -> None:
        """Watch that folder no more; harmless if it is gone."""
        _C.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Change]:
        """What happened since, without waiting; `overflowed` if not all is told."""
        try:
            content = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        changes, at = [], 0
        while at < len(content):
            watch, mask, _, length = _EVENT.unpack_from(content, at)
            at += _EVENT.size
            name = os.fsdecode(content[at : at + length].rstrip(b"\0"))
            at += length
            self.overflowed |= bool(mask & _OVERFLOW)
            if (mask & _ISDIR or self._files) and mask & (_CREATE | _DELETE | MOVED_TO):
                changes.append(Change(watch, name, not mask & _DELETE, mask))
        return changes

    def close(self) -> None:
        """Give up all watches."""
        os.close(self.fd)
