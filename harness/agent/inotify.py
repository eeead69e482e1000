"""Which folders come and go, told by inotify; used by `containers`."""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import c_char_p, c_int, c_uint32
from pathlib import Path
from typing import NamedTuple

from harness.agent.errors import AgentError

_CREATE, _DELETE, _ISDIR, _ONLYDIR = 0x100, 0x200, 0x40000000, 0x01000000
_OVERFLOW, _IGNORED = 0x4000, 0x8000
_EVENT = struct.Struct("=iIII")  # struct inotify_event, before its name
_READ_BYTES = 65536

_C = ctypes.CDLL(None, use_errno=True)
_C.inotify_add_watch.argtypes = (c_int, c_char_p, c_uint32)


class Change(NamedTuple):
    """A folder `name` came below what `watch` is on, or went (`made` is False)."""

    watch: int
    name: str
    made: bool


class Inotify:
    """Watches on folders; AgentError where the kernel has none left to give."""

    def __init__(self) -> None:
        self.fd = _C.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise AgentError(
                "Folders cannot be watched.",
                f"inotify says: {os.strerror(ctypes.get_errno())}.",
                "Raise fs.inotify.max_user_instances.",
            )
        self.overflowed = False

    def watch(self, folder: Path) -> int | None:
        """The watch on a folder, a new one or the one that there is; None if it is gone."""
        number = _C.inotify_add_watch(self.fd, os.fsencode(folder), _CREATE | _DELETE | _ONLYDIR)
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

    def read(self) -> list[Change]:
        """What happened to folders since, without waiting; `overflowed` if not all is told."""
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
            if mask & _ISDIR and mask & (_CREATE | _DELETE):
                changes.append(Change(watch, name, bool(mask & _CREATE)))
        return changes

    def close(self) -> None:
        """Give up all watches."""
        os.close(self.fd)
