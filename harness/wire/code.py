"""Which code runs: both sides of a session must be of one version; `node` and `controller` ask."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
NODE = ("agent", "linux", "load", "meters", "node", "stack", "wire")
"""The packages that a node needs, beside the modules in the package itself."""


@cache
def digest() -> str:
    """A hash of the source that a node runs, the same on every machine that has it."""
    found = hashlib.sha256()
    files = [_PACKAGE / name for name in ("__init__.py", "errors.py", "model.py")]
    files += [path for name in NODE for path in (_PACKAGE / name).rglob("*.py")]
    for path in sorted(files):
        found.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]
