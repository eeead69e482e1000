"""What the kernel calls by bytes, as text that can be sent on; used wherever names are read.

A process may call itself anything, and the kernel cuts its name at 15 bytes, in the middle of a
character if that is there. Paths, mount points and cgroups are bytes without `/` or NUL.
"""

from __future__ import annotations

import os


def text(raw: bytes | str) -> str:
    """Bytes, or what os.readlink and glob made of bytes; U+FFFD stands for what is no UTF-8."""
    return os.fsencode(raw).decode(errors="replace")
