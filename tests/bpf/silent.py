"""A file system that never answers, made by FUSE; for tests of `guard` and `profile`.

The kernel asks its maker over /dev/fuse, and here nobody reads that. Whoever waits goes on with an
error when it is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_IN = struct.Struct("=IIQQIIII")  # struct fuse_in_header
_OUT = struct.Struct("=IiQ")  # struct fuse_out_header
_INIT_OUT = struct.Struct("=IIIIHHIIHHI7I")
_MAJOR, _MINOR = 7, 31
_DETACH = 2  # MNT_DETACH
_C = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Callable[[], None]]:
    """Mount it there; whoever calls what is given ends it before the end."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if _C.mount(b"silent", os.fsencode(folder), b"fuse", 0, options.encode()):
        os.close(device)
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _agree(device)
    left = [device]

    def end() -> None:
        if left:
            os.close(left.pop())
            _C.umount2(os.fsencode(folder), _DETACH)

    try:
        yield end
    finally:
        end()


def _agree(device: int) -> None:
    """Answer the first question, by which it begins; no other."""
    _, _, number, *_ = _IN.unpack_from(os.read(device, 1 << 17))
    said = _INIT_OUT.pack(_MAJOR, _MINOR, 0, 0, 1, 1, 4096, 1, 1, 0, 0, *[0] * 7)
    os.write(device, _OUT.pack(_OUT.size + len(said), 0, number) + said)
