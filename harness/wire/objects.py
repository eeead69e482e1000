"""Where the collectors' BPF objects are, and whether they are of their sources.

The agent loads them; `harness.node.doctor` and `harness.targets.bundle` look at them first.
"""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
SUFFIX = ".bpf.o"
LIBRARY = "dataplane.so"
"""Beside them: what the agent itself does faster in C, and does without where it is missing."""
SUMS = ".sha256"
"""After an object's name: beside it are the sums of all that it was made of (bpf/Makefile)."""


def folder(root: Path = _ROOT) -> Path:
    """What was built here or copied to this host; else what a wheel has for this processor."""
    built = root / "bpf" / ".output"
    if built.is_dir() or _has_sources(root):
        return built
    return root / "harness" / "agent" / "objects" / os.uname().machine


def built(root: Path = _ROOT) -> list[Path]:
    """What there is of it here, for this processor."""
    return sorted(path for path in folder(root).glob("*") if path.name.endswith((SUFFIX, LIBRARY)))


def outdated(root: Path = _ROOT) -> list[str]:
    """Collectors whose object is missing or of other sources than a checkout has; else none."""
    if not _has_sources(root):
        return []
    sources = (root / "bpf").glob("*.bpf.c")
    objects = {path.name.removesuffix(".bpf.c") + SUFFIX for path in sources}
    if (root / "bpf" / "dataplane.c").exists():
        objects.add(LIBRARY)
    lacking = (name for name in objects if not _of_sources(folder(root) / name, root))
    return sorted(name.removesuffix(SUFFIX) for name in lacking)


def _has_sources(root: Path) -> bool:
    return (root / "bpf" / "Makefile").exists()


def _of_sources(path: Path, root: Path) -> bool:
    import hashlib  # which an agent never needs

    try:
        told = path.with_name(path.name + SUMS).read_text().splitlines()
        pairs = [line.split(maxsplit=1) for line in told]
        return path.exists() and all(
            hashlib.sha256((root / "bpf" / name).read_bytes()).hexdigest() == known
            for known, name in pairs
        )
    except (OSError, ValueError):
        return False
