"""Where the locustfile of a block is on this node; for `block` and `driving`."""

from __future__ import annotations

from pathlib import Path

from harness.node import service
from harness.wire.spec import Locustfile


def placed(told: Locustfile | None, file: Path) -> Path | None:
    """Where it was, if it is the same here, since it may import others; else `file`, written."""
    if told is None:
        return None
    there = Path(service.filled(told.path))
    try:
        if there.read_text() == told.text:
            return there
    except (OSError, ValueError):
        pass
    file.write_text(told.text)
    return file
